"""The stand-in for CORTX: buckets, listings and policies. Each rule bites."""

from __future__ import annotations

import pytest

from tests.integration.conftest import cortx_server
from tests.integration.cortx import DOC, RGW, STRANGER, Raw, by, field, said


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
