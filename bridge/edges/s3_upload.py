"""Sending files, so that every CORTX generation takes them.

Above a threshold a file goes in parts: equal, multiples of 1 MiB, one after another from part 1, and never two uploads
of one key at a time (docs/cortx.md). An upload that was broken off is continued where its parts are the file's own;
any other open upload of the key is aborted, since cortx-s3server refuses a second one. So a key has one uploader:
threads of one process wait for each other here; that no two processes upload one key is the caller's promise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from bridge.edges.s3_bodies import Sent, Window, checksum_of, state_of
from bridge.edges.s3_errors import translated
from bridge.errors import BridgeError, Corrupt, FileChanged, NotFound
from bridge.etags import composite, content_md5, plain_md5
from bridge.settings import MIB, S3Settings
from bridge.store import Progress

PART_BYTES = 16 * MIB
SINGLE_PUT_MAX_BYTES = 64 * MIB
MAX_PARTS = 10_000


def no_progress(_: int) -> None:
    pass


class KeyLocks:
    """One lock a name, forgotten when nobody holds it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[tuple[str, ...], tuple[threading.Lock, int]] = {}

    @contextmanager
    def hold(self, *name: str) -> Iterator[None]:
        with self._guard:
            lock, users = self._locks.get(name, (threading.Lock(), 0))
            self._locks[name] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._locks[name]
                if users == 1:
                    del self._locks[name]
                else:
                    self._locks[name] = (lock, users - 1)


def part_bytes_for(size_bytes: int, usual: int) -> int:
    """`usual`, doubled until 10,000 parts are enough."""
    while -(-size_bytes // usual) > MAX_PARTS:
        usual *= 2
    return usual


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part in the store: its ETag as the store told it, and the hex MD5 of its bytes."""

    etag: str
    md5: str


class PartsUpload:
    """One file on its way to one key, in parts."""

    def __init__(
        self,
        client: Any,
        settings: S3Settings,
        *,
        bucket: str,
        key: str,
        file: BinaryIO,
        part_bytes: int,
        progress: Progress,
    ) -> None:
        self._client, self._settings = client, settings
        self._target = {"Bucket": bucket, "Key": key}
        self._what = f"uploading s3://{bucket}/{key}"
        self._file, self._progress = file, progress
        self._size = state_of(file)[0]
        self._part_bytes = part_bytes_for(self._size, part_bytes)
        self._count = -(-self._size // self._part_bytes)

    def run(self, content_type: str, confirm: Callable[[Sent], BridgeError | None]) -> None:
        """Send what is missing, complete, and have it confirmed. `confirm` returns what is wrong with the result.

        Broken off by the store or by Ctrl-C, the parts stay there for the next run; a changed file or wrong bytes
        end the upload for good."""
        before = state_of(self._file)
        upload_id, parts = self._continued()
        if upload_id is None:
            with translated(self._settings, self._what):
                made = self._client.create_multipart_upload(**self._target, ContentType=content_type)
            upload_id = str(made["UploadId"])
        try:
            for number in range(len(parts) + 1, self._count + 1):
                parts.append(self._send(upload_id, number))
            if state_of(self._file) != before:
                raise FileChanged(f"{self._file.name} changed while it was sent", hint="send it again")
        except Corrupt:
            self._abort(upload_id)
            raise
        self._complete(upload_id, parts, confirm)

    def _window(self, number: int) -> Window:
        start = (number - 1) * self._part_bytes
        return Window(self._file, start, min(self._part_bytes, self._size - start))

    def _send(self, upload_id: str, number: int) -> Part:
        body, md5 = self._window(number).body()
        with translated(self._settings, f"{self._what}, part {number} of {self._count}"):
            answer = self._client.upload_part(
                **self._target,
                UploadId=upload_id,
                PartNumber=number,
                Body=body,
                ContentLength=len(body),
                ContentMD5=content_md5(md5),
            )
        if (plain_md5(checksum_of(answer)) or md5) != md5:
            raise Corrupt(f"{self._what}: part {number} arrived as other bytes", hint="send it again")
        self._progress(len(body))
        return Part(etag=answer.get("ETag", ""), md5=md5)

    def _complete(
        self, upload_id: str, parts: list[Part], confirm: Callable[[Sent], BridgeError | None]
    ) -> None:
        sent = Sent(size_bytes=self._size, etag=composite(part.md5 for part in parts))
        listed = [{"PartNumber": number, "ETag": part.etag} for number, part in enumerate(parts, start=1)]
        try:
            with translated(self._settings, self._what):
                self._client.complete_multipart_upload(
                    **self._target, UploadId=upload_id, MultipartUpload={"Parts": listed}
                )
        except BridgeError:
            # The answer may have been lost after the work was done, or be the second one's "no such upload".
            if confirm(sent) is not None:
                raise
            return
        trouble = confirm(sent)
        if trouble is not None:
            raise trouble

    def _continued(self) -> tuple[str | None, list[Part]]:
        """An open upload whose parts are this file's first ones, with them. All others are aborted."""
        chosen: str | None = None
        parts: list[Part] = []
        for upload_id in self._open_uploads():
            fitting = None if chosen else self._fitting_parts(upload_id)
            if fitting:
                chosen, parts = upload_id, fitting
            else:
                self._abort(upload_id)
        for number in range(1, len(parts) + 1):
            self._progress(len(self._window(number)))
        return chosen, parts

    def _open_uploads(self) -> list[str]:
        """The ids of the key's unfinished uploads, newest first."""
        found: list[tuple[Any, str]] = []
        more: dict[str, str] = {}
        while True:
            with translated(self._settings, self._what):
                page = self._client.list_multipart_uploads(
                    Bucket=self._target["Bucket"], Prefix=self._target["Key"], **more
                )
            for one in page.get("Uploads", []):
                if one["Key"] == self._target["Key"]:
                    found.append((one.get("Initiated"), str(one["UploadId"])))
            more = {
                "KeyMarker": page.get("NextKeyMarker", ""),
                "UploadIdMarker": page.get("NextUploadIdMarker", ""),
            }
            if not page.get("IsTruncated") or not more["KeyMarker"]:
                break
        return [upload_id for _, upload_id in sorted(found, key=lambda one: str(one[0]), reverse=True)]

    def _fitting_parts(self, upload_id: str) -> list[Part]:
        """The parts already there, if they are this file's parts 1 to n; else none."""
        found: list[Part] = []
        try:
            for part in self._parts(upload_id):
                number = len(found) + 1
                if number > self._count:
                    return []
                window = self._window(number)
                md5 = plain_md5(part.get("ETag", ""))
                if part["PartNumber"] != number or part["Size"] != len(window) or md5 != window.md5():
                    return []
                found.append(Part(etag=part["ETag"], md5=md5))
        except NotFound:  # it is over
            return []
        return found

    def _parts(self, upload_id: str) -> Iterator[dict[str, Any]]:
        marker: dict[str, int] = {}
        while True:
            with translated(self._settings, self._what):
                page = self._client.list_parts(**self._target, UploadId=upload_id, **marker)
            yield from page.get("Parts", [])
            if not page.get("IsTruncated") or not page.get("NextPartNumberMarker"):
                return
            marker = {"PartNumberMarker": int(page["NextPartNumberMarker"])}

    def _abort(self, upload_id: str) -> None:
        """An upload that cannot be aborted costs room, not correctness: the store says so at the next one."""
        try:
            with translated(self._settings, self._what):
                self._client.abort_multipart_upload(**self._target, UploadId=upload_id)
        except BridgeError:
            pass
