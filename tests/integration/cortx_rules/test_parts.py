"""The stand-in for CORTX: uploads in parts. Each rule bites."""

from __future__ import annotations

import io

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from cortx_emulation.profiles import MIB
from tests.integration.cortx import DOC, PART, S3SERVER, Raw, by, naive_client, said


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
