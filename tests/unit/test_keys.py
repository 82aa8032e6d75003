"""The bucket layout: every key is read back into the fields it was made of."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.keys import (
    CurrentKey,
    EngineKey,
    Layout,
    LogKey,
    MediaKey,
    SnapshotKey,
    engine_key,
    parse_engine_key,
    project_id_of,
    project_uid,
    projects_prefix,
    safe_ext,
    uid_of_key,
)

UID = "3.1795312966"
prefixes = st.sampled_from(["", "team-a", "team-a/labels"])
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
# Thirteen digits hold until the year 2286.
positions = st.integers(min_value=0, max_value=10**13 - 1)


@given(prefixes, positions, hexes)
def test_a_log_key_is_read_back(prefix: str, position: int, sha: str) -> None:
    layout = Layout(UID, prefix)
    key = LogKey(position=position, sha=sha[:16])
    assert layout.parse_log(layout.log(key)) == key
    assert layout.log(key).startswith(layout.log_prefix)
    assert uid_of_key(layout.log(key), prefix) == UID


@given(positions, positions, hexes)
def test_log_keys_sort_as_their_positions_do(one: int, other: int, sha: str) -> None:
    layout = Layout(UID)
    keys = [layout.log(LogKey(position=position, sha=sha[:16])) for position in (one, other)]
    assert (keys[0] < keys[1]) == (one < other)


@given(prefixes, st.integers(min_value=0), st.booleans())
def test_a_current_key_is_read_back(prefix: str, id: int, deleted: bool) -> None:
    layout = Layout(UID, prefix)
    key = CurrentKey(annotation_id=str(id), deleted=deleted)
    assert layout.parse_current(layout.current(key)) == key


@given(prefixes, hexes, st.sampled_from(["openvino-openvino_1.2", "onnx-a-b"]))
def test_the_key_of_converted_weights_is_read_back_and_belongs_to_no_project(
    prefix: str, digest: str, engine: str
) -> None:
    key = EngineKey(digest=digest, engine=engine, name="manifest.json")
    assert parse_engine_key(engine_key(key, prefix), prefix) == key
    assert uid_of_key(engine_key(key, prefix), prefix) is None
    assert parse_engine_key(engine_key(key, prefix) + "/more", prefix) is None


@given(prefixes, hexes, st.sampled_from(["", ".png", ".jpeg", ".7z"]))
def test_a_media_key_is_read_back(prefix: str, sha: str, ext: str) -> None:
    layout = Layout(UID, prefix)
    key = MediaKey(sha256=sha, ext=ext)
    assert layout.parse_media(layout.media(key)) == key


@given(prefixes, st.integers(0, 10**13 - 1), st.sampled_from(["manifest.json", "task.parquet"]))
def test_a_snapshot_key_is_read_back(prefix: str, position: int, name: str) -> None:
    layout = Layout(UID, prefix)
    key = SnapshotKey(position=position, name=name)
    assert layout.parse_snapshot(layout.snapshot(key)) == key


@given(st.integers(0, 10**13 - 1), st.integers(0, 10**13 - 1))
def test_a_listing_from_a_position_on_begins_there(start: int, position: int) -> None:
    layout = Layout(UID)
    comes = layout.log(LogKey(position=position, sha="0" * 16)) > layout.log_from(start)
    assert comes == (position >= start)


def test_the_layout_is_what_the_readme_shows() -> None:
    layout = Layout(UID, "team-a")
    root = f"team-a/projects/{UID}/"
    position = int(datetime(2026, 11, 22, 6, 4, tzinfo=UTC).timestamp() * 1000)
    sha = "0123456789abcdef"
    assert layout.log(LogKey(position=position, sha=sha)) == f"{root}log/2026/11/22/{position}-{sha}.jsonl"
    assert layout.current(CurrentKey(annotation_id="5", deleted=False)) == f"{root}current/annotations/5.json"
    assert (
        layout.current(CurrentKey(annotation_id="5", deleted=True))
        == f"{root}current/deleted/annotations/5.json"
    )
    assert layout.media(MediaKey(sha256="a" * 64, ext=".png")) == f"{root}media/{'a' * 64}.png"
    assert projects_prefix() == "projects/"


@pytest.mark.parametrize(
    "key",
    [
        "",
        f"projects/{UID}/log/2026/11/22/123-0123456789abcdef.jsonl",  # too short a position
        f"projects/{UID}/log/2026/11/22/1795312966000-0123456789abcdef.jsonl.part",
        f"projects/{UID}/snapshots/1795312966000/manifest.json",
        "projects/4.1795312966/log/2026/11/22/1795312966000-0123456789abcdef.jsonl",  # another project
        f"other/projects/{UID}/log/2026/11/22/1795312966000-0123456789abcdef.jsonl",  # another prefix
    ],
)
def test_what_is_no_key_of_this_project_is_none(key: str) -> None:
    layout = Layout(UID)
    assert layout.parse_log(key) is None
    assert layout.parse_current(key) is None
    assert layout.parse_media(key) is None


def test_an_uid_is_id_and_second_of_birth() -> None:
    born = datetime(2026, 11, 22, 1, 22, 46, 999999, tzinfo=UTC)
    assert project_uid(3, born) == f"3.{int(born.timestamp())}"
    assert project_id_of(project_uid(3, born)) == 3


@pytest.mark.parametrize(
    "uid", ["", "3", "3.", ".5", "../3.5", "3.5/x", "-3.5", "3.-5", "٣.٥", "3.5\n", "1" * 30 + ".5"]
)
def test_what_is_no_uid_builds_no_key(uid: str) -> None:
    with pytest.raises(ValueError, match="no project uid"):
        Layout(uid)
    assert uid_of_key(f"projects/{uid}/log/x") in (None, "3.5")


def test_keys_outside_a_project_belong_to_none() -> None:
    assert uid_of_key("images/a.png") is None
    assert uid_of_key(f"projects/{UID}/log/x", "team-a") is None


@pytest.mark.parametrize(
    ("name", "ext"),
    [
        ("a.png", ".png"),
        ("A.PNG", ".png"),
        ("archive.tar.gz", ".gz"),
        ("no-extension", ""),
        ("a.", ""),
        ("a.p/ng", ""),  # a slash would make a folder
        ("a.étoile", ""),
        ("a.averyveryverylongextension", ""),
        (".hidden", ".hidden"),
        ("/data/upload/4/cea5609f-%C3%89toile_1.PNG", ".png"),
    ],
)
def test_an_extension_is_kept_where_it_fits_a_key(name: str, ext: str) -> None:
    assert safe_ext(name) == ext
