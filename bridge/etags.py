"""Checksums as S3 stores tell them; pure.

An object put in one piece has the MD5 of its bytes as ETag. One put in parts has the MD5 of the parts' MD5s and the
number of parts ("…-3"): it can be computed only by who knows how long the parts were. Anything else (encrypted
objects, other servers' own ETags) is no checksum, and is not taken for one.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

MIB = 1024 * 1024
# What common tools send: ours and MinIO's, AWS's, rclone's and Label Studio's, Cyberduck's, s3cmd's, and larger ones.
_COMMON_PARTS_MIB = (16, 8, 5, 10, 15, 32, 64, 100, 128)


def md5_of(body: bytes) -> str:
    """Hex."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def content_md5(md5_hex: str) -> str:
    """The form of the Content-MD5 header."""
    return base64.b64encode(bytes.fromhex(md5_hex)).decode()


def plain_md5(etag: str) -> str | None:
    """The hex MD5 in the ETag of a single put; None for any other."""
    bare = etag.strip('"').lower()
    return bare if re.fullmatch(r"[0-9a-f]{32}", bare) else None


def part_count(etag: str) -> int | None:
    """The number of parts that a multipart ETag tells; None for any other."""
    found = re.fullmatch(r"[0-9a-f]{32}-([1-9]\d{0,4})", etag.strip('"').lower())
    return int(found[1]) if found else None


def composite(part_md5s: Iterable[str]) -> str:
    """The ETag (without quotes) of an object put in parts with these hex MD5s."""
    digests = [bytes.fromhex(one) for one in part_md5s]
    return f"{md5_of(b''.join(digests))}-{len(digests)}"


def possible_part_bytes(size_bytes: int, count: int, ours: int) -> list[int]:
    """Part lengths with which an object of this size has `count` parts, ours first, then those of common tools."""
    sizes = dict.fromkeys([ours, *(mib * MIB for mib in _COMMON_PARTS_MIB)])
    return [one for one in sizes if max(1, -(-size_bytes // one)) == count]


class RunningEtag:
    """The ETag of bytes that come in pieces of any length; `part_bytes` None: of a single put."""

    def __init__(self, part_bytes: int | None) -> None:
        self._part_bytes = part_bytes
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._room = part_bytes or 0
        self._parts: list[str] = []

    def add(self, chunk: bytes) -> None:
        if self._part_bytes is None:
            self._md5.update(chunk)
            return
        view = memoryview(chunk)
        while view:
            if self._room == 0:
                self._close_part(self._part_bytes)
            piece = view[: self._room]
            self._md5.update(piece)
            self._room -= len(piece)
            view = view[len(piece) :]

    def value(self) -> str:
        """Without quotes. Nothing may be added afterwards."""
        if self._part_bytes is None:
            return self._md5.hexdigest()
        return composite([*self._parts, self._md5.hexdigest()])

    def _close_part(self, room: int) -> None:
        self._parts.append(self._md5.hexdigest())
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._room = room
