"""What the bucket client decides without a network: when to come again, and what an answer means."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.edges.s3_bodies import Window
from bridge.edges.s3_client import parse_time, retry_wait_s
from bridge.edges.s3_errors import error_of
from bridge.edges.s3_upload import KeyLocks, part_bytes_for
from bridge.errors import Broken, Busy, Corrupt, FileChanged, Full, NotFound, OutsideError, Refused
from bridge.settings import MIB


@pytest.mark.parametrize(
    ("tries", "status", "code", "retry_after", "wait"),
    [
        (1, 503, "ServiceUnavailable", None, 1),
        (1, 503, "ServiceUnavailable", "2", 2),
        (3, 503, "SlowDown", "1", 4),
        (1, 503, "ServiceUnavailable", "3600", 30),  # nobody waits an hour in a request
        (1, 503, "ServiceUnavailable", "Wed, 21 Oct 2026", 1),
        (1, 400, "RequestTimeout", None, 1),
        (1, 500, "InternalError", None, 0.2),
        (1, 403, "AccessDenied", None, None),
        (1, 403, "InvalidObjectState", None, None),
        (1, 411, "MissingContentLength", None, None),
        (1, 404, "NoSuchKey", None, None),
        (1, 200, "", None, None),
    ],
)
def test_only_what_can_pass_is_asked_again(
    tries: int, status: int, code: str, retry_after: str | None, wait: float | None
) -> None:
    found = retry_wait_s(tries, status=status, code=code, retry_after=retry_after, no_answer=False)
    assert found == wait


def test_a_store_that_does_not_answer_is_asked_again_soon() -> None:
    assert retry_wait_s(1, status=0, code="", retry_after=None, no_answer=True) == 0.2


@pytest.mark.parametrize(
    ("status", "code", "kind", "hint"),
    [
        (404, "NoSuchKey", NotFound, ""),
        (404, "", NotFound, ""),  # a HEAD
        (404, "NoSuchBucket", NotFound, "create the bucket, or correct BUCKET"),
        (403, "InvalidAccessKeyId", Refused, "check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", Refused, "check AWS_SECRET_ACCESS_KEY"),
        (403, "RequestTimeTooSkewed", Refused, "clock is more than 15 minutes off"),
        (403, "AccessDenied", Refused, "check the bucket policy"),
        (403, "", Refused, "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, the clock and the bucket policy"),
        (403, "QuotaExceeded", Full, "raise the quota"),
        (507, "XMinioStorageFull", Full, "make room"),
        (503, "ServiceUnavailable", Busy, "try again later"),
        (503, "SlowDown", Busy, "try again later"),
        (400, "RequestTimeout", Busy, "try again later"),
        (500, "InternalError", Broken, "look into its log"),
        (502, "", Broken, "look into its log"),
        (400, "BadDigest", Corrupt, "send it again"),
        (411, "MissingContentLength", Refused, "proxy"),
        (501, "NotImplemented", Refused, "cannot do that"),
        (418, "Teapot", Refused, ""),
    ],
)
def test_each_answer_of_a_store_has_its_error_and_says_what_to_do(
    status: int, code: str, kind: type[OutsideError], hint: str
) -> None:
    error = error_of("writing a", status, code)
    assert type(error) is kind
    assert hint in str(error)
    assert str(error).startswith(f"writing a: {code or status}")


def test_parts_stay_within_ten_thousand() -> None:
    assert part_bytes_for(100 * MIB, 16 * MIB) == 16 * MIB
    assert part_bytes_for(160_000 * MIB, 16 * MIB) == 16 * MIB
    assert part_bytes_for(160_000 * MIB + 1, 16 * MIB) == 32 * MIB


def test_a_window_is_a_part_of_a_file_that_can_be_read_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with (tmp_path / "file").open("rb", buffering=0) as file:
        window = Window(file, 2, 5)
        assert len(window) == 5
        assert (window.read(2), window.tell(), window.read(), window.read()) == (b"23", 2, b"456", b"")
        window.seek(0)
        assert window.read() == b"23456"
        (tmp_path / "file").write_bytes(b"012")
        window.seek(0)
        with pytest.raises(FileChanged, match="became shorter"):
            window.read()


def test_a_lock_of_a_key_is_forgotten_when_nobody_holds_it() -> None:
    locks = KeyLocks()
    with locks.hold("bucket", "a"), locks.hold("bucket", "b"):
        assert len(locks._locks) == 2
    assert locks._locks == {}


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T09:00:01.000Z",  # a listing
        "2026-11-22T09:00:01Z",
        "Sun, 22 Nov 2026 09:00:01 GMT",  # a header
        "1795338001",  # epoch seconds: no store of ours, but botocore reads it
        1795338001,
        "20261122T090001Z",
    ],
)
def test_a_time_is_read_as_stores_write_it(text: str | int) -> None:
    assert parse_time(text) == datetime(2026, 11, 22, 9, 0, 1, tzinfo=UTC)


def test_what_is_no_time_is_refused_as_by_botocore() -> None:
    with pytest.raises(ValueError, match="never"):
        parse_time("never")
