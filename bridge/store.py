"""The few verbs we need of an object store, and an exact in-memory one.

The promises below are what one contract suite checks over every implementation. Nothing here relies on conditional
writes, versions or user metadata: CORTX has none of them dependably.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bridge.errors import NotFound, Refused
from bridge.etags import md5_of

KEY_MAX_BYTES = 1024

Progress = Callable[[int], None]
"""Called with a number of bytes as they become safe; a negative one where some have to come again."""


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """One object as a listing or a HEAD shows it. `md5` (hex) is None where the store does not tell it."""

    key: str
    size_bytes: int
    last_modified: datetime
    md5: str | None


@dataclass(frozen=True, kw_only=True)
class BucketInfo:
    """One bucket as the server's list of them shows it."""

    name: str
    created_at: datetime


def check_key(key: str) -> None:
    """Raise Refused for a key that no store takes: empty, or over 1,024 bytes of UTF-8."""
    if not key:
        raise Refused("an object needs a key", hint="name one after the bucket: s3://bucket/key")
    length = len(key.encode("utf-8", "surrogatepass"))
    if length > KEY_MAX_BYTES:
        raise Refused(
            f"the key {key[:60]!r}… has {length} bytes",
            hint=f"keys have at most {KEY_MAX_BYTES} bytes: shorten it",
        )


def partial_name(token: str) -> str:
    """The name of a file while it is downloaded; `token` is 16 hex digits. bridge.transfer.PARTIAL knows it again."""
    return f".download-{token}.partial"


class ObjectStore(Protocol):
    """One bucket. Keys are full keys, without a leading slash; threads may share a store.

    Every verb raises `Unavailable` when the store is down (`Busy`, `Full`, `Broken` where it says so), `Refused` when
    it says no, and `NotFound` when the bucket does not exist. What was written is read back by the next call. While an
    object is replaced or deleted, a reader gets one of the two whole, or NotFound: never a mixture. Of several writers
    of one key, one wins whole. A transfer whose bytes are not those that were meant raises `Corrupt`.
    """

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Write the whole object, replacing one that is there."""

    def upload(
        self,
        key: str,
        path: Path,
        *,
        content_type: str = "application/octet-stream",
        progress: Progress | None = None,
    ) -> None:
        """Write a file of any size, in parts where it is large. Sent again after a break, it goes on where it can.

        Raises FileChanged where the file became another one meanwhile, and OSError where it cannot be read."""

    def get(self, key: str) -> bytes:
        """The whole object; raises NotFound."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start` on; fewer at the object's end, none past it. Raises NotFound."""

    def download(self, key: str, path: Path, *, progress: Progress | None = None) -> None:
        """Write the object into a file; the file appears only when whole, and one that was there stays until then. Its
        bytes lie beside it meanwhile, as `partial_name`. Raises NotFound, and OSError where there is no room."""

    def head(self, key: str) -> ObjectInfo | None:
        """What is there under this key, or None."""

    def keys(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Every object under a prefix in byte order of the keys, page after page."""

    def delete(self, key: str) -> None:
        """Remove the object; a missing one is no error."""

    def delete_many(self, keys: Iterable[str]) -> dict[str, str]:
        """Remove many, in any order; returns those that could not be, with the reason."""


class MemoryStore:
    """An ObjectStore in a dictionary, for tests and dry runs."""

    def __init__(self, *, page_size: int = 1000) -> None:
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._page_size = page_size
        self._lock = threading.Lock()

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        check_key(key)
        with self._lock:
            self._objects[key] = (bytes(body), datetime.now(UTC))

    def upload(
        self,
        key: str,
        path: Path,
        *,
        content_type: str = "application/octet-stream",
        progress: Progress | None = None,
    ) -> None:
        body = path.read_bytes()
        self.put(key, body, content_type=content_type)
        if progress is not None:
            progress(len(body))

    def get(self, key: str) -> bytes:
        check_key(key)
        try:
            return self._objects[key][0]
        except KeyError:
            raise NotFound(f"no object {key!r}") from None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get(key)[start : start + length]

    def download(self, key: str, path: Path, *, progress: Progress | None = None) -> None:
        body = self.get(key)
        partial = path.with_name(partial_name(secrets.token_hex(8)))
        try:
            partial.write_bytes(body)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if progress is not None:
            progress(len(body))

    def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        found = self._objects.get(key)
        if found is None:
            return None
        body, when = found
        return ObjectInfo(key=key, size_bytes=len(body), last_modified=when, md5=md5_of(body))

    def keys(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        after = start_after.encode()
        while True:
            with self._lock:
                found = [key for key in self._objects if key.startswith(prefix) and key.encode() > after]
            page = sorted(found, key=str.encode)[: self._page_size]
            for key in page:
                info = self.head(key)
                if info is not None:
                    yield info
            if len(page) < self._page_size:
                return
            after = page[-1].encode()

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def delete_many(self, keys: Iterable[str]) -> dict[str, str]:
        for key in keys:
            self.delete(key)
        return {}
