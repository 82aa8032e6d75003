"""The stand-in for CORTX: what is sent. Each rule bites."""

from __future__ import annotations

import base64
import http.client
from hashlib import sha256

import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cortx_emulation.profiles import GIB
from tests.integration.cortx import S3SERVER, Raw, by, md5, naive_client, refused, said


def test_a_put_without_a_length_is_refused(raw: Raw) -> None:
    assert said(raw.send("PUT", "/box/a", b"x", chunked=True)) == (411, "MissingContentLength")
    assert raw.send("HEAD", "/box/a").status_code == 404
    assert raw.send("PUT", "/box/a", b"x").status_code == 200


def test_a_checksum_trailer_is_refused(raw: Raw, profile: str) -> None:
    trailer = {
        "x_amz_content_sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x_amz_decoded_content_length": "1",
    }
    found = said(raw.send("PUT", "/box/a", b"1\r\nx\r\n0\r\n\r\n", **trailer))
    assert found == by(profile, (503, "ServiceUnavailable"), (400, "XAmzContentSHA256Mismatch"))


def test_signed_chunks_are_taken_and_each_is_checked(raw: Raw) -> None:
    headers = {
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x-amz-decoded-content-length": "5",
    }
    ready = raw.signed("PUT", "/box/chunks", b"", headers)
    signer = S3SigV4Auth(Credentials(raw.access_key, raw.secret_key), "s3", raw.region)
    request = AWSRequest(method="PUT", url=raw.url)
    request.context["timestamp"] = ready["X-Amz-Date"]
    before, body = ready["Authorization"].rpartition("Signature=")[2], b""
    for chunk in (b"hello", b""):
        words = ["AWS4-HMAC-SHA256-PAYLOAD", ready["X-Amz-Date"], signer.credential_scope(request), before]
        words += [sha256(b"").hexdigest(), sha256(chunk).hexdigest()]
        before = signer.signature("\n".join(words), request)
        body += f"{len(chunk):x};chunk-signature={before}\r\n".encode() + chunk + b"\r\n"
    assert httpx.put(f"{raw.url}/box/chunks", content=body, headers=ready).status_code == 200
    assert raw.send("GET", "/box/chunks").content == b"hello"
    altered = httpx.put(f"{raw.url}/box/chunks", content=body.replace(b"hello", b"hallo"), headers=ready)
    assert said(altered) == (403, "SignatureDoesNotMatch")
    assert raw.send("GET", "/box/chunks").content == b"hello"


def test_a_wrong_md5_is_refused(raw: Raw) -> None:
    right = base64.b64encode(bytes.fromhex(md5(b"x"))).decode()
    assert raw.send("PUT", "/box/md5", b"x", Content_MD5=right).status_code == 200
    assert said(raw.send("PUT", "/box/md5", b"y", Content_MD5=right)) == (400, "BadDigest")
    assert said(raw.send("PUT", "/box/md5", b"x", Content_MD5="short")) == (400, "InvalidDigest")
    assert raw.send("GET", "/box/md5").content == b"x"


@pytest.mark.parametrize("profile", S3SERVER)
def test_deleting_many_wants_the_md5_of_the_list(raw: Raw) -> None:
    assert raw.send("PUT", "/box/many", b"x").status_code == 200
    body = b"<Delete><Object><Key>many</Key></Object></Delete>"
    right = base64.b64encode(bytes.fromhex(md5(body))).decode()
    assert said(raw.send("POST", "/box?delete", body)) == (400, "BadDigest")
    assert said(raw.send("POST", "/box?delete", body + b" ", Content_MD5=right)) == (400, "BadDigest")
    assert raw.send("HEAD", "/box/many").status_code == 200
    assert raw.send("POST", "/box?delete", body, Content_MD5=right).status_code == 200
    assert raw.send("HEAD", "/box/many").status_code == 404
    with refused(400, "BadDigest"):  # boto3 sends a CRC32 instead
        naive_client(raw.url).delete_objects(Bucket="box", Delete={"Objects": [{"Key": "many"}]})


@pytest.mark.parametrize(("count", "refusing"), [(1000, False), (1001, True)])
def test_a_thousand_is_the_most_to_delete_at_once(raw: Raw, profile: str, count: int, refusing: bool) -> None:
    body = b"<Delete>" + b"<Object><Key>none</Key></Object>" * count + b"</Delete>"
    answer = raw.send(
        "POST", "/box?delete", body, Content_MD5=base64.b64encode(bytes.fromhex(md5(body))).decode()
    )
    assert (answer.status_code == 400) is refusing
    if refusing and profile in S3SERVER:
        assert said(answer) == (400, "MaxMessageLengthExceeded")


def test_a_key_has_1024_bytes_at_most(raw: Raw, profile: str) -> None:
    assert raw.send("PUT", "/box/" + "k" * 1024, b"x").status_code == 200
    found = said(raw.send("PUT", "/box/" + "k" * 1025, b"x"))
    assert found == by(profile, (400, "KeyTooLongError"), (400, "InvalidObjectName"))


@pytest.mark.parametrize("profile", S3SERVER)
def test_metadata_and_headers_have_their_limits(raw: Raw) -> None:
    assert raw.send("PUT", "/box/meta", b"x", x_amz_meta_n="v" * 2047).status_code == 200
    assert said(raw.send("PUT", "/box/meta", b"x", x_amz_meta_n="v" * 2048)) == (400, "MetadataTooLarge")
    assert said(raw.send("PUT", "/box/meta", b"x", x_other="v" * 8192)) == (400, "MetadataTooLarge")


def test_more_than_5_gib_are_refused_before_they_are_sent(raw: Raw) -> None:
    ready = raw.signed("PUT", "/box/a", b"", {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
    ready["Content-Length"] = str(5 * GIB + 1)
    host, port = raw.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.putrequest("PUT", "/box/a", skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": f"{host}:{port}", **ready}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"EntityTooLarge" in answer.read()
    connection.close()
