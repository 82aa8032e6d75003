"""Web servers that answer slowly, never, or with far more than they say. The network is a fake one, and so is its clock."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any

import httpcore
import httpx
import pytest
from PIL import Image

from bridge.store import MemoryStore
from ml_backend.images import ImageLoader, Limits
from ml_backend.problems import TaskProblem
from ml_backend.safety import GuardedTransport, WebRules
from tests.unit.ml_backend.helpers import image_bytes

LIMIT_S = 20.0
PICTURE = image_bytes(Image.new("RGB", (30, 20)), "PNG")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Slowly(httpcore.NetworkStream):
    """A byte a second. Nobody shall read for ever."""

    def __init__(self, answer: Iterable[bytes], clock: Clock) -> None:
        self._bytes = (bytes([byte]) for piece in answer for byte in piece)
        self._clock = clock
        self._reads = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._reads += 1
        assert self._reads < 1000
        self._clock.now += 1
        return next(self._bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        pass

    def close(self) -> None:
        pass

    def get_extra_info(self, info: str) -> Any:
        return None


class Network(httpcore.NetworkBackend):
    """Connects to what answers with these pieces, slowly; `dead`: addresses that nobody answers at."""

    def __init__(self, clock: Clock, answer: Iterable[bytes] = (), dead: Iterable[str] = ()) -> None:
        self._clock = clock
        self._answer = answer
        self._dead = set(dead)
        self.tried: list[str] = []

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **options: Any
    ) -> httpcore.NetworkStream:
        self.tried.append(host)
        if host in self._dead:
            assert timeout is not None
            self._clock.now += timeout
            raise httpcore.ConnectTimeout
        return Slowly(self._answer, self._clock)


def loader(network: httpcore.NetworkBackend, clock: Clock, *addresses: str) -> ImageLoader:
    rules = WebRules()
    found = list(addresses) or ["8.8.8.8"]
    transport = GuardedTransport(rules, resolve=lambda host, port: found, network=network, clock=clock)
    return ImageLoader(
        label_studio_url="http://label-studio.test",
        api_key=None,
        limits=Limits(timeout_s=LIMIT_S, max_bytes=100_000, max_pixels=1_000_000),
        open_bucket=lambda _bucket: MemoryStore(),
        rules=rules,
        http=httpx.Client(transport=transport),
        clock=clock,
    )


def head(*lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()


def endless(piece: bytes) -> Iterator[bytes]:
    return repeat(piece)


@pytest.mark.parametrize(
    "answer",
    [
        chain([b"HTTP/1.1 200 OK\r\nX-A: "], endless(b"a")),
        endless(b"HTTP/1.1 100 Continue\r\n\r\n"),
        chain([b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 9999\r\n\r\n"], endless(b"a")),
        chain([head("Content-Length: 9999")], endless(b"a")),
    ],
    ids=["header", "go on", "redirect", "body"],
)
def test_who_answers_a_byte_a_second_is_left_after_the_time_limit(answer: Iterable[bytes]) -> None:
    clock = Clock()
    with pytest.raises(TaskProblem) as caught:
        loader(Network(clock, answer), clock).load("http://slow.test/a.png")
    assert (caught.value.reason, caught.value.passing) == ("unreachable", True)
    assert clock.now - 1000 <= LIMIT_S + 2


def test_addresses_that_nobody_answers_at_share_one_wait() -> None:
    clock = Clock()
    dead = [f"8.8.8.{number}" for number in range(50)]
    network = Network(clock, dead=dead)
    with pytest.raises(TaskProblem) as caught:
        loader(network, clock, *dead).load("http://dead.test/a.png")
    assert caught.value.reason == "unreachable"
    assert clock.now - 1000 <= 5.1
    assert network.tried == dead  # each has had its turn


class Canned(httpcore.MockBackend):
    def __init__(self, answer: bytes) -> None:
        super().__init__([answer])


def packed(coding: str, body: bytes) -> bytes:
    return head(f"Content-Encoding: {coding}", f"Content-Length: {len(body)}") + body


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip, gzip", gzip.compress(gzip.compress(PICTURE))),
        ("GZIP , Deflate", zlib.compress(gzip.compress(PICTURE))),
        ("br", b"whatever"),
        ("zstd", b"whatever"),
    ],
)
def test_an_answer_that_may_unpack_to_a_million_times_its_size_is_refused(coding: str, body: bytes) -> None:
    with pytest.raises(TaskProblem) as caught:
        loader(Canned(packed(coding, body)), Clock()).load("http://bomb.test/a.png")
    assert "Content-Encoding" in str(caught.value)


@pytest.mark.parametrize(
    ("coding", "body"), [("gzip", gzip.compress(PICTURE)), ("identity", PICTURE)], ids=["gzip", "identity"]
)
def test_a_server_that_packs_its_pictures_unasked_is_understood(coding: str, body: bytes) -> None:
    assert loader(Canned(packed(coding, body)), Clock()).load("http://packing.test/a.png").width == 30
