"""What the bucket client says and does when the other side does not do its part."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.edges.s3 import S3Store, make_client
from bridge.errors import Broken, Busy, NotFound, Refused, Unavailable
from bridge.settings import MIB, S3Settings
from tests.integration.conftest import ACCESS_KEY, SECRET_KEY, cortx_server, free_port
from tests.integration.cortx import clock_moved

READER = "reader-key", "reader-secret"


@pytest.fixture(scope="module", params=["s3server-doc", "rgw-motr"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ("--read-only-key", ":".join(READER))
    with cortx_server(tmp_path_factory.mktemp("cortx"), request.param, *options) as address:
        yield address


@pytest.fixture
def settings(url: str) -> Iterator[S3Settings]:
    made = settings_for(url)
    S3Store(made).create_bucket()
    yield made
    httpx.delete(f"{url}/_emulation/faults")


def settings_for(url: str, **more: Any) -> S3Settings:
    return S3Settings(
        endpoint_url=url,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        bucket=f"test-{uuid.uuid4().hex[:20]}",
        **more,
    )


def arm(settings: S3Settings, kind: str, **more: Any) -> None:
    httpx.post(f"{settings.endpoint_url}/_emulation/faults", json={"kind": kind, **more}).raise_for_status()


def store_of(settings: S3Settings, waits: list[float] | None = None, **more: Any) -> S3Store:
    """A store that notes its waits instead of waiting."""
    sleep: Callable[[float], None] = (waits if waits is not None else []).append
    return S3Store(settings, client=make_client(settings, sleep=sleep, **more), sleep=sleep)


def test_a_busy_store_is_asked_again_after_a_second_or_more(settings: S3Settings) -> None:
    arm(settings, "busy", method="PUT", times=3)
    waits: list[float] = []
    store_of(settings, waits).put("a", b"x")
    assert len(waits) == 3
    assert waits[0] >= 1
    assert waits == sorted(waits)
    assert S3Store(settings).get("a") == b"x"


def test_a_store_that_stays_busy_is_busy_after_six_tries(settings: S3Settings) -> None:
    arm(settings, "busy", times=6)
    waits: list[float] = []
    with pytest.raises(Busy, match="try again later"):
        store_of(settings, waits).put("a", b"x")
    assert len(waits) == 5


@pytest.mark.parametrize("fault", ["busy", "busy-late", "lost", "reset", "timeout"])
def test_with_one_attempt_nothing_is_ever_sent_twice(settings: S3Settings, fault: str) -> None:
    arm(settings, fault, method="PUT")  # it meets the first only: a second would go through
    waits: list[float] = []
    with pytest.raises(Unavailable):
        store_of(settings, waits, attempts=1).put("log/1", b"x")
    assert waits == []
    there = S3Store(settings).head("log/1") is not None
    assert there == (fault in ("busy-late", "lost"))


@pytest.mark.parametrize("fault", ["lost", "reset", "timeout", "busy-late"])
def test_an_answer_that_is_lost_is_asked_for_again(settings: S3Settings, fault: str) -> None:
    arm(settings, fault, method="PUT")
    store = store_of(settings)
    store.put("a", b"x" * 1000)
    arm(settings, fault, method="GET")
    assert store.get("a") == b"x" * 1000


def test_a_download_that_breaks_off_goes_on_where_it_broke(settings: S3Settings, tmp_path: Path) -> None:
    body = bytes(range(256)) * 8192
    store = store_of(settings)
    store.put("a", body)
    arm(settings, "reset", method="GET")
    came: list[int] = []
    store.download("a", tmp_path / "down", progress=came.append)
    assert (tmp_path / "down").read_bytes() == body
    assert sum(came) == len(body)


@pytest.mark.parametrize("fault", ["error-inside", "lost", "busy-late", "busy"])
def test_a_complete_whose_answer_is_no_answer_is_settled_by_asking(
    settings: S3Settings, tmp_path: Path, fault: str
) -> None:
    (tmp_path / "up").write_bytes(bytes(6 * MIB))
    arm(settings, fault, method="POST", path="uploadId=")
    sleep: Callable[[float], None] = [].append
    store = S3Store(
        settings,
        client=make_client(settings, sleep=sleep),
        part_bytes=5 * MIB,
        single_put_max_bytes=MIB,
        sleep=sleep,
    )
    store.upload("a", tmp_path / "up")
    assert store.get("a") == bytes(6 * MIB)


def test_a_complete_that_keeps_failing_inside_200_is_no_success(settings: S3Settings, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(bytes(6 * MIB))
    arm(settings, "error-inside", method="POST", path="uploadId=", times=6)
    sleep: Callable[[float], None] = [].append
    client = make_client(settings, sleep=sleep)
    store = S3Store(settings, client=client, part_bytes=5 * MIB, single_put_max_bytes=MIB, sleep=sleep)
    with pytest.raises(Broken, match="InternalError"):
        store.upload("a", tmp_path / "up")
    assert store.head("a") is None


def with_wrong(settings: S3Settings, what: str) -> S3Settings:
    match what:
        case "key":
            return dataclasses.replace(settings, access_key_id="nobody")
        case "secret":
            return dataclasses.replace(settings, secret_access_key="guessed-secret")
    return dataclasses.replace(settings, access_key_id=READER[0], secret_access_key=READER[1])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("key", "InvalidAccessKeyId.*check AWS_ACCESS_KEY_ID"),
        ("secret", "SignatureDoesNotMatch.*check AWS_SECRET_ACCESS_KEY"),
        ("clock", "RequestTimeTooSkewed.*clock is more than 15 minutes off"),
    ],
)
def test_each_reason_to_refuse_is_told_with_what_to_do(settings: S3Settings, what: str, message: str) -> None:
    store = store_of(with_wrong(settings, what) if what != "clock" else settings)
    calls: list[Callable[[], Any]] = [
        lambda: store.put("a", b"x"),
        lambda: store.get("a"),
        lambda: store.head("a"),
        lambda: list(store.keys()),
        lambda: store.delete("a"),
        lambda: store.delete_many(["a", "b"]),
        store.check,
    ]
    with clock_moved(20 if what == "clock" else 0):
        for call in calls:
            with pytest.raises(Refused, match=message) as caught:
                call()
            assert settings.secret_access_key not in str(caught.value)


def test_a_key_that_may_only_read_reads_and_is_told_the_policy_when_it_writes(settings: S3Settings) -> None:
    S3Store(settings).put("a", b"x")
    reader = store_of(with_wrong(settings, "policy"))
    reader.check()
    assert reader.get("a") == b"x"
    for call in (lambda: reader.put("a", b"y"), lambda: reader.delete("a")):
        with pytest.raises(Refused, match=r"AccessDenied.*check the bucket policy"):
            call()
    assert list(reader.delete_many(["a"])) == ["a"]
    assert S3Store(settings).get("a") == b"x"


def test_a_missing_bucket_is_named_with_what_to_do(url: str) -> None:
    missing = S3Store(settings_for(url))
    for call in (lambda: missing.put("a", b"x"), lambda: missing.get("a"), lambda: list(missing.keys())):
        with pytest.raises(NotFound, match="correct BUCKET"):
            call()


def test_a_store_that_is_down_is_unavailable_and_named(tmp_path: Path) -> None:
    nowhere = settings_for(f"http://127.0.0.1:{free_port()}")
    down = store_of(nowhere, attempts=2, connect_timeout_s=1)
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
        with pytest.raises(Unavailable, match=f"{nowhere.endpoint_url}.*AWS_ENDPOINT_URL_S3"):
            call()
