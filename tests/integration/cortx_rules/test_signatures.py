"""The stand-in for CORTX: who sends it. Each rule bites."""

from __future__ import annotations

import httpx
import pytest

from tests.integration.cortx import (
    DOC,
    READER,
    RGW,
    S3SERVER,
    STRANGER,
    Raw,
    clock_moved,
    naive_client,
    refused,
    said,
)


def test_each_wrong_signature_is_told_apart(raw: Raw) -> None:
    unknown = Raw(url=raw.url, access_key="nobody")
    assert said(unknown.send("GET", "/box")) == (403, "InvalidAccessKeyId")
    wrong = Raw(url=raw.url, secret_key="wrong")
    assert said(wrong.send("GET", "/box")) == (403, "SignatureDoesNotMatch")
    for minutes in (-16, 16):
        with clock_moved(minutes):
            ready = raw.signed("GET", "/box", b"", {})
        assert said(httpx.get(f"{raw.url}/box", headers=ready)) == (403, "RequestTimeTooSkewed")
    with clock_moved(14):
        ready = raw.signed("GET", "/box", b"", {})
    assert httpx.get(f"{raw.url}/box", headers=ready).status_code == 200


def test_what_was_signed_cannot_be_changed(raw: Raw) -> None:
    ready = raw.signed("GET", "/box/a?acl", b"", {})
    for method, path in (("GET", "/box/b?acl"), ("GET", "/box/a"), ("DELETE", "/box/a?acl")):
        answer = httpx.request(method, raw.url + path, headers=ready)
        assert said(answer) == (403, "SignatureDoesNotMatch")
    assert said(httpx.get(f"{raw.url}/box/a?acl", headers=ready | {"X-Amz-Content-SHA256": "0"}))[0] == 403


@pytest.mark.parametrize("key", ["a b+c", "ü/日本", "100%", "a//b", "./x", "=&?#", "…/", "'\"\\"])
def test_odd_keys_are_signed_and_kept(raw: Raw, key: str) -> None:
    client = naive_client(raw.url)
    client.put_object(Bucket="box", Key=key, Body=key.encode())
    assert client.get_object(Bucket="box", Key=key)["Body"].read() == key.encode()
    listed = client.list_objects_v2(Bucket="box", Prefix=key)["Contents"]
    assert [one["Key"] for one in listed] == [key]
    client.delete_object(Bucket="box", Key=key)


def test_any_region_is_right(raw: Raw) -> None:
    assert Raw(url=raw.url, region="cortx").send("GET", "/box").status_code == 200


def test_the_second_signature_version_is_taken_and_checked(raw: Raw) -> None:
    assert naive_client(raw.url, signature_version="s3").list_objects_v2(Bucket="box")["Name"] == "box"
    with refused(403, "SignatureDoesNotMatch"):
        naive_client(raw.url, secret_key="wrong", signature_version="s3").list_objects_v2(Bucket="box")


def test_nobody_gets_in_without_a_signature(raw: Raw) -> None:
    assert said(httpx.get(f"{raw.url}/box")) == (403, "AccessDenied")
    assert said(httpx.put(f"{raw.url}/box/a", content=b"x")) == (403, "AccessDenied")
    head = httpx.head(f"{raw.url}/box/a")
    assert (head.status_code, head.content) == (403, b"")


def test_presigned_addresses_work_only_on_rgw(raw: Raw, profile: str) -> None:
    client = naive_client(raw.url, signature_version="s3v4")
    raw.send("PUT", "/box/signed", b"x")
    arguments = {"Params": {"Bucket": "box", "Key": "signed"}, "ExpiresIn": 60}
    url = client.generate_presigned_url("get_object", **arguments)
    if profile in S3SERVER:
        assert said(httpx.get(url)) == (403, "AccessDenied")
        return
    assert httpx.get(url).content == b"x"
    assert said(httpx.get(url.replace("/signed", "/other"))) == (403, "SignatureDoesNotMatch")
    assert said(httpx.put(url, content=b"y")) == (403, "SignatureDoesNotMatch")
    with clock_moved(-2):
        expired = client.generate_presigned_url("get_object", **arguments)
    assert said(httpx.get(expired)) == (403, "AccessDenied")


def test_uploads_by_form_and_preflights_are_not_known(doc: Raw) -> None:
    assert said(httpx.post(f"{doc.url}/box", files={"file": b"x"}, data={"key": "a"})) == (
        501,
        "NotImplemented",
    )
    assert said(httpx.options(f"{doc.url}/box/a")) == (501, "NotImplemented")


@pytest.mark.parametrize("profile", [DOC, RGW])
def test_a_reader_reads_only_and_a_stranger_nothing(raw: Raw) -> None:
    raw.send("PUT", "/box/mine", b"x")
    reader = Raw(url=raw.url, access_key=READER, secret_key="secret")
    assert reader.send("GET", "/box/mine").content == b"x"
    for method in ("PUT", "DELETE"):
        assert said(reader.send(method, "/box/mine")) == (403, "AccessDenied")
    stranger = Raw(url=raw.url, access_key=STRANGER, secret_key="secret")
    assert said(stranger.send("GET", "/box/mine")) == (403, "AccessDenied")
