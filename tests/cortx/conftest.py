"""The real endpoint that `make cortx-test` names. It is asked only for buckets that these tests make, and remove."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.edges.s3 import S3Store, make_client
from bridge.settings import S3Settings

NEEDED = ("S3_TEST_ENDPOINT_URL", "S3_TEST_ACCESS_KEY", "S3_TEST_SECRET_KEY")


def pytest_sessionstart() -> None:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        pytest.exit(
            f"{', '.join(missing)} not given. Use: make cortx-test S3_TEST_ENDPOINT_URL=https://cortx.example "
            "S3_TEST_ACCESS_KEY=… S3_TEST_SECRET_KEY=… [S3_TEST_CA_BUNDLE=ca.pem]; "
            "the key must be allowed to create and delete buckets",
            returncode=2,
        )


@pytest.fixture(scope="session")
def endpoint() -> S3Settings:
    url, access_key, secret_key = (os.environ[name] for name in NEEDED)
    return S3Settings(
        endpoint_url=url,
        access_key_id=access_key,
        secret_access_key=secret_key,
        ca_bundle=os.environ.get("S3_TEST_CA_BUNDLE") or None,
        bucket=f"contract-{uuid.uuid4().hex[:20]}",
    )


@pytest.fixture(scope="session")
def client(endpoint: S3Settings) -> Any:
    return make_client(endpoint)


@pytest.fixture(scope="session")
def bucket_for_all(endpoint: S3Settings, client: Any) -> Iterator[S3Settings]:
    """Buckets can be few and slow to make on a real store: one serves all tests."""
    store = S3Store(endpoint, client=client)
    store.create_bucket()
    yield endpoint
    empty(store, client)
    store.delete_bucket()


@pytest.fixture
def bucket(bucket_for_all: S3Settings, client: Any) -> S3Settings:
    empty(S3Store(bucket_for_all, client=client), client)
    return bucket_for_all


def empty(store: S3Store, client: Any) -> None:
    for one in client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=store.bucket, Key=one["Key"], UploadId=one["UploadId"])
    assert store.delete_many([info.key for info in store.keys("")]) == {}


@pytest.fixture
def small_pages(bucket: S3Settings, client: Any) -> S3Store:
    return S3Store(bucket, client=client, page_size=2)


@pytest.fixture
def whole_pages(bucket: S3Settings, client: Any) -> S3Store:
    return S3Store(bucket, client=client)


@pytest.fixture
def thousands() -> tuple[int, int | None]:
    return 1100, None
