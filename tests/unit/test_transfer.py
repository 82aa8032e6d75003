"""What is sent, skipped and refused; and that functions carry it out over any ObjectStore."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.edges import transfer
from bridge.errors import FileChanged, SenderError, Unavailable
from bridge.store import MemoryStore, ObjectInfo
from bridge.transfer import (
    Item,
    LocalFile,
    Place,
    Refuse,
    Send,
    Skip,
    is_record,
    name_trouble,
    parse_place,
    plan_downloads,
    plan_uploads,
)

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
MD5 = hashlib.md5(b"cat", usedforsecurity=False).hexdigest()
OTHER = hashlib.md5(b"dog", usedforsecurity=False).hexdigest()


def info(key: str, size: int = 3, md5: str | None = MD5, when: datetime = NOW) -> ObjectInfo:
    return ObjectInfo(key=key, size_bytes=size, last_modified=when, md5=md5)


def file(name: str, size: int = 3, when: datetime = NOW, trouble: str = "") -> LocalFile:
    return LocalFile(name=name, size_bytes=size, modified_at=when, trouble=trouble)


def never(name: str) -> str:
    raise AssertionError("nobody need read the file")


def up(local: LocalFile, there: Mapping[str, ObjectInfo], *, force: bool = False, md5: str = MD5) -> Item:
    (item,) = plan_uploads([local], there, prefix="p/", force=force, md5_of=lambda name: md5)
    return item


def down(
    *objects: ObjectInfo, have: Mapping[str, LocalFile] | None = None, md5: str = MD5
) -> dict[str, type]:
    plan = plan_downloads(objects, have or {}, prefix="p/", md5_of=lambda name: md5)
    return {item.name: type(item) for item in plan}


@pytest.mark.parametrize(
    ("there", "md5", "expected"),
    [
        (None, MD5, Send),  # new
        (info("p/a"), MD5, Skip),  # size and checksum are right
        (info("p/a"), OTHER, Send),  # as long, another content
        (info("p/a", size=4), MD5, Send),
        (info("p/a", md5=None, when=NOW + timedelta(seconds=1)), OTHER, Skip),  # in parts, and not older
        (info("p/a", md5=None, when=NOW), MD5, Send),  # in parts, of the same second: it may be older
        (info("p/a", md5=None, when=NOW - timedelta(days=1)), MD5, Send),
    ],
)
def test_a_file_goes_up_when_it_is_not_there_as_it_is(
    there: ObjectInfo | None, md5: str, expected: type
) -> None:
    found = {} if there is None else {there.key: there}
    assert type(up(file("a"), found, md5=md5)) is expected
    assert type(up(file("a"), found, md5=md5, force=True)) is Send


def test_the_checksum_is_asked_for_only_when_the_size_is_right() -> None:
    there = {"a": info("a", size=4)}
    plan_uploads([file("a"), file("b")], there, prefix="", md5_of=never)


@pytest.mark.parametrize("name", ["a" * 1023, "bad\udcff", "ü" * 512])
def test_a_key_that_no_store_takes_is_refused(name: str) -> None:
    item = up(file(name), {})
    assert isinstance(item, Refuse)
    assert item.why


def test_the_longest_key_is_sent() -> None:
    assert isinstance(up(file("a" * 1022), {}), Send)


def test_a_protected_key_is_refused_even_by_force() -> None:
    plan = plan_uploads(
        [file("a")], {}, prefix="", force=True, md5_of=never, is_protected=lambda key: key == "a"
    )
    assert isinstance(plan[0], Refuse)


def test_a_download_skips_what_is_there_unchanged() -> None:
    assert down(info("p/a"), have={"a": file("a")}) == {"a": Skip}
    assert down(info("p/a"), have={"a": file("a")}, md5=OTHER) == {"a": Send}
    assert down(info("p/a"), have={"a": file("a", size=1)}) == {"a": Send}
    in_parts = info("p/a", md5=None)
    assert down(in_parts, have={"a": file("a", when=NOW + timedelta(seconds=1))}) == {"a": Skip}
    assert down(in_parts, have={"a": file("a", when=NOW)}) == {"a": Send}


def test_a_name_that_is_a_file_and_a_folder_is_refused_and_what_is_in_the_folder_comes() -> None:
    found = down(info("p/a"), info("p/a/b"), info("p/ab"))
    assert found == {"a": Refuse, "a/b": Send, "ab": Send}


def test_the_marker_of_a_folder_is_skipped() -> None:
    assert down(info("p/", 0), info("p/a/", 0), info("p/a/b")) == {"": Skip, "a/": Skip, "a/b": Send}


@given(st.text(st.sampled_from("ab./\0\\ü"), max_size=12))
def test_no_name_that_is_taken_leaves_the_folder(name: str) -> None:
    if name_trouble(name) == "":
        path = posixpath.normpath(posixpath.join("/target", name))
        assert path.startswith("/target/")
        assert path == f"/target/{name}"


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "a//b", "./a", "..", ".", "a/"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    assert name_trouble(name)


def test_a_place_is_read_and_its_folder_ends_at_a_slash() -> None:
    assert parse_place("s3://b") == Place(bucket="b")
    assert parse_place("s3://b/").folder == ""
    assert parse_place("s3://b/images").folder == "images/"
    assert parse_place("s3://b/images/").folder == "images/"
    for wrong in ("b/images", "http://b/images", "s3://", "s3:///x", "s3://b//x"):
        with pytest.raises(SenderError, match="s3://bucket"):
            parse_place(wrong)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("team-a/projects/3.1795312966/log/x", True),
        ("team-a/projects/anything", True),  # below our own prefix
        ("other/projects/3.1795312966/log/x", True),  # another installation's, by its look
        ("projects/3.1795312966/media/x", True),
        ("images/projects/holiday.jpg", False),
        ("team-a/images/cat.jpg", False),
    ],
)
def test_the_record_is_known_by_its_prefix_and_by_its_look(key: str, expected: bool) -> None:
    assert is_record(key, "labels", "labels", "team-a") is expected


# --- carried out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a").write_bytes(b"a")
    (tmp_path / "in" / "sub" / "b").write_bytes(b"bb")
    return tmp_path / "in"


def test_a_folder_goes_up_and_down_over_any_store(folder: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    report = transfer.upload(store, folder, "p/")
    assert [item.key for item in report.sent] == ["p/a", "p/sub/b"]
    assert report.sent_bytes == 3
    assert len(transfer.upload(store, folder, "p/").skipped) == 2
    assert transfer.download(store, "p/", tmp_path / "out").ok
    assert (tmp_path / "out" / "sub" / "b").read_bytes() == b"bb"


def test_a_dry_run_tells_the_plan_and_sends_nothing(folder: Path) -> None:
    store = MemoryStore()
    report = transfer.upload(store, folder, dry_run=True)
    assert (len(report.sent), report.dry_run, list(store.keys())) == (2, True, [])


class Changing(MemoryStore):
    """A file changes while it is sent, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def upload(self, key: str, path: Path, **more: object) -> None:  # type: ignore[override]
        super().upload(key, path)
        if path.name == "a" and self.times:
            self.times -= 1
            raise FileChanged(f"{path} changed while it was sent")


