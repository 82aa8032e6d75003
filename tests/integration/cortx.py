"""Raw requests to the stand-in for CORTX, signed by hand, and a client with boto3's own defaults."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import boto3
import httpx
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from cortx_emulation.profiles import MIB
from tests.integration.conftest import ACCESS_KEY, SECRET_KEY

CONTROL = "/_emulation"
STRANGER, READER = "stranger-key", "reader-key"
DOC, HEAD, RGW = "s3server-doc", "s3server-head", "rgw-motr"  # profiles of the stand-in
S3SERVER = (DOC, HEAD)
PART = b"p" * (5 * MIB)


def by(profile: str, s3server: tuple[int, str], rgw: tuple[int, str]) -> tuple[int, str]:
    return s3server if profile in S3SERVER else rgw


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Signs and sends exactly what it is given."""

    url: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = "us-east-1"

    def signed(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers to send. x-amz-content-sha256 is kept where it is given."""
        request = AWSRequest(method=method, url=self.url + path, data=body, headers=dict(headers))
        signer = S3SigV4Auth(Credentials(self.access_key, self.secret_key), "s3", self.region)
        if payload := headers.get("x-amz-content-sha256"):
            signer.payload = lambda _: payload
        signer.add_auth(request)
        return {name: str(value) for name, value in request.headers.items()}

    def send(
        self, method: str, path: str, body: bytes = b"", *, chunked: bool = False, **headers: str
    ) -> httpx.Response:
        """`headers` by their names with `_` for `-`. Chunked: without Content-Length."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        ready = self.signed(method, path, body, given)
        content: Any = iter([body]) if chunked else body
        with httpx.Client(trust_env=False, timeout=20) as client:
            return client.request(method, self.url + path, content=content, headers=ready)

    def initiate(self, path: str) -> str:
        """Opens an upload; its id."""
        answer = self.send("POST", f"{path}?uploads")
        assert answer.status_code == 200, answer.text
        return field(answer, "UploadId")

    def part(self, path: str, upload_id: str, number: int, body: bytes) -> httpx.Response:
        return self.send("PUT", f"{path}?partNumber={number}&uploadId={upload_id}", body)

    def complete(self, path: str, upload_id: str, parts: Mapping[int, bytes]) -> httpx.Response:
        """`parts`: number -> what was sent, in the order of the list."""
        rows = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{md5(body)}</ETag></Part>"
            for number, body in parts.items()
        )
        body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        return self.send("POST", f"{path}?uploadId={upload_id}", body)


def md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def field(answer: httpx.Response, name: str) -> str:
    """The text of the first element of this name."""
    for element in ElementTree.fromstring(answer.content).iter():
        if element.tag.rpartition("}")[2] == name:
            return element.text or ""
    raise AssertionError(f"no {name} in {answer.text}")


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, which must look as every refusal does."""
    assert "close" in answer.headers["connection"]
    for name in ("Message", "Resource", "RequestId"):
        field(answer, name)
    if answer.status_code == 503:
        assert answer.headers["retry-after"] == "1"
    return answer.status_code, field(answer, "Code")


def naive_client(
    url: str, *, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY, **config: Any
) -> Any:
    """boto3 as it comes, but for the retries."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **config),
    )


@contextmanager
def refused(status: int, code: str) -> Iterator[None]:
    """The block's call is refused so by the server."""
    try:
        yield
    except ClientError as error:
        found = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        assert found == (status, code)
        return
    raise AssertionError(f"the call was not refused with {status} {code}")


@contextmanager
def clock_moved(minutes: float) -> Iterator[None]:
    """botocore's signer reads the time through this one name."""
    import botocore.auth as auth

    real = auth.get_current_datetime
    auth.get_current_datetime = lambda *a, **k: real(*a, **k) + datetime.timedelta(minutes=minutes)
    try:
        yield
    finally:
        auth.get_current_datetime = real
