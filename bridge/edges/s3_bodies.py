"""What is sent and what should be found: bodies out of local files, and how an object is held against them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from bridge.errors import FileChanged
from bridge.etags import md5_of, part_count, plain_md5
from bridge.settings import MIB

_IN_MEMORY_BYTES = 4 * MIB
_BLOCK = 1 * MIB


class Window:
    """`length` bytes of an open file from `start` on, as a body to send. A file that got shorter raises FileChanged,
    where a plain file would leave the store waiting for the rest."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, 0

    def __len__(self) -> int:
        return self._length

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = base + offset
        return self._at

    def read(self, amount: int | None = -1) -> bytes:
        left = max(0, self._length - self._at)
        wanted = left if amount is None or amount < 0 else min(amount, left)
        self._file.seek(self._start + self._at)
        found = self._file.read(wanted)
        if len(found) < wanted:
            raise FileChanged(f"{self._file.name} became shorter while it was sent", hint="send it again")
        self._at += len(found)
        return found

    def body(self) -> tuple[Any, str]:
        """What to send, and its hex MD5. Short ones are read once, so that they are one state of the file."""
        if self._length <= _IN_MEMORY_BYTES:
            self.seek(0)
            held = self.read()
            return held, md5_of(held)
        return self, self.md5()

    def md5(self) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        self.seek(0)
        while block := self.read(_BLOCK):
            digest.update(block)
        self.seek(0)
        return digest.hexdigest()


def state_of(file: BinaryIO) -> tuple[int, int]:
    """Size in bytes and time of change: what tells that a file is no longer the one it was."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a finished upload should be found as."""

    size_bytes: int
    etag: str


def checksum_of(answer: Mapping[str, Any]) -> str:
    """The ETag in a store's answer where it is a checksum of the bytes; "" where it is not, as that of an object
    encrypted with a key of its own."""
    if answer.get("SSECustomerAlgorithm") or answer.get("ServerSideEncryption") not in (None, "AES256"):
        return ""
    etag = str(answer.get("ETag", ""))
    return etag if plain_md5(etag) or part_count(etag) else ""


def differs(sent: Sent, *, size_bytes: int, etag: str) -> str:
    """What is wrong with an object beside what was sent; "" where nothing is, or its ETag is no checksum."""
    if size_bytes != sent.size_bytes:
        return f"sent {sent.size_bytes} bytes, the store has {size_bytes}"
    bare = etag.strip('"').lower()
    comparable = plain_md5(etag) is not None or part_count(etag) is not None
    same_kind = part_count(etag) == part_count(sent.etag)
    if comparable and same_kind and bare != sent.etag:
        return f"the store has other bytes (checksum {bare}, sent {sent.etag})"
    return ""