def test_a_file_that_changes_while_it_is_sent_is_sent_again(folder: Path) -> None:
    store = Changing(2)
    assert transfer.upload(store, folder).ok
    assert store.get("a") == b"a"


def test_a_file_that_never_holds_still_is_not_left_torn_in_the_store(folder: Path) -> None:
    store = Changing(99)
    report = transfer.upload(store, folder)
    assert [bad.name for bad in report.failed] == ["a"]
    assert "changed while it was sent" in report.failed[0].why
    assert [one.key for one in store.keys()] == ["sub/b"]  # noqa: SIM118


def test_a_store_that_is_gone_is_not_asked_for_each_of_many_files(tmp_path: Path) -> None:
    class Down(MemoryStore):
        asked = 0

        def upload(self, key: str, path: Path, **more: object) -> None:  # type: ignore[override]
            self.asked += 1
            raise Unavailable("no answer")

    for number in range(200):
        (tmp_path / str(number)).write_bytes(b"x")
    store = Down()
    report = transfer.upload(store, tmp_path)
    assert len(report.failed) == 200
    assert store.asked < 50
    assert "no answer" in report.failed[-1].why


def test_our_own_partial_downloads_are_never_sent(folder: Path) -> None:
    (folder / ".download-0123456789abcdef.partial").write_bytes(b"half")
    assert [item.name for item in transfer.upload(MemoryStore(), folder).sent] == ["a", "sub/b"]


def test_every_byte_is_told_to_the_progress(folder: Path) -> None:
    class Heard:
        total = files = moved_bytes = done = 0

        def start(self, files: int, size_bytes: int) -> None:
            self.files, self.total = files, size_bytes

        def moved(self, size_bytes: int) -> None:
            self.moved_bytes += size_bytes

        def finished(self, item: Item, why: str) -> None:
            self.done += 1

    heard = Heard()
    transfer.upload(MemoryStore(), folder, progress=heard)
    assert (heard.files, heard.total, heard.moved_bytes, heard.done) == (2, 3, 3, 2)
