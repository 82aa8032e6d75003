"""The stand-in for CORTX: what it does not see, and what it does not know. Each rule bites."""

from __future__ import annotations

import httpx
import pytest

from tests.integration.cortx import CONTROL, HEAD, RGW, S3SERVER, Raw, md5, naive_client, said


def test_conditions_are_not_read(raw: Raw, profile: str) -> None:
    raw.send("PUT", "/box/if", b"old")
    assert raw.send("PUT", "/box/if", b"new", If_None_Match="*").status_code == 200
    assert raw.send("GET", "/box/if").content == b"new"
    reading = raw.send("GET", "/box/if", If_None_Match=f'"{md5(b"new")}"').status_code
    assert reading == (200 if profile in S3SERVER else 304)
    assert raw.send("DELETE", "/box/if", If_Match='"0"').status_code == 204
    assert raw.send("HEAD", "/box/if").status_code == 404


def test_a_condition_of_a_copy_is_not_read(doc: Raw) -> None:
    doc.send("PUT", "/box/from", b"x")
    condition = {"x_amz_copy_source": "/box/from", "x_amz_copy_source_if_match": '"0"'}
    assert doc.send("PUT", "/box/to", **condition).status_code == 200
    assert doc.send("GET", "/box/to").content == b"x"


@pytest.mark.parametrize("profile", S3SERVER)
def test_only_type_and_metadata_come_back(raw: Raw) -> None:
    given = {
        "content_type": "image/png",
        "x_amz_meta_a": "1",
        "cache_control": "no-store",
        "content_encoding": "gzip",
        "content_disposition": "attachment",
        "content_language": "de",
        "expires": "Thu, 01 Jan 2026 00:00:00 GMT",
        "x_amz_storage_class": "STANDARD_IA",
        "x_amz_server_side_encryption": "AES256",
    }
    assert raw.send("PUT", "/box/headers", b"x", **given).status_code == 200
    found = raw.send("HEAD", "/box/headers").headers
    assert (found["content-type"], found["x-amz-meta-a"]) == ("image/png", "1")
    for name in list(given)[2:]:
        assert name.replace("_", "-") not in found


def test_rgw_gives_an_underscore_back_as_a_hyphen(raw: Raw, profile: str) -> None:
    client = naive_client(raw.url)
    client.put_object(Bucket="box", Key="under", Body=b"x", Metadata={"a_b": "1"})
    name = "a_b" if profile in S3SERVER else "a-b"
    assert client.head_object(Bucket="box", Key="under")["Metadata"] == {name: "1"}


@pytest.mark.parametrize("profile", S3SERVER)
@pytest.mark.parametrize(
    "name",
    ["versioning", "versions", "lifecycle", "cors", "website", "encryption", "notification", "replication"],
)
def test_what_is_not_implemented_says_so(raw: Raw, name: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert said(raw.send(method, f"/box?{name}")) == (501, "NotImplemented")


def test_rgw_has_no_lifecycle(servers: dict[str, str]) -> None:
    raw = Raw(url=servers[RGW])
    assert said(raw.send("GET", "/box?lifecycle")) == (501, "NotImplemented")
    assert raw.send("GET", "/box?versioning").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/box/trip?retention"), ("DELETE", "/box?publicAccessBlock"), ("GET", "/box/trip?attributes")],
)
def test_a_call_that_would_be_misread_trips_and_does_nothing(doc: Raw, method: str, path: str) -> None:
    doc.send("PUT", "/box/trip", b"x")
    answer = doc.send(method, path, b"<Retention/>")
    assert said(answer) == (599, "CortxWouldMisreadThis")
    tripped = httpx.get(f"{doc.url}{CONTROL}/tripped").json()
    assert tripped[-1]["call"] == f"{method} {path}"
    assert doc.send("GET", "/box/trip").content == b"x"
    httpx.delete(f"{doc.url}{CONTROL}/tripped")
    assert httpx.get(f"{doc.url}{CONTROL}/tripped").json() == []


def test_without_the_tripwire_the_call_is_misread(servers: dict[str, str]) -> None:
    raw = Raw(url=servers[HEAD])
    raw.send("PUT", "/box/trip", b"x")
    assert raw.send("PUT", "/box/trip?retention", b"<Retention/>").status_code == 200
    assert raw.send("GET", "/box/trip").content == b"<Retention/>"
    assert raw.send("PUT", "/gone").status_code == 200
    assert raw.send("DELETE", "/gone?publicAccessBlock").status_code == 204
    assert raw.send("HEAD", "/gone").status_code == 404


@pytest.mark.parametrize("profile", S3SERVER)
def test_versions_are_not_known(raw: Raw) -> None:
    raw.send("PUT", "/box/version", b"x")
    answer = raw.send("GET", "/box/version?versionId=abc")
    assert answer.content == b"x"
    assert "x-amz-version-id" not in answer.headers
    assert raw.send("DELETE", "/box/version?versionId=abc").status_code == 204
    assert raw.send("HEAD", "/box/version").status_code == 404
