"""One bucket of an S3 server as our ObjectStore, and the server's list of buckets.

Around it: s3_client.py makes the client, s3_upload.py and s3_fetch.py move large objects, s3_errors.py translates what
the store says. docs/cortx.md says why things are done as they are.
"""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from bridge.edges.s3_bodies import Sent, Window, checksum_of, differs, state_of
from bridge.edges.s3_client import make_client as make_client
from bridge.edges.s3_errors import ALL_REFUSED, code_of, ours, translated
from bridge.edges.s3_fetch import Fetch
from bridge.edges.s3_list import Listing
from bridge.edges.s3_upload import PART_BYTES, SINGLE_PUT_MAX_BYTES, KeyLocks, PartsUpload, no_progress
from bridge.errors import BridgeError, Corrupt, FileChanged, NotFound, Refused
from bridge.etags import content_md5, md5_of, plain_md5
from bridge.settings import S3Settings, bucket_name
from bridge.store import BucketInfo, ObjectInfo, Progress, check_key, partial_name

DELETE_BATCH = 1000
_HEADS_AFTER_WRITE = 4
_writers = KeyLocks()
"""One writer a key in this process, whichever store object it uses."""


class S3Store:
    """An ObjectStore over one bucket of an S3 server. Threads may share it.

    `part_bytes` must be a multiple of 1 MiB and at least 5 MiB; `sleep` is how it waits, in seconds."""

    def __init__(
        self,
        settings: S3Settings,
        bucket: str | None = None,
        *,
        client: Any = None,
        page_size: int = 1000,
        part_bytes: int = PART_BYTES,
        single_put_max_bytes: int = SINGLE_PUT_MAX_BYTES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self.bucket = bucket or settings.bucket
        self._client = client if client is not None else make_client(settings, sleep=sleep)
        self._page_size = page_size
        self._part_bytes = part_bytes
        self._single_put_max_bytes = single_put_max_bytes
        self._sleep = sleep

    def _doing(self, verb: str, key: str = "") -> AbstractContextManager[None]:
        return translated(self._settings, f"{verb} s3://{self.bucket}/{key}")

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        with self._writing(key):
            self._put(key, body, md5_of(body), content_type)

    def upload(
        self,
        key: str,
        path: Path,
        *,
        content_type: str = "application/octet-stream",
        progress: Progress | None = None,
    ) -> None:
        progress = progress or no_progress
        with self._writing(key), path.open("rb") as file:
            before = state_of(file)
            if before[0] > self._single_put_max_bytes:
                PartsUpload(
                    self._client,
                    self._settings,
                    bucket=self.bucket,
                    key=key,
                    file=file,
                    part_bytes=self._part_bytes,
                    progress=progress,
                ).run(content_type, lambda sent: self._wrong(key, sent))
                return
            body, md5 = Window(file, 0, before[0]).body()
            try:
                self._put(key, body, md5, content_type)
            finally:
                if state_of(file) != before:  # says more than what the store makes of it
                    raise FileChanged(f"{path} changed while it was sent", hint="send it again")
            progress(before[0])

    def _writing(self, key: str) -> AbstractContextManager[None]:
        check_key(key)
        return _writers.hold(self._settings.endpoint_url, self.bucket, key)

    def _put(self, key: str, body: Any, md5: str, content_type: str) -> None:
        with self._doing("writing", key):
            answer = self._client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=body,
                ContentType=content_type,
                ContentMD5=content_md5(md5),
                ContentLength=len(body),
            )
        if plain_md5(checksum_of(answer)) == md5:
            return
        trouble = self._wrong(key, Sent(size_bytes=len(body), etag=md5))
        if trouble is not None:
            raise trouble

    def _wrong(self, key: str, sent: Sent) -> BridgeError | None:
        """What is wrong with an object that was just written; None: it is there with its size and checksum.

        CORTX-RGW shows nothing under a key for a moment while it is replaced: so it is asked again."""
        name = f"s3://{self.bucket}/{key}"
        for tries in range(_HEADS_AFTER_WRITE):
            if tries:
                self._sleep(1.0)
            answer = self._head(key)
            if answer is not None:
                found = differs(sent, size_bytes=answer["ContentLength"], etag=checksum_of(answer))
                return Corrupt(f"writing {name}: {found}", hint="send it again") if found else None
        return Corrupt(f"writing {name}: the store said yes, but nothing is there", hint="send it again")

    def get(self, key: str) -> bytes:
        target = io.BytesIO()
        with self._doing("reading", key):
            self._fetch(key, target, no_progress)
        return target.getvalue()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""
        with self._doing("reading", key):
            try:
                answer = self._client.get_object(
                    Bucket=self.bucket, Key=key, Range=f"bytes={start}-{start + length - 1}"
                )
            except ClientError as error:
                if code_of(error) in ("InvalidRange", "416"):
                    return b""
                raise
            body: bytes = answer["Body"].read()
        if answer["ResponseMetadata"]["HTTPStatusCode"] == 200:  # the store sent the whole
            return body[start : start + length]
        return body[:length]

    def download(self, key: str, path: Path, *, progress: Progress | None = None) -> None:
        partial = path.with_name(partial_name(secrets.token_hex(8)))
        try:
            with self._doing("downloading", key), partial.open("wb+") as file:
                self._fetch(key, file, progress or no_progress)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _fetch(self, key: str, target: Any, progress: Progress) -> None:
        check_key(key)
        Fetch(
            self._client,
            bucket=self.bucket,
            key=key,
            target=target,
            part_bytes=self._part_bytes,
            progress=progress,
        ).run()

    def head(self, key: str) -> ObjectInfo | None:
        answer = self._head(key)
        if answer is None:
            return None
        return ObjectInfo(
            key=key,
            size_bytes=answer["ContentLength"],
            last_modified=answer["LastModified"],
            md5=plain_md5(checksum_of(answer)),
        )

    def _head(self, key: str) -> dict[str, Any] | None:
        check_key(key)
        with self._doing("asking for", key):
            try:
                answer: dict[str, Any] = self._client.head_object(Bucket=self.bucket, Key=key)
                return answer
            except ClientError as error:
                if ours("", error).status == 404:
                    return None
                if (
                    code_of(error) == "403"
                ):  # an answer without a body: a GET tells which of the reasons it is
                    self._client.get_object(Bucket=self.bucket, Key=key, Range="bytes=0-0")["Body"].close()
                raise

    def keys(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        listing = Listing(
            self._client, self._settings, bucket=self.bucket, prefix=prefix, page_size=self._page_size
        )
        return listing.objects(start_after)

    def delete(self, key: str) -> None:
        check_key(key)
        with self._doing("deleting", key):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    def delete_many(self, keys: Iterable[str]) -> dict[str, str]:
        failed: dict[str, str] = {}
        batch: list[str] = []
        for key in keys:
            batch.append(key)
            if len(batch) == DELETE_BATCH:
                failed |= self._delete_batch(batch)
                batch = []
        return failed | (self._delete_batch(batch) if batch else {})

    def _delete_batch(self, keys: list[str]) -> dict[str, str]:
        asked = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        try:
            with self._doing("deleting from"):
                answer = self._client.delete_objects(Bucket=self.bucket, Delete=asked)
        except (Refused, Corrupt) as error:
            if code_of(error) in ALL_REFUSED:
                raise
            return self._delete_singly(keys)  # no such call there, or a key that does not fit into XML
        # One by one tells why, and knows a key that is gone from one that stays.
        return self._delete_singly([one["Key"] for one in answer.get("Errors", [])])

    def _delete_singly(self, keys: list[str]) -> dict[str, str]:
        failed = {}
        for key in keys:
            try:
                self.delete(key)
            except Refused as error:
                if code_of(error) in ALL_REFUSED:
                    raise
                failed[key] = str(error)
        return failed

    def create_bucket(self) -> None:
        """Create the bucket; one of our own that exists is no error. No location: CORTX takes none."""
        try:
            bucket_name(self.bucket)
        except ValueError as error:
            raise Refused(f"{self.bucket!r} is no name for a bucket", hint=str(error)) from error
        with self._doing("creating"):
            try:
                self._client.create_bucket(Bucket=self.bucket)
            except ClientError as error:
                if code_of(error) != "BucketAlreadyOwnedByYou":
                    raise

    def delete_bucket(self) -> None:
        """Remove the bucket, which must be empty (else Refused); one that is not there raises NotFound."""
        with self._doing("deleting"):
            self._client.delete_bucket(Bucket=self.bucket)

    def check(self) -> None:
        """Raise what a first real call would raise: no answer, refused, or no such bucket."""
        with self._doing("opening"):
            try:
                self._client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                if ours("", error).status == 404:
                    raise NotFound(
                        f"there is no bucket {self.bucket!r} at {self._settings.endpoint_url}",
                        hint="create it, or correct BUCKET",
                    ) from error
                if (
                    code_of(error) == "403"
                ):  # an answer without a body: a GET tells which of the reasons it is
                    self._client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
                raise


def open_store(settings: S3Settings, bucket: str | None = None) -> S3Store:
    """The store of our bucket, or of another bucket on the same server."""
    return S3Store(settings, bucket)


def list_buckets(settings: S3Settings, *, client: Any = None) -> list[BucketInfo]:
    """The buckets that belong to our key, by name."""
    client = client if client is not None else make_client(settings)
    with translated(settings, f"listing the buckets of {settings.endpoint_url}"):
        answer = client.list_buckets()
    found = [
        BucketInfo(name=one["Name"], created_at=one["CreationDate"]) for one in answer.get("Buckets", [])
    ]
    return sorted(found, key=lambda one: one.name)
