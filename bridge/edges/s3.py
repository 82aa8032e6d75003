"""The only module that makes boto3 clients.

The client's settings are those that both CORTX generations and other S3 servers accept: path-style addresses,
signature v4, checksums only where required (CORTX answers 411 to checksum trailers), parts sent one after another in
equal multiples of 1 MiB. docs/cortx.md says why for each.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    ParamValidationError,
)

from bridge.errors import BridgeError, Corrupt, NotFound, OutsideError, Refused, Unavailable
from bridge.settings import MIB, S3Settings
from bridge.store import ObjectInfo

SINGLE_PUT_MAX_BYTES = 64 * MIB
_TRANSFER = TransferConfig(
    multipart_threshold=SINGLE_PUT_MAX_BYTES,
    multipart_chunksize=16 * MIB,
    use_threads=False,
    preferred_transfer_client="classic",
)
_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
_BUSY = {"503", "500", "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "502", "504"}
_HINTS = {
    "InvalidAccessKeyId": "the store does not know this key: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "wrong secret key: check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "this machine's clock is more than 15 minutes off: set it",
    "AccessDenied": "the key may not do this: check the bucket policy",
    "403": "the store refused: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, the clock and the bucket policy",
    "Forbidden": "the key may not do this: check the bucket policy",
}


def make_client(
    settings: S3Settings, *, attempts: int = 4, connect_timeout_s: float = 5, read_timeout_s: float = 60
) -> Any:
    """A boto3 S3 client that every CORTX generation understands. `attempts` includes the first try."""
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        max_pool_connections=8,
        tcp_keepalive=True,
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        region_name=settings.region,
        verify=settings.ca_bundle or True,  # True: also where AWS_CA_BUNDLE is set to nothing
        config=config,
    )


@contextmanager
def _translated(settings: S3Settings, what: str) -> Iterator[None]:
    try:
        yield
    except BridgeError:
        raise
    except (EndpointConnectionError, HTTPClientError) as error:
        raise Unavailable(
            f"{what}: no answer from the object store at {settings.endpoint_url} ({type(error).__name__})",
            hint="is it running, and is AWS_ENDPOINT_URL_S3 right?",
        ) from error
    except ClientError as error:
        raise _ours(what, error) from error
    except (BotoCoreError, ParamValidationError) as error:
        raise Refused(f"{what}: {error}") from error
    except boto3.exceptions.Boto3Error as error:
        cause = error.__context__
        if isinstance(cause, ClientError):
            raise _ours(what, cause) from error
        raise Unavailable(f"{what}: {error}") from error


def _ours(what: str, error: ClientError) -> OutsideError:
    detail = error.response.get("Error", {})
    code = str(detail.get("Code", "")) or str(
        error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    )
    message = f"{what}: {code} {detail.get('Message', '')}".strip()
    if code == "NoSuchBucket":
        return NotFound(message, hint="create the bucket, or correct BUCKET")
    if code in _MISSING:
        return NotFound(message)
    if code in _BUSY:
        return Unavailable(message)
    return Refused(message, hint=_HINTS.get(code, ""))


class S3Store:
    """An ObjectStore over one bucket of an S3 server."""

    def __init__(
        self, settings: S3Settings, bucket: str | None = None, *, client: Any = None, page_size: int = 1000
    ) -> None:
        self._settings = settings
        self.bucket = bucket or settings.bucket
        self._client = client if client is not None else make_client(settings)
        self._page_size = page_size

    def _doing(self, verb: str, key: str = "") -> Any:
        return _translated(self._settings, f"{verb} s3://{self.bucket}/{key}")

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        with self._doing("writing", key):
            self._client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=body,
                ContentType=content_type,
                ContentMD5=md5,
                ContentLength=len(body),
            )

    def upload(self, key: str, path: Path, *, content_type: str = "application/octet-stream") -> None:
        size = path.stat().st_size
        if size <= SINGLE_PUT_MAX_BYTES:
            self.put(key, path.read_bytes(), content_type=content_type)
            return
        with self._doing("uploading", key):
            self._client.upload_file(
                str(path), self.bucket, key, ExtraArgs={"ContentType": content_type}, Config=_TRANSFER
            )
            info = self.head(key)
        if info is None or info.size_bytes != size:
            found = "nothing" if info is None else f"{info.size_bytes} bytes"
            raise Corrupt(f"uploading s3://{self.bucket}/{key}: sent {size} bytes, the store has {found}")

    def get(self, key: str) -> bytes:
        with self._doing("reading", key):
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
            body: bytes = answer["Body"].read()
            if len(body) != answer["ContentLength"]:
                raise Corrupt(
                    f"reading s3://{self.bucket}/{key}: {len(body)} of {answer['ContentLength']} bytes came"
                )
            return body

    def download(self, key: str, path: Path) -> None:
        partial = path.with_name(path.name + ".part")
        with self._doing("downloading", key):
            self._client.download_file(self.bucket, key, str(partial), Config=_TRANSFER)
        partial.replace(path)

    def head(self, key: str) -> ObjectInfo | None:
        with self._doing("asking for", key):
            try:
                answer = self._client.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if _ours("", error).status == 404:
                    return None
                raise
        return ObjectInfo(
            key=key,
            size_bytes=answer["ContentLength"],
            last_modified=answer["LastModified"],
            md5=_md5_of_etag(answer.get("ETag", "")),
        )

    def keys(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        token: dict[str, str] = {"StartAfter": start_after} if start_after else {}
        while True:
            with self._doing("listing", prefix):
                page = self._client.list_objects_v2(
                    Bucket=self.bucket, Prefix=prefix, MaxKeys=self._page_size, **token
                )
            for item in page.get("Contents", []):
                yield ObjectInfo(
                    key=item["Key"],
                    size_bytes=item["Size"],
                    last_modified=item["LastModified"],
                    md5=_md5_of_etag(item.get("ETag", "")),
                )
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        with self._doing("deleting", key):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    def create_bucket(self) -> None:
        """Create the bucket; one of our own that exists is no error. No location: CORTX takes none."""
        with self._doing("creating"):
            try:
                self._client.create_bucket(Bucket=self.bucket)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "BucketAlreadyOwnedByYou":
                    raise

    def check(self) -> None:
        """Raise what a first real call would raise: no answer, refused, or no such bucket."""
        with self._doing("opening"):
            try:
                self._client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                if _ours("", error).status == 404:
                    raise NotFound(
                        f"there is no bucket {self.bucket!r} at {self._settings.endpoint_url}",
                        hint="create it, or correct BUCKET",
                    ) from error
                raise


def _md5_of_etag(etag: str) -> str | None:
    """The hex MD5 in a single-put ETag; None for a multipart one ("…-3")."""
    bare = etag.strip('"').lower()
    return bare if len(bare) == 32 and all(c in "0123456789abcdef" for c in bare) else None


def open_store(settings: S3Settings, bucket: str | None = None) -> S3Store:
    """The store of our bucket, or of another bucket on the same server."""
    return S3Store(settings, bucket)
