"""Copying uploaded files: into a real Redis and a bucket over HTTP."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from bridge.edges import redis as names
from bridge.edges.log import read_records
from bridge.edges.s3 import S3Store
from bridge.errors import Refused, Unavailable
from bridge.keys import MediaKey
from bridge.records import Record
from bridge.settings import MIB, WorkersSettings
from tests.fakes import Clock, FakeLabelStudio
from workers import context, media

UID = "4.1795328815"
PATH = "/data/upload/4/cea5609f-%C3%89toile_1.PNG"
BODY = b"a drawn star"


class Workplace:
    def __init__(self, here: context.Context, label_studio: FakeLabelStudio) -> None:
        self.here, self.label_studio = here, label_studio

    def key(self, body: bytes = BODY, ext: str = ".png") -> str:
        return self.here.layout(UID).media(MediaKey(sha256=hashlib.sha256(body).hexdigest(), ext=ext))

    def records(self) -> list[Record]:
        return list(read_records(self.here.store, self.here.layout(UID)))

    def failed(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = self.here.redis.hgetall(names.media_failed(UID))
        return found


@pytest.fixture
def work(redis_client: redis.Redis, store: S3Store, workers_settings: WorkersSettings) -> Iterator[Workplace]:
    label_studio = FakeLabelStudio()
    here = context.Context(
        dataclasses.replace(workers_settings, media_max_mib=1),
        connection=redis_client,
        store=store,
        label_studio=label_studio,  # type: ignore[arg-type]
        now=Clock(),
    )
    context.install(here)
    yield Workplace(here, label_studio)
    context._installed.clear()


def test_a_file_is_copied_and_recorded(work: Workplace) -> None:
    media.copy(UID, [PATH])
    assert work.here.store.get(work.key()) == BODY
    (made,) = work.records()
    assert (made.kind, made.id, made.source, made.event) == ("media", PATH, "media", "MEDIA_COPIED")
    assert made.created_at is None
    assert made.data == {
        "id": PATH,
        "path": PATH,
        "key": work.key(),
        "sha256": hashlib.sha256(BODY).hexdigest(),
        "size_bytes": len(BODY),
        "content_type": "image/png",
    }


def test_a_copied_file_is_not_fetched_again(work: Workplace) -> None:
    media.copy(UID, [PATH, PATH])
    media.copy(UID, [PATH])
    assert work.label_studio.asked == ["download"]
    assert len(work.records()) == 1


def test_a_file_that_the_bucket_has_lost_is_copied_again(work: Workplace) -> None:
    media.copy(UID, [PATH])
    work.here.store.delete(work.key())
    media.copy(UID, [PATH])
    assert work.here.store.get(work.key()) == BODY


def test_an_object_that_is_there_is_not_written_again(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    media.copy(UID, [PATH])
    work.here.redis.flushall()
    monkeypatch.setattr(work.here.store, "upload", lambda *_, **__: pytest.fail("written again"))
    media.copy(UID, [PATH])
    assert work.here.redis.hget(names.media(UID), PATH) == work.key().encode()


def test_half_an_object_is_written_again(work: Workplace) -> None:
    work.here.store.put(work.key(), BODY[:3])
    media.copy(UID, [PATH])
    assert work.here.store.get(work.key()) == BODY


def test_equal_files_are_one_object_and_two_records(work: Workplace) -> None:
    other = "/data/upload/4/0000-copy.png"
    work.label_studio.files[other] = BODY
    media.copy(UID, [PATH, other])
    assert {one.id for one in work.records()} == {PATH, other}
    assert {one.data["key"] for one in work.records()} == {work.key()}


def test_a_missing_file_costs_itself_only(work: Workplace) -> None:
    media.copy(UID, ["/data/upload/4/gone.png", PATH])
    assert work.here.store.get(work.key()) == BODY
    assert b"no such file" in work.failed()[b"/data/upload/4/gone.png"]
    assert work.here.redis.hget(names.COUNTERS, "media_failed") == b"1"
    media.copy(UID, ["/data/upload/4/gone.png"])
    assert work.here.redis.hget(names.COUNTERS, "media_failed") == b"1"  # one file, however often tried


def test_a_file_that_is_too_large_costs_itself_only(work: Workplace) -> None:
    work.label_studio.files["/data/upload/4/large.mp4"] = bytes(MIB + 1)
    media.copy(UID, ["/data/upload/4/large.mp4", PATH])
    assert work.here.store.get(work.key()) == BODY
    assert list(work.failed()) == [b"/data/upload/4/large.mp4"]


def test_a_file_that_can_be_copied_after_all_is_no_failure_any_more(work: Workplace) -> None:
    media.copy(UID, ["/data/upload/4/late.png"])
    work.label_studio.files["/data/upload/4/late.png"] = b"late"
    media.copy(UID, ["/data/upload/4/late.png"])
    assert work.failed() == {}


@pytest.mark.parametrize("error", [Unavailable("no answer"), Refused("401: the token is not accepted")])
def test_what_may_work_later_is_raised_at_the_end_with_the_paths(work: Workplace, error: Exception) -> None:
    work.label_studio.fail["download"] = [error]
    with pytest.raises(Unavailable, match=f"/data/upload/4/first.png.*{error}"):
        media.copy(UID, ["/data/upload/4/first.png", PATH])
    assert work.here.store.get(work.key()) == BODY  # the others are done
    assert work.failed() == {}


def test_label_studio_that_is_away_is_not_asked_for_every_file(work: Workplace) -> None:
    work.label_studio.fail["download"] = [Unavailable("no answer")] * 100
    with pytest.raises(Unavailable, match="50 uploaded files"):
        media.copy(UID, [f"/data/upload/4/{number}.png" for number in range(50)])
    assert len(work.label_studio.asked) == media.GIVE_UP_AFTER


class Killed(BaseException):
    """As SIGKILL ends a process."""


@pytest.mark.parametrize(
    ("target", "method"),
    [("store", "head"), ("store", "upload"), ("store", "put"), ("redis", "hset"), ("redis", "hdel"), ("redis", "hincrby")],
)  # fmt: skip
def test_a_job_that_is_killed_anywhere_is_done_by_the_next(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, target: str, method: str
) -> None:
    def dying(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(getattr(work.here, target), method, dying)
        with pytest.raises(Killed):
            media.copy(UID, [PATH])
    media.copy(UID, [PATH])
    assert work.here.store.get(work.key()) == BODY
    assert {one.id for one in work.records()} == {PATH}
    assert work.here.redis.hget(names.media(UID), PATH) == work.key().encode()


def test_a_missing_bucket_gives_up_no_file(work: Workplace) -> None:
    assert isinstance(work.here.store, S3Store)
    work.here.store._client.delete_bucket(Bucket=work.here.store.bucket)
    with pytest.raises(Unavailable, match="correct BUCKET"):
        media.copy(UID, [PATH])
    assert work.failed() == {}
