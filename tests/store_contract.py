"""What every ObjectStore promises (bridge/store.py), as tests to inherit: a subclass's module has the fixture
`small_pages`, an empty store that lists two keys a page."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.errors import NotFound
from bridge.store import ObjectStore


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
