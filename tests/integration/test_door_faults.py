"""What is heard while a real Redis fails reaches the log once, and Label Studio never waits for it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from bridge.edges import redis as names
from bridge.edges import redis as redis_edge
from bridge.edges import stream
from bridge.edges.log import log_keys, read_records, read_state
from bridge.edges.s3 import S3Store
from bridge.settings import LabelStudioSettings, S3Settings, SidecarSettings, WorkersSettings
from bridge.state import State
from sidecar.app import create_app
from tests.conftest import sample
from tests.integration.redis_faults import FAULTS, LossyWire, Server, out_of_memory, own_redis, refused, until
from workers import archive, context, scheduler

SECRET = "a-secret-of-the-tests"
UID = "1.1795312801"
MIB = 1024 * 1024


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with own_redis(tmp_path / "redis") as one:
        yield one


class Installation:
    """Sidecars and a worker over one Redis and one bucket."""

    def __init__(self, server: Server, s3: S3Settings, store: S3Store, folder: Path) -> None:
        self.server, self._s3, self._folder = server, s3, folder
        self.apps: list[Flask] = []
        settings = WorkersSettings(
            label_studio=LabelStudioSettings(url="http://127.0.0.1:9", api_key="0" * 40),
            s3=s3,
            redis_url=server.url,
        )
        self.here = context.Context(settings, connection=redis_edge.client(server.url), store=store)
        context.install(self.here)

    def sidecar(self, name: str = "spool", *, url: str | None = None, spool_mib: int = 4096) -> Flask:
        """One with a spool of its own. Its background thread runs only after `back`."""
        settings = SidecarSettings(
            label_studio=LabelStudioSettings(url="http://127.0.0.1:9", api_key="0" * 40),
            s3=self._s3,
            redis_url=url or self.server.url,
            webhook_secret=SECRET,
            api_token="a-token-of-the-tests",
            spool_dir=str(self._folder / name),
            spool_max_mib=spool_mib,
        )
        self.apps.append(create_app(settings))
        return self.apps[-1]

    def spooled(self) -> int:
        return sum(app.extensions["door"].spool.size()[0] for app in self.apps)

    def back(self) -> None:
        """Redis is well again: the spools empty themselves."""
        for app in self.apps:
            app.extensions["door"].start_replaying()
        until(lambda: self.spooled() == 0, "the spools are empty")

    def stop(self) -> None:
        for app in self.apps:
            app.extensions["door"].stop.set()

    def drained(self) -> State:
        archive.drain(UID)
        assert stream.waiting(self.here.redis, UID) == 0
        return read_state(self.here.store, self.here.layout(UID))

    def annotation_events(self) -> Counter[str]:
        """How often each event is in the log."""
        records = read_records(self.here.store, self.here.layout(UID))
        return Counter(record.event_id for record in records if record.kind == "annotation")


@pytest.fixture
def all_of_it(
    server: Server, s3_settings: S3Settings, store: S3Store, tmp_path: Path, _no_context_left: None
) -> Iterator[Installation]:
    made = Installation(server, s3_settings, store, tmp_path)
    yield made
    made.stop()


def submitted(id: int, **changes: Any) -> bytes:
    payload = sample("ANNOTATION_CREATED")
    payload["annotation"] |= {"id": id} | changes
    return json.dumps(payload).encode()


def knock(app: Flask, body: bytes) -> TestResponse:
    return app.test_client().post("/webhook", data=body, headers={"X-Webhook-Secret": SECRET})


def accepted(app: Flask, body: bytes) -> str:
    """The event's id."""
    answer = knock(app, body)
    assert answer.status_code == 202, answer.text
    return str(answer.json["event_id"])  # type: ignore[index]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_events_heard_while_redis_cannot_take_them_are_in_the_log_once_afterwards(
    fault: Callable[[Server], AbstractContextManager[None]], all_of_it: Installation
) -> None:
    app = all_of_it.sidecar()
    ids = [accepted(app, submitted(100))]
    before = datetime.now(UTC)
    with fault(all_of_it.server):
        began = time.monotonic()
        ids += [accepted(app, submitted(101 + number)) for number in range(3)]
        assert time.monotonic() - began < 2.0
        waiting = app.extensions["door"].spool.oldest()
        assert [item.entry.event_id for item in waiting] == ids[1:]
        stamped = [item.entry.received_at for item in waiting]
        assert before <= min(stamped)
        assert max(stamped) <= datetime.now(UTC)
    all_of_it.back()
    state = all_of_it.drained()
    assert all_of_it.annotation_events() == Counter(ids)
    found = {thing.data["id"]: thing for thing in state.alive("annotation")}
    assert sorted(found) == [100, 101, 102, 103]
    kept = [found[101 + number].record.received_at for number in range(3)]  # type: ignore[union-attr]
    assert kept == stamped, "the stamp is the door's"


def test_a_reply_lost_after_redis_took_the_event_makes_the_same_event_twice_and_does_no_harm(
    all_of_it: Installation,
) -> None:
    wire = LossyWire(all_of_it.server.port)
    app = all_of_it.sidecar(url=wire.url)
    accepted(app, submitted(100))
    wire.lose = True
    made = accepted(app, submitted(101))
    assert wire.lost == 1
    all_of_it.back()
    wire.lose = True
    gone = json.dumps(sample("ANNOTATIONS_DELETED") | {"annotations": [{"id": 100}]}).encode()
    deleted = accepted(app, gone)
    assert wire.lost == 2
    until(lambda: all_of_it.spooled() == 0, "the spool is empty")
    wire.close()
    entries = stream.read(all_of_it.here.redis, UID, max_entries=99, max_bytes=MIB)
    twice = Counter(entry.event_id for entry in entries)
    assert (twice[made], twice[deleted]) == (2, 2), "Redis had it, and so had the spool"
    state = all_of_it.drained()
    assert [thing.data["id"] for thing in state.alive("annotation")] == [101]
    assert all_of_it.annotation_events()[made] == 1


