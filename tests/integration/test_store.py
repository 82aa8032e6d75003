"""The S3 store over HTTP: the promises of every store, and what it says when the other side does not do its part."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import bridge.edges.s3 as s3
from bridge.edges.s3 import S3Store, make_client, open_store
from bridge.errors import NotFound, Unavailable
from bridge.settings import MIB, S3Settings
from tests.integration.conftest import free_port
from tests.store_contract import StoreContract


@pytest.fixture
def small_pages(s3_settings: S3Settings, store: S3Store) -> S3Store:
    return S3Store(s3_settings, page_size=2)


class TestS3Store(StoreContract):
    pass


def test_a_missing_bucket_is_named_with_what_to_do(s3_settings: S3Settings) -> None:
    missing = S3Store(s3_settings)
    with pytest.raises(NotFound, match=f"no bucket '{s3_settings.bucket}'.*create it, or correct BUCKET"):
        missing.check()
    for call in (lambda: missing.put("a", b"x"), lambda: missing.get("a"), lambda: list(missing.keys())):
        with pytest.raises(NotFound, match="correct BUCKET"):
            call()


def test_a_bucket_can_be_created_twice(store: S3Store) -> None:
    store.create_bucket()
    store.check()


def test_another_bucket_of_the_same_server_is_its_own_store(s3_settings: S3Settings, store: S3Store) -> None:
    other = open_store(s3_settings, f"{s3_settings.bucket}-b")
    other.create_bucket()
    other.put("a", b"x")
    assert store.head("a") is None


def test_a_store_that_is_down_is_unavailable_and_named(s3_settings: S3Settings, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    settings = dataclasses.replace(s3_settings, endpoint_url=url)
    down = S3Store(settings, client=make_client(settings, attempts=1, connect_timeout_s=1))
    (tmp_path / "file").write_bytes(b"x")
    for call in (
        lambda: down.put("a", b"x"),
        lambda: down.get("a"),
        lambda: down.head("a"),
        lambda: list(down.keys()),
        lambda: down.delete("a"),
        lambda: down.upload("a", tmp_path / "file"),
        lambda: down.download("a", tmp_path / "down"),
        down.check,
    ):
        with pytest.raises(Unavailable, match=f"{url}.*AWS_ENDPOINT_URL_S3"):
            call()


def test_a_large_file_goes_up_in_parts_and_comes_down_whole(
    store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real threshold is 64 MiB; parts stay equal multiples of 1 MiB here too.
    monkeypatch.setattr(s3, "SINGLE_PUT_MAX_BYTES", 1 * MIB)
    config = s3.TransferConfig(
        multipart_threshold=1 * MIB,
        multipart_chunksize=5 * MIB,
        use_threads=False,
        preferred_transfer_client="classic",
    )
    monkeypatch.setattr(s3, "_TRANSFER", config)
    body = bytes(range(256)) * 4096 * 12  # 12 MiB: parts of 5, 5 and 2
    (tmp_path / "up").write_bytes(body)
    store.upload("media/large", tmp_path / "up", content_type="video/mp4")
    info = store.head("media/large")
    assert info is not None
    assert info.size_bytes == len(body)
    assert info.md5 is None  # a multipart ETag is no checksum, and is not taken for one
    store.download("media/large", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == body


def test_no_secret_shows_in_an_error(s3_settings: S3Settings) -> None:
    with pytest.raises(NotFound) as caught:
        S3Store(s3_settings).get("a")
    assert s3_settings.secret_access_key not in str(caught.value)
