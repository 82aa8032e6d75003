"""The bucket client over HTTP keeps the promises of every store: with moto, and with the stand-in for each CORTX."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.edges.s3 import S3Store, make_client
from bridge.settings import S3Settings
from tests.integration.conftest import ACCESS_KEY, SECRET_KEY, cortx_server, moto_server, nothing_was_misread
from tests.s3_contract import S3Contract


@pytest.fixture(scope="module", params=["moto", "s3server-doc", "s3server-head", "rgw-motr"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "moto":
        with moto_server(folder) as url:
            yield url
    else:
        with cortx_server(folder, request.param) as url:
            yield url
            nothing_was_misread(url)


def settings_of(server: str) -> S3Settings:
    return S3Settings(
        endpoint_url=server,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        bucket=f"test-{uuid.uuid4().hex[:20]}",
    )


@pytest.fixture(scope="module")
def client(server: str) -> Any:
    return make_client(settings_of(server))


@pytest.fixture
def bucket(server: str, client: Any) -> S3Settings:
    settings = settings_of(server)
    S3Store(settings, client=client).create_bucket()
    return settings


@pytest.fixture
def small_pages(bucket: S3Settings, client: Any) -> S3Store:
    return S3Store(bucket, client=client, page_size=2)


@pytest.fixture
def whole_pages(bucket: S3Settings, client: Any) -> S3Store:
    return S3Store(bucket, client=client)


@pytest.fixture
def thousands() -> tuple[int, int | None]:
    return 1100, 100  # a missing key is no error, so not all of them need be written first


class TestS3Store(S3Contract):
    pass


# Some builds of cortx-s3server answer `?list-type=2` as if version 1 had been asked for.


@pytest.fixture(scope="module")
def old_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cortx_server(tmp_path_factory.mktemp("v1"), "s3server-doc", "--no-list-v2") as url:
        yield url


@pytest.fixture(scope="module")
def old(old_url: str) -> S3Store:
    settings = S3Settings(
        endpoint_url=old_url, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY, bucket="old-one"
    )
    store = S3Store(settings, page_size=2)
    store.create_bucket()
    for number in range(5):
        store.put(f"log/é {number}", b"x")
    store.put("loh", b"x")
    return store


def test_a_listing_of_the_first_version_is_listed_past_a_page(old: S3Store) -> None:
    assert [info.key for info in old.keys("log/")] == [f"log/é {number}" for number in range(5)]
    assert len(list(old.keys())) == 6


def test_a_listing_of_the_first_version_starts_after_a_key(old: S3Store) -> None:
    found = [info.key for info in old.keys("log/", start_after="log/é 1")]
    assert found == [f"log/é {number}" for number in (2, 3, 4)]
    assert list(old.keys("log/", start_after="log/é 4")) == []


def test_a_listing_of_the_first_version_of_an_empty_bucket_is_empty(old: S3Store) -> None:
    other = S3Store(dataclasses.replace(old._settings, bucket="old-two"))
    other.create_bucket()
    assert list(other.keys()) == []