def test_two_sidecars_on_one_project_lose_nothing_and_double_nothing(all_of_it: Installation) -> None:
    one, other = all_of_it.sidecar("one"), all_of_it.sidecar("other")
    ids = [accepted(app, submitted(number)) for number, app in enumerate((one, other) * 3)]
    with refused(all_of_it.server):
        ids += [accepted(app, submitted(100 + number)) for number, app in enumerate((one, other) * 3)]
        newest = accepted(one, submitted(100, updated_at="2026-11-23T00:00:00Z", lead_time=9))
    all_of_it.back()
    state = all_of_it.drained()
    assert all_of_it.annotation_events() == Counter([*ids, newest])
    assert len(list(state.alive("annotation"))) == 12
    thing = state.thing("annotation", "100")
    assert thing is not None
    assert thing.data["lead_time"] == 9


def test_the_same_webhook_heard_by_two_sidecars_is_one_revision(all_of_it: Installation) -> None:
    for app in (all_of_it.sidecar("one"), all_of_it.sidecar("other")):
        accepted(app, submitted(100))
    state = all_of_it.drained()
    assert len(list(state.alive("annotation"))) == 1
    assert sum(all_of_it.annotation_events().values()) == 1


def test_a_redis_filled_up_by_a_long_outage_of_the_bucket_empties_itself_when_the_bucket_is_back(
    all_of_it: Installation,
) -> None:
    admin, app = all_of_it.server.admin, all_of_it.sidecar()
    room = 8 * MIB
    admin.config_set("maxmemory", int(admin.info("memory")["used_memory"]) + room)
    door = app.extensions["door"]
    payload = sample("ANNOTATION_CREATED")
    payload["annotation"]["result"] = [{"value": {"text": ["x" * 200_000]}}]
    for number in range(60):  # nobody drains: the bucket is away
        payload["annotation"]["id"] = number
        accepted(app, json.dumps(payload).encode())
        door.journal.look()  # as the background does twice a second
    assert admin.info("memory")["used_memory"] < int(admin.config_get("maxmemory")["maxmemory"])
    waiting = stream.waiting(all_of_it.here.redis, UID)
    assert 5 < waiting < 60
    assert all_of_it.spooled() == 60 - waiting
    door.start_replaying()
    until(lambda: all_of_it.drained() is not None and all_of_it.spooled() == 0, "the spool is empty")
    assert len(list(all_of_it.drained().alive("annotation"))) == 60


def test_what_neither_redis_nor_the_spool_takes_is_refused_counted_shown_and_read_again(
    all_of_it: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    all_of_it.here.redis.sadd(names.WANTED, UID, "2.1795312801")
    app = all_of_it.sidecar(spool_mib=1)
    body = submitted(1, result=[{"value": {"text": ["x" * 150_000]}}])
    with refused(all_of_it.server):
        answers = [knock(app, body) for _ in range(12)]
        assert {answer.status_code for answer in answers} == {202, 503}
        assert "SPOOL_MAX_MIB" in answers[-1].text
        app.extensions["door"].journal.tend()
        assert any("the spool is" in record.getMessage() for record in caplog.records)
        ready = app.test_client().get("/ready").json
        assert not ready["checks"]["spool"]["ok"]  # type: ignore[index]
        text = app.test_client().get("/metrics").text
        lost = sum(answer.status_code == 503 for answer in answers)
        assert f'bridge_webhook_refused_total{{reason="not kept"}} {lost}.0' in text
        assert "bridge_projects_missed 1.0" in text
    all_of_it.back()
    until(lambda: scheduler.sweep_rereads(all_of_it.here.redis) == [UID], "the project is read again")
    assert app.test_client().get("/ready").json["checks"]["spool"]["ok"]  # type: ignore[index]
    assert app.extensions["door"].spool.missed.names() == []
    assert accepted(app, submitted(2))


def test_one_project_whose_stream_is_taken_holds_up_no_other(all_of_it: Installation) -> None:
    app = all_of_it.sidecar()
    other = sample("ANNOTATION_CREATED")
    other["project"]["id"] = 2
    with FAULTS["stream_taken"](all_of_it.server):
        first = accepted(app, submitted(1))
        accepted(app, json.dumps(other).encode())
        spool = app.extensions["door"].spool
        assert [item.entry.event_id for item in spool.oldest()] == [first], (
            "the other's went straight to Redis"
        )
        spool.add(spool.oldest()[0].entry, uid="3.1795312801")
        assert app.extensions["door"].journal.replay() == 1
        assert [item.entry.event_id for item in spool.oldest()] == [first]
    all_of_it.back()
    assert all_of_it.annotation_events() == Counter()
    assert list(all_of_it.drained().alive("annotation"))


def test_out_of_memory_does_not_keep_the_workers_from_what_they_can_do_without_writing(
    all_of_it: Installation,
) -> None:
    app = all_of_it.sidecar()
    accepted(app, submitted(1))
    with out_of_memory(all_of_it.server):
        assert len(stream.read(all_of_it.here.redis, UID, max_entries=9, max_bytes=MIB)) == 1
        app.extensions["door"].journal.look()
        accepted(app, submitted(2))
        assert all_of_it.spooled() == 1
    all_of_it.back()
    assert len(list(all_of_it.drained().alive("annotation"))) == 2
    assert list(log_keys(all_of_it.here.store, all_of_it.here.layout(UID)))
