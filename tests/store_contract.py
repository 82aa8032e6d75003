"""What every ObjectStore promises (bridge/store.py), as tests to inherit: a subclass's module has the fixtures
`small_pages`, an empty store that lists two keys a page; `whole_pages`, the same bucket with usual pages; and
`thousands`: how many keys to delete at once, and how many of them to write before (None: all). What is promised of
stores behind HTTP alone is in s3_contract.py.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.errors import NotFound, Refused
from bridge.store import ObjectStore

ODD_KEYS = [
    " leading space",
    "..hidden",
    ".hidden",
    "100%",
    "a b",
    "a%20b",  # not the same as "a b"
    "a+b",
    "a//b",
    "a=b&c?d#e",
    'it\'s "quoted" \\ <&>',
    "trailing/",
    "x;y,z:@!$*()[]{}^|`~",
    "é",  # composed
    "e\u0301",  # decomposed: another key
    "日本/語.json",
    "😀",
]


class StoreContract:
    def test_what_was_put_is_read_back(self, small_pages: ObjectStore) -> None:
        small_pages.put("a/b.json", b'{"a": 1}', content_type="application/json")
        assert small_pages.get("a/b.json") == b'{"a": 1}'

    def test_an_empty_object_is_an_object(self, small_pages: ObjectStore) -> None:
        small_pages.put("empty", b"")
        assert small_pages.get("empty") == b""
        info = small_pages.head("empty")
        assert info is not None
        assert info.size_bytes == 0

    def test_a_second_put_replaces_the_first_whole(self, small_pages: ObjectStore) -> None:
        small_pages.put("a", b"a long first body")
        small_pages.put("a", b"short")
        assert small_pages.get("a") == b"short"

    def test_a_missing_object_is_not_found(self, small_pages: ObjectStore, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            small_pages.get("a")
        with pytest.raises(NotFound):
            small_pages.download("a", tmp_path / "a")
        assert not (tmp_path / "a").exists()
        assert small_pages.head("a") is None

    def test_a_head_tells_size_time_and_checksum(self, small_pages: ObjectStore) -> None:
        small_pages.put("a", b"12345")
        info = small_pages.head("a")
        assert info is not None
        assert (info.key, info.size_bytes) == ("a", 5)
        assert info.md5 == hashlib.md5(b"12345", usedforsecurity=False).hexdigest()
        assert abs(datetime.now(UTC) - info.last_modified) < timedelta(minutes=1)

    def test_a_listing_goes_past_its_first_page(self, small_pages: ObjectStore) -> None:
        names = [f"log/{number:02d}" for number in range(7)]
        for name in reversed(names):
            small_pages.put(name, b"x")
        assert [info.key for info in small_pages.keys("log/")] == names
        assert [info.size_bytes for info in small_pages.keys("log/")] == [1] * 7

    def test_a_listing_holds_the_keys_under_its_prefix_only(self, small_pages: ObjectStore) -> None:
        for name in ("log", "log/1", "log/2/3", "logs/1", "lo"):
            small_pages.put(name, b"x")
        assert [info.key for info in small_pages.keys("log/")] == ["log/1", "log/2/3"]
        assert len(list(small_pages.keys())) == 5
        assert list(small_pages.keys("nothing/")) == []

    def test_a_listing_starts_after_a_key_that_need_not_exist(self, small_pages: ObjectStore) -> None:
        for name in ("log/1", "log/2", "log/3", "log/4"):
            small_pages.put(name, b"x")
        assert [info.key for info in small_pages.keys("log/", start_after="log/2")] == ["log/3", "log/4"]
        assert [info.key for info in small_pages.keys("log/", start_after="log/25")] == ["log/3", "log/4"]
        assert list(small_pages.keys("log/", start_after="log/4")) == []

    def test_keys_come_in_the_order_of_their_bytes(self, small_pages: ObjectStore) -> None:
        names = ["Z", "a", "a b", "a+b", "a/b", "étoile", "é", "~"]
        for name in names:
            small_pages.put(name, b"x")
        assert [info.key for info in small_pages.keys("")] == sorted(names, key=str.encode)
        assert small_pages.get("étoile") == b"x"

    def test_a_deleted_object_is_gone_and_deleting_it_again_is_no_error(
        self, small_pages: ObjectStore
    ) -> None:
        small_pages.put("a", b"x")
        small_pages.delete("a")
        small_pages.delete("a")
        assert small_pages.head("a") is None

    def test_a_file_goes_up_and_comes_down(self, small_pages: ObjectStore, tmp_path: Path) -> None:
        up, down = tmp_path / "up", tmp_path / "down"
        up.write_bytes(bytes(range(256)) * 1000)
        small_pages.upload("media/file", up, content_type="image/png")
        small_pages.download("media/file", down)
        assert down.read_bytes() == up.read_bytes()
        assert [path.name for path in sorted(tmp_path.iterdir())] == ["down", "up"]

    def test_odd_keys_are_kept_as_they_are(self, small_pages: ObjectStore) -> None:
        for key in ODD_KEYS:
            small_pages.put(key, key.encode())
        in_order = sorted(ODD_KEYS, key=str.encode)
        assert [info.key for info in small_pages.keys("")] == in_order
        for key in ODD_KEYS:
            assert small_pages.get(key) == key.encode()
            assert small_pages.head(key) is not None
        assert [info.key for info in small_pages.keys(start_after=in_order[4])] == in_order[5:]
        assert [info.key for info in small_pages.keys("a+")] == ["a+b"]
        small_pages.delete("a b")
        assert small_pages.get("a%20b") == b"a%20b"
        assert small_pages.delete_many(ODD_KEYS) == {}
        assert list(small_pages.keys()) == []

    def test_a_key_of_1024_bytes_is_taken_and_a_longer_or_empty_one_refused(
        self, small_pages: ObjectStore
    ) -> None:
        longest = "é" * 512
        small_pages.put(longest, b"x")
        assert [info.key for info in small_pages.keys("")] == [longest]
        with pytest.raises(Refused, match=r"1026 bytes.*at most 1024"):
            small_pages.put(longest + "é", b"x")
        with pytest.raises(Refused, match="needs a key"):
            small_pages.put("", b"x")

    def test_a_range_is_read_and_ends_with_the_object(self, small_pages: ObjectStore) -> None:
        small_pages.put("a", b"0123456789")
        small_pages.put("empty", b"")
        assert small_pages.get_range("a", 0, 3) == b"012"
        assert small_pages.get_range("a", 7, 100) == b"789"
        assert small_pages.get_range("a", 9, 1) == b"9"
        assert small_pages.get_range("a", 10, 5) == b""
        assert small_pages.get_range("a", 3, 0) == b""
        assert small_pages.get_range("empty", 0, 5) == b""
        with pytest.raises(NotFound):
            small_pages.get_range("nothing", 0, 1)

    def test_a_write_is_seen_by_the_next_read(self, small_pages: ObjectStore) -> None:
        for number in range(10):
            body = str(number).encode() * (number + 1)
            small_pages.put("a", body)
            info = small_pages.head("a")
            assert info is not None
            assert info.size_bytes == len(body)
            assert small_pages.get("a") == body
            assert [(one.key, one.size_bytes) for one in small_pages.keys("")] == [("a", len(body))]

    def test_of_concurrent_writers_of_one_key_one_wins_whole(self, small_pages: ObjectStore) -> None:
        bodies = [bytes([number]) * (50_000 + number) for number in range(8)]
        with ThreadPoolExecutor(len(bodies)) as threads:
            list(threads.map(lambda body: small_pages.put("a", body), bodies))
        assert small_pages.get("a") in bodies
        assert len(list(small_pages.keys())) == 1

    def test_who_reads_while_it_is_replaced_or_deleted_gets_one_whole_or_nothing(
        self, small_pages: ObjectStore
    ) -> None:
        bodies = [bytes([number]) * (300_000 + number) for number in (1, 2)]
        small_pages.put("a", bodies[0])

        def read() -> bytes | None:
            try:
                return small_pages.get("a")
            except NotFound:
                return None

        def write() -> None:
            for number in range(1, 7):
                small_pages.put("a", bodies[number % 2])
            small_pages.delete("a")

        with ThreadPoolExecutor(3) as threads:
            writing = threads.submit(write)
            found = []
            while not writing.done():
                found += [one.result() for one in (threads.submit(read), threads.submit(read))]
            writing.result()
        assert set(found) <= {*bodies, None}
        assert read() is None

    def test_thousands_are_deleted_at_once(
        self, whole_pages: ObjectStore, thousands: tuple[int, int | None]
    ) -> None:
        total, written = thousands
        names = [f"many/{number:05d}" for number in range(total)]
        step = total // written if written else 1
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda name: whole_pages.put(name, b"x"), names[::step]))
        whole_pages.put("manyfold", b"stays")
        assert whole_pages.delete_many(iter(names)) == {}
        assert [info.key for info in whole_pages.keys("")] == ["manyfold"]
        assert whole_pages.delete_many([]) == {}

    def test_progress_adds_up_to_the_size(self, small_pages: ObjectStore, tmp_path: Path) -> None:
        (tmp_path / "up").write_bytes(b"x" * 700_000)
        up: list[int] = []
        down: list[int] = []
        small_pages.upload("a", tmp_path / "up", progress=up.append)
        small_pages.download("a", tmp_path / "down", progress=down.append)
        assert sum(up) == sum(down) == 700_000

    def test_a_file_that_is_not_there_is_not_sent(self, small_pages: ObjectStore, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            small_pages.upload("a", tmp_path / "nothing")
        assert small_pages.head("a") is None

    def test_a_download_that_cannot_be_written_leaves_nothing(
        self, small_pages: ObjectStore, tmp_path: Path
    ) -> None:
        small_pages.put("a", b"x")
        (tmp_path / "down").mkdir()
        with pytest.raises(OSError):  # noqa: PT011 - which one differs between systems
            small_pages.download("a", tmp_path / "down")
        assert [path.name for path in tmp_path.iterdir()] == ["down"]
