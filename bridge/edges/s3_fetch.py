"""Reading an object whole: a broken stream goes on where it broke, and what came is held against its checksum."""

from __future__ import annotations

from typing import Any, BinaryIO

from botocore.exceptions import HTTPClientError, IncompleteReadError

from bridge.edges.s3_bodies import checksum_of
from bridge.errors import Corrupt
from bridge.etags import RunningEtag, part_count, possible_part_bytes
from bridge.store import Progress

TRIES = 4
_BLOCK = 256 * 1024


class Fetch:
    """One object on its way into an empty file that can be read, written and sought in."""

    def __init__(
        self, client: Any, *, bucket: str, key: str, target: BinaryIO, part_bytes: int, progress: Progress
    ) -> None:
        self._client = client
        self._source = {"Bucket": bucket, "Key": key}
        self._target, self._part_bytes, self._progress = target, part_bytes, progress
        self._begin({})

    def run(self) -> None:
        """Raises botocore's errors, and Corrupt."""
        for tries in range(1, TRIES + 1):
            try:
                if self._once():
                    break
            except (HTTPClientError, IncompleteReadError):
                if tries == TRIES:
                    raise
        else:
            raise Corrupt(f"reading {self._name}: it was replaced each time it was read", hint="try again")
        self._check()

    @property
    def _name(self) -> str:
        return "s3://{Bucket}/{Key}".format(**self._source)

    def _begin(self, answer: dict[str, Any]) -> None:
        """Start from nothing, to get the object that this answer tells of."""
        self._etag, self._size, self._done = answer.get("ETag", ""), answer.get("ContentLength", 0), 0
        self._expected = checksum_of(answer).strip('"').lower()
        self._checkable = _likely_part_bytes(self._expected, self._size, self._part_bytes)
        self._running = RunningEtag(self._checkable)
        self._target.seek(0)
        self._target.truncate()

    def _once(self) -> bool:
        """Whether the whole object is here; False where another one has taken its place meanwhile."""
        more = {"Range": f"bytes={self._done}-"} if self._done else {}
        answer = self._client.get_object(**self._source, **more)
        partial = answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        if self._done and (not partial or answer.get("ETag", "") != self._etag):
            answer["Body"].close()
            self._progress(-self._done)
            self._begin({})
            return False
        if not self._done:
            self._begin(answer)
        for chunk in answer["Body"].iter_chunks(_BLOCK):
            self._target.write(chunk)
            self._running.add(chunk)
            self._done += len(chunk)
            self._progress(len(chunk))
        return True

    def _check(self) -> None:
        if self._done != self._size:
            raise Corrupt(
                f"reading {self._name}: {self._done} of {self._size} bytes came", hint="read it again"
            )
        expected = self._expected
        if not expected or self._running.value() == expected:
            return
        count = part_count(expected)
        if count is not None:
            if self._checkable is None:
                return  # parts of a length nobody uses: the size is all that can be checked
            for part_bytes in possible_part_bytes(self._size, count, self._part_bytes):
                if part_bytes != self._checkable and self._etag_with(part_bytes) == expected:
                    return
            if self._checkable != self._part_bytes:
                return  # sent by another tool, in parts of unknown length
        raise Corrupt(
            f"reading {self._name}: what came is not what was stored (checksum {expected})",
            hint="read it again",
        )

    def _etag_with(self, part_bytes: int) -> str:
        running = RunningEtag(part_bytes)
        self._target.seek(0)
        while block := self._target.read(_BLOCK):
            running.add(block)
        return running.value()


def _likely_part_bytes(etag: str, size: int, ours: int) -> int | None:
    """The most likely part length of an object; None for one that was put whole, or of unknown parts."""
    count = part_count(etag)
    if count is None:
        return None
    return next(iter(possible_part_bytes(size, count, ours)), None)
