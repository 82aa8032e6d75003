"""Each rule of the stand-in for CORTX bites: by requests made by hand, and by boto3 as it comes."""

from __future__ import annotations

import base64
import http.client
import io
import threading
import time
from collections.abc import Iterator
from hashlib import sha256

import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from click.testing import CliRunner

from cortx_emulation.__main__ import main
from cortx_emulation.answers import Answer, Refusal
from cortx_emulation.faults import Faults, Kind
from cortx_emulation.profiles import GIB, MIB, PROFILES, Options
from cortx_emulation.request import S3Request
from cortx_emulation.rules import copies
from tests.integration.conftest import cortx_server
from tests.integration.cortx import CONTROL, Raw, clock_moved, field, md5, naive_client, refused, said

STRANGER, READER = "stranger-key", "reader-key"
MORE_KEYS = ("--stranger-key", f"{STRANGER}:secret", "--read-only-key", f"{READER}:secret")
DOC, HEAD, RGW = "s3server-doc", "s3server-head", "rgw-motr"
S3SERVER = (DOC, HEAD)
BOTH_AND_RGW = (DOC, HEAD, RGW)
PART = b"p" * (5 * MIB)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Profile -> address."""
    folder = tmp_path_factory.mktemp
    with (
        cortx_server(folder("doc"), DOC, *MORE_KEYS) as doc,
        cortx_server(folder("head"), HEAD, "--no-tripwire") as head,
        cortx_server(folder("rgw"), RGW, *MORE_KEYS) as rgw,
    ):
        found = {DOC: doc, HEAD: head, RGW: rgw}
        for url in found.values():
            assert Raw(url=url).send("PUT", "/box").status_code == 200
        yield found


@pytest.fixture(params=BOTH_AND_RGW)
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def raw(servers: dict[str, str], profile: str) -> Raw:
    return Raw(url=servers[profile])


@pytest.fixture
def doc(servers: dict[str, str]) -> Raw:
    return Raw(url=servers[DOC])


def by(profile: str, s3server: tuple[int, str], rgw: tuple[int, str]) -> tuple[int, str]:
    return s3server if profile in S3SERVER else rgw


# --- what is sent ---------------------------------------------------------------------------------------------------


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


# --- who sends it ---------------------------------------------------------------------------------------------------


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


# --- what is not seen, and what is not known ---------------------------------------------------------------------------


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


# --- buckets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a--b", "a..b", "a.-b", "Upper", "ab", "a" * 64, "-ab", "ab-", "1.2.3.4", "a_b"]
)
def test_a_bad_bucket_name_is_refused(raw: Raw, profile: str, name: str) -> None:
    answer = raw.send("PUT", f"/{name}")
    if profile == RGW and name in ("a--b", "a.-b"):
        assert answer.status_code == 200
    else:
        assert said(answer) == (400, "InvalidBucketName")


def test_an_own_bucket_is_made_once(raw: Raw, profile: str) -> None:
    answer = raw.send("PUT", "/box")
    if profile == RGW:
        assert answer.status_code == 200
    else:
        assert said(answer) == (409, "BucketAlreadyOwnedByYou")


@pytest.mark.parametrize("profile", [DOC, RGW])
def test_the_bucket_of_another_is_not_available(raw: Raw) -> None:
    stranger = Raw(url=raw.url, access_key=STRANGER, secret_key="secret")
    assert said(stranger.send("PUT", "/box")) == (409, "BucketAlreadyExists")


def test_where_a_bucket_may_lie(raw: Raw, profile: str) -> None:
    body = b"<CreateBucketConfiguration><LocationConstraint>moon</LocationConstraint></CreateBucketConfiguration>"
    answer = raw.send("PUT", "/far-away", body)
    if profile == RGW:
        assert said(answer) == (400, "InvalidLocationConstraint")
        assert raw.send("PUT", "/near", body.replace(b"moon", b"default")).status_code == 200
    else:
        assert answer.status_code == 200
        assert field(raw.send("GET", "/far-away?location"), "LocationConstraint") == "moon"
        assert field(raw.send("GET", "/box?location"), "LocationConstraint") == "us-west-2"


def test_a_listing_wants_a_number(raw: Raw, profile: str) -> None:
    assert said(raw.send("GET", "/box?max-keys=many")) == (400, "InvalidArgument")
    found = field(raw.send("GET", "/box?list-type=2&max-keys=5000"), "MaxKeys")
    assert found == ("1000" if profile == RGW else "5000")


def test_some_builds_know_the_first_listing_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    with cortx_server(tmp_path_factory.mktemp("v1"), DOC, "--no-list-v2") as url:
        raw = Raw(url=url)
        raw.send("PUT", "/box")
        raw.send("PUT", "/box/a", b"x")
        answer = raw.send("GET", "/box?list-type=2&start-after=a")
        assert field(answer, "Key") == "a"
        assert b"KeyCount" not in answer.content


@pytest.mark.parametrize("policy", [b"no json", b'{"x": 1}', b'{"Statement": []}', b'{"Statement": [{}]}'])
def test_a_policy_that_is_none_is_refused(raw: Raw, profile: str, policy: bytes) -> None:
    found = said(raw.send("PUT", "/box?policy", policy))
    assert found == by(profile, (400, "MalformedPolicy"), (400, "InvalidArgument"))
    assert raw.send("GET", "/box").status_code == 200


# --- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("directive", ["x_amz_metadata_directive", "x_amz_tagging_directive"])
def test_a_copy_keeps_what_the_source_has(doc: Raw, directive: str) -> None:
    doc.send("PUT", "/box/from", b"x")

    def copy(word: str) -> httpx.Response:
        return doc.send("PUT", "/box/to", x_amz_copy_source="/box/from", **{directive: word})

    assert copy("COPY").status_code == 200
    assert said(copy("REPLACE")) == (501, "NotImplemented")
    assert said(copy("OTHER")) == (400, "InvalidArgument")


def test_a_copy_onto_itself_is_refused(raw: Raw, profile: str) -> None:
    raw.send("PUT", "/box/self", b"x")
    found = said(raw.send("PUT", "/box/self", x_amz_copy_source="/box/self"))
    assert found == by(profile, (400, "InvalidRequest"), (501, "NotImplemented"))


def test_a_copy_has_5_gib_at_most() -> None:
    request = S3Request(
        {"REQUEST_METHOD": "PUT", "RAW_URI": "/box/to", "HTTP_X_AMZ_COPY_SOURCE": "/box/from"}
    )

    def check(size_bytes: int) -> None:
        source = Answer(status=200, headers=(("Content-Length", str(size_bytes)),))
        copies.check(request, PROFILES[DOC], Options(), lambda method, path: source)

    check(5 * GIB)
    with pytest.raises(Refusal, match="InvalidRequest"):
        check(5 * GIB + 1)


@pytest.mark.parametrize("profile", S3SERVER)
def test_a_part_cannot_be_copied(raw: Raw) -> None:
    upload_id = raw.initiate("/box/part-copy")
    path = f"/box/part-copy?partNumber=1&uploadId={upload_id}"
    assert said(raw.send("PUT", path, x_amz_copy_source="/box/from")) == (501, "NotImplemented")
    raw.send("DELETE", f"/box/part-copy?uploadId={upload_id}")


# --- uploads in parts ---------------------------------------------------------------------------------------------------


def test_part_1_comes_first(servers: dict[str, str], raw: Raw, profile: str) -> None:
    upload_id = raw.initiate("/box/order")
    answer = raw.part("/box/order", upload_id, 2, PART)
    if profile == DOC:
        assert said(answer) == (503, "ServiceUnavailable")
    else:
        assert answer.status_code == 200
    assert raw.part("/box/order", upload_id, 1, PART).status_code == 200
    assert raw.part("/box/order", upload_id, 2, b"end").status_code == 200
    assert raw.complete("/box/order", upload_id, {1: PART, 2: b"end"}).status_code == 200
    assert raw.send("GET", "/box/order").content == PART + b"end"


def test_part_1_is_a_multiple_of_1_mib_and_stays_as_large(raw: Raw, profile: str) -> None:
    upload_id = raw.initiate("/box/unit")
    odd = raw.part("/box/unit", upload_id, 1, PART + b"x")
    assert raw.part("/box/unit", upload_id, 1, PART).status_code == 200
    larger = raw.part("/box/unit", upload_id, 1, PART + b"p" * MIB)
    if profile == DOC:
        assert said(odd) == (400, "InvalidPartSize")
        assert said(larger) == (403, "InvalidObjectState")
    else:
        assert (odd.status_code, larger.status_code) == (200, 200)
    raw.send("DELETE", f"/box/unit?uploadId={upload_id}")


def test_parts_of_unequal_size_end_the_upload(raw: Raw, profile: str) -> None:
    upload_id = raw.initiate("/box/unequal")
    parts = {1: PART, 2: PART + b"p" * MIB, 3: b"end"}
    for number, body in parts.items():
        assert raw.part("/box/unequal", upload_id, number, body).status_code == 200
    answer = raw.complete("/box/unequal", upload_id, parts)
    if profile == DOC:
        assert said(answer) == (403, "InvalidObjectState")
        assert said(raw.part("/box/unequal", upload_id, 4, PART)) == (404, "NoSuchUpload")
        raw.send("DELETE", f"/box/unequal?uploadId={raw.initiate('/box/unequal')}")  # no longer in the way
    else:
        assert answer.status_code == 200


def test_a_key_has_one_open_upload(raw: Raw, profile: str) -> None:
    first = raw.initiate("/box/one")
    answer = raw.send("POST", "/box/one?uploads")
    if profile == DOC:
        assert said(answer) == (403, "InvalidObjectState")
        other = raw.initiate("/box/another")
        raw.send("DELETE", f"/box/another?uploadId={other}")
    else:
        assert answer.status_code == 200
    assert raw.send("DELETE", f"/box/one?uploadId={first}").status_code == 204
    again = raw.initiate("/box/one")
    raw.send("DELETE", f"/box/one?uploadId={again}")


def test_an_open_upload_goes_with_its_bucket(doc: Raw) -> None:
    doc.send("PUT", "/short-lived")
    upload_id = doc.initiate("/short-lived/a")
    assert doc.send("DELETE", "/short-lived").status_code == 204
    doc.send("PUT", "/short-lived")
    assert said(doc.part("/short-lived/a", upload_id, 1, PART)) == (404, "NoSuchUpload")
    doc.initiate("/short-lived/a")


def test_the_list_of_parts_is_in_order_and_whole(raw: Raw, profile: str) -> None:
    upload_id = raw.initiate("/box/list")
    parts = {1: PART, 2: PART, 3: b"end"}
    for number, body in parts.items():
        raw.part("/box/list", upload_id, number, body)
    assert said(raw.complete("/box/list", upload_id, {1: PART, 2: PART})) == (400, "InvalidPart")
    assert said(raw.complete("/box/list", upload_id, parts | {4: b"none"})) == (400, "InvalidPart")
    shuffled = raw.complete("/box/list", upload_id, {2: PART, 1: PART, 3: b"end"})
    if profile in S3SERVER:
        assert said(shuffled) == (400, "InvalidPartOrder")
        assert raw.complete("/box/list", upload_id, parts).status_code == 200
    else:
        assert shuffled.status_code == 200
    assert raw.send("GET", "/box/list").content == PART + PART + b"end"


def test_numbers_have_no_gap(raw: Raw, profile: str) -> None:
    upload_id = raw.initiate("/box/gap")
    for number in (1, 3):
        raw.part("/box/gap", upload_id, number, PART)
    answer = raw.complete("/box/gap", upload_id, {1: PART, 3: PART})
    if profile in S3SERVER:
        assert said(answer) == (400, "InvalidPart")
        raw.send("DELETE", f"/box/gap?uploadId={upload_id}")
    else:
        assert answer.status_code == 200


def test_a_part_before_the_last_has_5_mib(raw: Raw) -> None:
    upload_id = raw.initiate("/box/small")
    parts = {1: b"p" * MIB, 2: b"end"}
    for number, body in parts.items():
        raw.part("/box/small", upload_id, number, body)
    assert said(raw.complete("/box/small", upload_id, parts)) == (400, "EntityTooSmall")
    raw.send("DELETE", f"/box/small?uploadId={upload_id}")


@pytest.mark.parametrize("number", ["0", "10001", "x"])
def test_part_numbers_end_at_10000(raw: Raw, number: str) -> None:
    upload_id = raw.initiate("/box/number")
    path = f"/box/number?partNumber={number}&uploadId={upload_id}"
    assert said(raw.send("PUT", path, b"x")) == (400, "InvalidPart")
    raw.send("DELETE", f"/box/number?uploadId={upload_id}")


def test_an_unknown_upload_is_told(raw: Raw, profile: str) -> None:
    assert said(raw.part("/box/none", "nothing", 1, PART)) == (404, "NoSuchUpload")
    assert said(raw.send("DELETE", "/box/none?uploadId=nothing")) == (404, "NoSuchUpload")
    assert said(raw.send("GET", "/box/none?uploadId=nothing")) == (404, "NoSuchUpload")
    found = said(raw.complete("/box/none", "nothing", {1: PART}))
    assert found == by(profile, (403, "InvalidObjectState"), (404, "NoSuchUpload"))


def test_an_upload_that_is_complete_is_not_completed_again(raw: Raw, profile: str) -> None:
    upload_id = raw.initiate("/box/twice")
    raw.part("/box/twice", upload_id, 1, PART)
    assert raw.complete("/box/twice", upload_id, {1: PART}).status_code == 200
    again = raw.complete("/box/twice", upload_id, {1: PART})
    if profile in S3SERVER:
        assert said(again) == (403, "InvalidObjectState")
    else:
        assert again.status_code == 200
    assert raw.send("GET", "/box/twice").content == PART


def test_boto3_as_it_comes_fails_at_a_large_file_and_with_equal_parts_in_order_it_does_not(doc: Raw) -> None:
    client, body = naive_client(doc.url), PART * 3
    odd = TransferConfig(multipart_threshold=1, multipart_chunksize=5 * MIB + 1)  # and in several threads
    with pytest.raises(ClientError, match=r"InvalidPartSize|ServiceUnavailable|InvalidObjectState"):
        client.upload_fileobj(io.BytesIO(body), "box", "large", Config=odd)
    for left in client.list_multipart_uploads(Bucket="box").get("Uploads", []):
        doc.send("DELETE", f"/box/{left['Key']}?uploadId={left['UploadId']}")
    ordered = TransferConfig(multipart_threshold=1, multipart_chunksize=5 * MIB, use_threads=False)
    client.upload_fileobj(io.BytesIO(body), "box", "large", Config=ordered)
    assert doc.send("GET", "/box/large").content == body


# --- faults -------------------------------------------------------------------------------------------------------------

FAULT = "x_emulation_fault"


def test_a_busy_store_says_when_to_come_back(raw: Raw, profile: str) -> None:
    answer = raw.send("PUT", "/box/busy", b"x", **{FAULT: "busy"})
    assert said(answer) == by(profile, (503, "ServiceUnavailable"), (503, "SlowDown"))
    assert raw.send("HEAD", "/box/busy").status_code == 404
    late = raw.send("PUT", "/box/busy", b"x", **{FAULT: "busy-late"})
    assert late.status_code == 503
    assert raw.send("GET", "/box/busy").content == b"x"


def test_an_answer_can_be_lost_after_the_write(doc: Raw) -> None:
    with pytest.raises(httpx.TransportError):
        doc.send("PUT", "/box/lost", b"x", **{FAULT: "lost"})
    assert doc.send("GET", "/box/lost").content == b"x"


def test_a_connection_can_end_in_the_middle(doc: Raw) -> None:
    with pytest.raises(httpx.TransportError):
        doc.send("PUT", "/box/half", b"x" * MIB, **{FAULT: "reset"})
    assert doc.send("HEAD", "/box/half").status_code == 404
    doc.send("PUT", "/box/half", b"x" * MIB)
    with pytest.raises(httpx.TransportError):
        doc.send("GET", "/box/half", **{FAULT: "reset"})


def test_a_client_can_be_told_that_it_was_too_slow(doc: Raw) -> None:
    answer = doc.send("PUT", "/box/slow", b"x", **{FAULT: "timeout"})
    assert said(answer) == (400, "RequestTimeout")


def test_a_long_operation_can_fail_inside_a_200(doc: Raw) -> None:
    doc.send("PUT", "/box/from", b"x")
    answer = doc.send("PUT", "/box/inside", x_amz_copy_source="/box/from", **{FAULT: "error-inside"})
    assert (answer.status_code, field(answer, "Code")) == (200, "InternalError")
    assert doc.send("HEAD", "/box/inside").status_code == 404


def test_a_fault_is_armed_for_chosen_requests(doc: Raw) -> None:
    armed = {"kind": "busy", "method": "PUT", "path": "/box/armed", "skip": 1, "times": 2}
    httpx.post(f"{doc.url}{CONTROL}/faults", json=armed).raise_for_status()
    assert doc.send("GET", "/box").status_code == 200
    found = [doc.send("PUT", "/box/armed", b"x").status_code for _ in range(4)]
    assert found == [200, 503, 503, 200]
    httpx.post(f"{doc.url}{CONTROL}/faults", json=armed | {"skip": 0}).raise_for_status()
    httpx.delete(f"{doc.url}{CONTROL}/faults").raise_for_status()
    assert doc.send("PUT", "/box/armed", b"x").status_code == 200


def test_faults_by_chance_are_those_of_their_seed() -> None:
    request = S3Request({"REQUEST_METHOD": "GET", "RAW_URI": "/box/a"})

    def met(text: str) -> list[Kind | None]:
        faults = Faults.parsed(text)
        return [faults.next(request) for _ in range(200)]

    assert met("7:0.2") == met("7:0.2") != met("8:0.2")
    assert 15 <= sum(kind is not None for kind in met("7:0.2")) <= 65
    assert set(met("7:1")) == set(Kind)
    assert set(met("7:0")) == {None}


def test_a_replaced_object_is_not_there_for_a_moment_on_rgw(tmp_path_factory: pytest.TempPathFactory) -> None:
    with cortx_server(tmp_path_factory.mktemp("gap"), RGW, "--overwrite-gap", "1.5") as url:
        raw = Raw(url=url)
        raw.send("PUT", "/box")
        begun = time.monotonic()
        raw.send("PUT", "/box/a", b"old")
        assert time.monotonic() - begun < 1  # a new key replaces nothing
        writer = threading.Thread(target=raw.send, args=("PUT", "/box/a", b"new"))
        writer.start()
        found = set()
        while writer.is_alive():
            found.add(raw.send("GET", "/box/a").status_code)
        writer.join()
        assert 404 in found
        assert raw.send("GET", "/box/a").content == b"new"


def test_a_key_may_not_be_missing_on_the_command_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    runner = CliRunner(env={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
    assert "without a key nobody gets in" in runner.invoke(main, ["--port", "1"]).output
    assert "seed:rate" in runner.invoke(main, ["--port", "1", "--faults", "often"]).output
