"""Fetched images on disk: whole or not at all, never stale, never more than allowed."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from PIL import Image

from bridge.store import MemoryStore
from ml_backend.image_cache import ImageCache
from ml_backend.images import ImageLoader, Limits
from ml_backend.safety import GuardedTransport, WebRules
from tests.unit.ml_backend.helpers import image_bytes

SMALL = image_bytes(Image.new("RGB", (30, 20)), "PNG")
LARGE = image_bytes(Image.new("RGB", (60, 40)), "PNG")
URL = "http://label-studio.test"


def test_what_was_put_is_given_with_its_tag(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=10_000)
    cache.put("here", "one", b"first")
    cache.put("here", "two", b"second")
    kept = cache.get("here")
    assert kept is not None
    assert (kept.tag, kept.body) == ("two", b"second")
    assert ImageCache(tmp_path, max_bytes=10_000).get("here") == kept
    assert cache.get("elsewhere") is None


def test_the_folder_stays_below_its_size_and_loses_what_was_not_used_for_longest(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=10_000)
    for number in range(8):
        cache.put(f"{number}", "tag", b"x" * 1_000)
    for number, path in enumerate(sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)):
        os.utime(path, (1_000 + number, 1_000 + number))
    assert cache.get("0") is not None  # used: it stays longer than 1, 2, 3 …
    for number in range(100, 104):
        cache.put(f"{number}", "tag", b"y" * 1_000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000
    assert cache.get("0") is not None
    assert cache.get("103") is not None
    assert cache.get("1") is None


def test_what_another_process_wrote_counts_too(tmp_path: Path) -> None:
    ours, theirs = ImageCache(tmp_path, max_bytes=10_000), ImageCache(tmp_path, max_bytes=10_000)
    for number in range(40):
        ours.put(f"ours {number}", "tag", b"x" * 500)
        theirs.put(f"theirs {number}", "tag", b"x" * 500)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000 + 1_200


def test_a_damaged_file_is_no_picture(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=10_000)
    cache.put("here", "tag", b"a picture")
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:-1] + b"X", b"\xff\n" + whole):
        path.write_bytes(damaged)
        assert cache.get("here") is None


def test_none_is_kept_at_size_0_or_when_the_picture_is_larger_than_the_cache(tmp_path: Path) -> None:
    ImageCache(tmp_path / "none", max_bytes=0).put("here", "tag", b"a picture")
    ImageCache(tmp_path / "none", max_bytes=50).put("here", "tag", b"a picture" * 100)
    assert not (tmp_path / "none").exists()


def test_a_disk_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = ImageCache(tmp_path / "file", max_bytes=10_000)
    cache.put("here", "tag", b"a picture")
    assert cache.get("here") is None


def test_many_threads_write_and_read_whole_pictures(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=20_000)

    def work(number: int) -> bool:
        name = f"{number % 7}"
        cache.put(name, name, name.encode() * 1_000)
        kept = cache.get(name)
        return kept is None or kept.body == name.encode() * 1_000

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(300)))
    assert not list(tmp_path.glob("*.partial"))


class Site:
    """One picture at any address, with an ETag; counts whole answers and "not changed"."""

    def __init__(self, **headers: str) -> None:
        self.body, self.headers = SMALL, headers or {"ETag": '"1"'}
        self.answers: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        asked = request.headers.get("If-None-Match") or request.headers.get("If-Modified-Since")
        known = asked is not None and asked in self.headers.values()
        self.answers.append(304 if known else 200)
        return httpx.Response(304) if known else httpx.Response(200, content=self.body, headers=self.headers)


def loader(
    folder: Path,
    site: Site | None = None,
    store: MemoryStore | None = None,
    *,
    transport: httpx.BaseTransport | None = None,
) -> ImageLoader:
    return ImageLoader(
        label_studio_url=URL,
        api_key=None,
        limits=Limits(timeout_s=20, max_bytes=100_000, max_pixels=1_000_000),
        open_bucket=lambda _bucket: store or MemoryStore(),
        cache=ImageCache(folder, max_bytes=1_000_000),
        http=httpx.Client(transport=transport or httpx.MockTransport(site or Site())),
    )


@pytest.mark.parametrize(
    "headers", [{"ETag": '"1"'}, {"Last-Modified": "Sun, 22 Nov 2026 06:00:00 GMT"}], ids=["etag", "modified"]
)
def test_a_picture_of_the_web_is_transferred_once_until_it_is_another(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    site = Site(**headers)
    images = loader(tmp_path, site)
    assert [images.load(f"{URL}/a.png").width for _ in range(3)] == [30, 30, 30]
    assert site.answers == [200, 304, 304]
    site.body, site.headers = LARGE, {name: f"{value}-new" for name, value in headers.items()}
    assert images.load(f"{URL}/a.png").width == 60


def test_a_kept_picture_is_decoded_while_its_source_is_asked(tmp_path: Path) -> None:
    """The site does not answer before; a picture that has changed meanwhile is decoded as it is now."""
    small, large = (image_bytes(Image.new("RGB", size), "JPEG") for size in ((32, 16), (64, 16)))
    decoded: list[int] = []
    begun = threading.Event()

    class Waiting(Site):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            assert "If-None-Match" not in request.headers or begun.wait(20)
            return super().__call__(request)

    def reducible(width: int, height: int) -> int:
        decoded.append(width)
        begun.set()
        return 1

    site = Waiting()
    site.body = small
    images = loader(tmp_path, site)

    def width() -> int:
        begun.clear()
        return images.load(f"{URL}/a.jpg", reducible=reducible).width

    assert [width(), width()] == [32, 32]
    assert decoded == [32, 32]
    site.body, site.headers = large, {"ETag": '"2"'}
    assert width() == 64
    assert decoded == [32, 32, 32, 64]


class OneLine(httpcore.MockBackend):
    """Answers on whatever connection they are asked for on; counts the connections."""

    connections = 0

    def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        self.connections += 1
        return super().connect_tcp(*arguments, **options)


def test_a_redirect_and_a_picture_that_is_still_the_same_keep_the_connection(tmp_path: Path) -> None:
    whole = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: %d\r\n\r\n' % len(SMALL) + SMALL
    same = b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n'
    moved = b"HTTP/1.1 303 See Other\r\nLocation: /b.png\r\nContent-Length: 3\r\n\r\nnow"
    network = OneLine([moved, whole, moved, same, moved, same])
    transport = GuardedTransport(WebRules(), resolve=lambda host, port: ["8.8.8.8"], network=network)
    images = loader(tmp_path, transport=transport)
    assert [images.load(f"{URL}/a.png").width for _ in range(3)] == [30, 30, 30]
    assert network.connections == 1


def test_a_signed_address_is_the_same_picture_whatever_its_signature(tmp_path: Path) -> None:
    site = Site()
    images = loader(tmp_path, site)
    for signature in ("one", "two"):
        images.load(f"{URL}/a.png?X-Amz-Date=now&X-Amz-Signature={signature}")
    assert site.answers == [200, 304]
    images.load(f"{URL}/a.png?page=2")
    assert site.answers[-1] == 200


@pytest.mark.parametrize("headers", [{"X": "no tag"}, {"ETag": '"1"', "Cache-Control": "no-store"}], ids=str)
def test_what_cannot_be_checked_or_may_not_be_kept_is_fetched_each_time(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    site = Site(**headers)
    images = loader(tmp_path, site)
    images.load(f"{URL}/a.png")
    images.load(f"{URL}/a.png")
    assert site.answers == [200, 200]


def test_an_object_is_fetched_again_only_when_it_was_replaced(tmp_path: Path) -> None:
    store = CountingStore()
    store.put("a.png", SMALL)
    images = loader(tmp_path, Site(), store)
    assert [images.load("s3://bucket/a.png").width for _ in range(3)] == [30, 30, 30]
    assert store.got == 1
    store.put("a.png", LARGE)
    assert images.load("s3://bucket/a.png").width == 60
    assert store.got == 2


class CountingStore(MemoryStore):
    got = 0

    def get(self, key: str) -> bytes:
        self.got += 1
        return super().get(key)
