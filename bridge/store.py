"""The few verbs we need of an object store, and an exact in-memory one.

The promises below are what one contract suite checks over every implementation. Nothing here relies on conditional
writes, versions or user metadata: CORTX has none of them dependably.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bridge.errors import NotFound


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """One object as a listing or a HEAD shows it. `md5` (hex) is None where the store does not tell it."""

    key: str
    size_bytes: int
    last_modified: datetime
    md5: str | None


class ObjectStore(Protocol):
    """One bucket. Keys are full keys, without a leading slash.

    Every verb raises `Unavailable` when the store is down or busy, `Refused` when it says no, and `NotFound` when the
    bucket does not exist.
    """

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Write the whole object, replacing one that is there."""

    def upload(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> None:
        """Write a file of any size, in parts where it is large."""

    def get(self, key: str) -> bytes:
        """The whole object; raises NotFound."""

    def download(self, key: str, path: Path) -> None:
        """Write the object into a file; the file appears only when whole. Raises NotFound."""

    def head(self, key: str) -> ObjectInfo | None:
        """What is there under this key, or None."""

    def keys(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Every object under a prefix in byte order of the keys, page after page."""

    def delete(self, key: str) -> None:
        """Remove the object; a missing one is no error."""


class MemoryStore:
    """An ObjectStore in a dictionary, for tests and dry runs."""

    def __init__(self, *, page_size: int = 1000) -> None:
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._page_size = page_size

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        self._objects[key] = (bytes(body), datetime.now(UTC))

    def upload(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> None:
        self.put(key, path.read_bytes(), content_type=content_type)

    def get(self, key: str) -> bytes:
        try:
            return self._objects[key][0]
        except KeyError:
            raise NotFound(f"no object {key!r}") from None

    def download(self, key: str, path: Path) -> None:
        path.write_bytes(self.get(key))

    def head(self, key: str) -> ObjectInfo | None:
        if key not in self._objects:
            return None
        body, when = self._objects[key]
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return ObjectInfo(key=key, size_bytes=len(body), last_modified=when, md5=md5)

    def keys(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        after = start_after.encode()
        while True:
            found = (key for key in self._objects if key.startswith(prefix) and key.encode() > after)
            page = sorted(found, key=str.encode)[: self._page_size]
            for key in page:
                info = self.head(key)
                if info is not None:
                    yield info
            if len(page) < self._page_size:
                return
            after = page[-1].encode()

    def delete(self, key: str) -> None:
        self._objects.pop(key, None)
