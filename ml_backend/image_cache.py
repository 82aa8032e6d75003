"""Fetched images on disk, of a bounded size, so that a picture asked for again is not transferred again.

A copy is only used for the very state of the picture that it was made of: its tag (an ETag, or what a bucket tells of
an object) is kept with it, and whoever asks compares it with the source first. Several processes may share the folder:
a file is written beside its place and renamed, so it is there whole or not at all. A disk that is full or gone costs
the cache, never a prediction.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)
_LOOK_AGAIN = (
    20  # the folder is counted again after a 20th of its size was written, for what other processes wrote
)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One picture's bytes, and the tag of the state they were."""

    tag: str
    body: bytes


class ImageCache:
    """`max_bytes` 0 keeps nothing. Safe to use from several threads and processes."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._written_since: int | None = (
            None  # bytes since the folder was counted; None before the first time
        )
        self._counted = 0
        self._failing = False

    def get(self, source: str) -> Kept | None:
        """What is kept of a source (an address, or a bucket and key); None also for a damaged file."""
        if not self._max_bytes:
            return None
        path = self._path(source)
        try:
            first, _, body = path.read_bytes().partition(b"\n")
            told = json.loads(first)
            if told["source"] != source or told["size"] != len(body) or told["crc"] != zlib.crc32(body):
                return None
            os.utime(path)  # used last: evicted last
            return Kept(tag=str(told["tag"]), body=body)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, source: str, tag: str, body: bytes) -> None:
        """Keep it, and remove what was not used for longest until everything fits. Raises nothing."""
        told = {"source": source, "tag": tag, "size": len(body), "crc": zlib.crc32(body)}
        whole = json.dumps(told).encode() + b"\n" + body
        if len(whole) > self._max_bytes:
            return
        path = self._path(source)
        partial = path.with_name(f"{uuid.uuid4().hex}.partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._make_room(len(whole))
            partial.write_bytes(whole)
            partial.replace(path)
            self._failing = False
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            if not self._failing:  # once for each time that it stops working
                log.warning("fetched images are not kept: %s", error.strerror or error)
            self._failing = True

    def _path(self, source: str) -> Path:
        return self._folder / f"{hashlib.sha256(source.encode('utf-8', 'surrogatepass')).hexdigest()}.image"

    def _make_room(self, size: int) -> None:
        with self._lock:
            since = self._written_since
            known = since is not None and since < self._max_bytes // _LOOK_AGAIN
            if known and self._counted + size <= self._max_bytes:
                self._counted += size
                self._written_since = (since or 0) + size
                return
            files = []
            for path in self._folder.iterdir():
                with contextlib.suppress(OSError):  # another process has just removed it
                    told = path.stat()
                    files.append((told.st_mtime, told.st_size, path))
            total = sum(length for _, length, _ in files)
            for _, length, path in sorted(files):
                if total + size <= self._max_bytes:
                    break
                path.unlink(missing_ok=True)
                total -= length
            self._counted, self._written_since = total + size, size
