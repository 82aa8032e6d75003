"""Listing a bucket page after page, also where a store knows only the first version of the call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge.edges.s3_errors import translated
from bridge.errors import Broken
from bridge.etags import plain_md5
from bridge.settings import S3Settings
from bridge.store import ObjectInfo


class Listing:
    """The objects under one prefix, in the order of their keys."""

    def __init__(
        self, client: Any, settings: S3Settings, *, bucket: str, prefix: str, page_size: int
    ) -> None:
        self._client, self._settings = client, settings
        self._asked = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": page_size}
        self._what = f"listing s3://{bucket}/{prefix}"

    def objects(self, start_after: str) -> Iterator[ObjectInfo]:
        more: dict[str, str] = {"StartAfter": start_after} if start_after else {}
        last, version = start_after, 2
        while True:
            page = self._page(version, more)
            if version == 2 and "KeyCount" not in page and "NextContinuationToken" not in page:
                # Some builds of cortx-s3server answer as if version 1 had been asked for, from the beginning on.
                version = 1
                if start_after:
                    page = self._page(version, {"Marker": start_after})
            for item in page.get("Contents", []):
                last = item["Key"]
                yield ObjectInfo(
                    key=last,
                    size_bytes=item["Size"],
                    last_modified=item["LastModified"],
                    md5=plain_md5(item.get("ETag", "")),
                )
            if not page.get("IsTruncated"):
                return
            before = more
            token = page.get("NextContinuationToken") if version == 2 else None
            more = (
                {"ContinuationToken": token} if token else {"Marker" if version == 1 else "StartAfter": last}
            )
            if more == before:
                raise Broken(f"{self._what}: the store gives the same page again")

    def _page(self, version: int, more: dict[str, str]) -> dict[str, Any]:
        ask = self._client.list_objects if version == 1 else self._client.list_objects_v2
        with translated(self._settings, self._what):
            page: dict[str, Any] = ask(**self._asked, **more)
        return page
