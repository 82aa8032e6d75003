"""Questions to a store beyond what an ObjectStore does, each harmless on every server.

Only plain requests on objects below a folder of its own. Never a sub-resource: cortx-s3server takes one that it does not
know for none at all, so that asking for `?retention` or `?publicAccessBlock` would overwrite or delete (docs/cortx.md).
"""

from __future__ import annotations

import contextlib
import ssl
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from botocore.exceptions import ClientError

from bridge.edges.s3_client import make_client
from bridge.edges.s3_errors import translated
from bridge.etags import MIB, content_md5, md5_of
from bridge.settings import S3Settings

_TIMEOUT_S = 15.0


class Probe:
    """One bucket. What it raises is ours; an answer that a store may give is a value."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._client = make_client(settings, attempts=2, connect_timeout_s=3, read_timeout_s=30)

    def date(self) -> datetime | None:
        """The store's clock, from the Date of an unsigned HEAD (any status has one); None where it tells none, or
        does not answer."""
        try:
            with self._http() as http:
                answer = http.head(self._settings.endpoint_url)
            return parsedate_to_datetime(answer.headers["date"])
        except (httpx.HTTPError, OSError, KeyError, ValueError):
            return None

    def multipart(self, key: str, part_bytes: tuple[int, ...] = (MIB,)) -> int:
        """Upload zeros in parts, one after another, then say how many bytes are there; on failure nothing is left."""
        place = {"Bucket": self._settings.bucket, "Key": key}
        with translated(self._settings, "multipart upload"):
            id = self._client.create_multipart_upload(**place)["UploadId"]
            try:
                parts = [
                    self._part(place | {"UploadId": id}, number, size)
                    for number, size in enumerate(part_bytes, 1)
                ]
                self._client.complete_multipart_upload(**place, UploadId=id, MultipartUpload={"Parts": parts})
            except BaseException:
                with contextlib.suppress(Exception):  # what went wrong before says more
                    self._client.abort_multipart_upload(**place, UploadId=id)
                raise
            return int(self._client.head_object(**place)["ContentLength"])

    def _part(self, place: dict[str, Any], number: int, size: int) -> dict[str, Any]:
        body = bytes(size)
        answer = self._client.upload_part(
            **place, PartNumber=number, Body=body, ContentLength=size, ContentMD5=content_md5(md5_of(body))
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def keeps_if_none_match(self, key: str) -> bool | None:
        """Whether a put with If-None-Match leaves an object that exists alone; None where it was refused as a whole.

        The store may overwrite the object."""
        body = b"overwritten"
        with translated(self._settings, "conditional write"):
            try:
                self._client.put_object(
                    Bucket=self._settings.bucket,
                    Key=key,
                    Body=body,
                    ContentLength=len(body),
                    ContentMD5=content_md5(md5_of(body)),
                    IfNoneMatch="*",
                )
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                if status == 412:
                    return True
                if status < 500 or status == 501:
                    return None
                raise
        return False

    def versions(self, key: str) -> bool:
        """Whether the bucket keeps versions: then the answer to a plain put names one."""
        with translated(self._settings, "writing"):
            body = b"version"
            answer = self._client.put_object(
                Bucket=self._settings.bucket,
                Key=key,
                Body=body,
                ContentLength=len(body),
                ContentMD5=content_md5(md5_of(body)),
            )
        return answer.get("VersionId") not in (None, "", "null")

    def presigned(self, key: str, origin: str) -> tuple[bool, bool, bool]:
        """(a presigned address works, one with a forged signature works too, a page from `origin` may read it)."""
        with translated(self._settings, "signing an address"):
            url = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._settings.bucket, "Key": key}, ExpiresIn=60
            )
        forged = url[:-1] + ("0" if url[-1] != "0" else "1")
        good = self._fetch(url, origin)
        bad = self._fetch(forged, origin)
        allowed = good.headers.get("access-control-allow-origin", "") if good is not None else ""
        return (
            good is not None and good.status_code == 200,
            bad is not None and bad.status_code == 200,
            allowed in ("*", origin),
        )

    def _fetch(self, url: str, origin: str) -> httpx.Response | None:
        try:
            with self._http() as http:
                return http.get(url, headers={"Origin": origin})
        except (httpx.HTTPError, OSError):
            return None

    def _http(self) -> httpx.Client:
        """The same way to the store as the client's."""
        return httpx.Client(
            proxy=self._settings.proxy_url, trust_env=False, timeout=_TIMEOUT_S, verify=self._verify()
        )

    def _verify(self) -> Any:
        if not self._settings.ca_bundle:
            return True
        return ssl.create_default_context(cafile=self._settings.ca_bundle)
