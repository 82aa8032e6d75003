"""The drain, killed at every call it makes, over a bucket that refuses, hangs and loses replies; and what it cannot write."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from redis.client import Pipeline

from bridge.edges import redis as names
from bridge.edges import stream
from bridge.edges.log import log_keys, read_records, read_state
from bridge.edges.s3 import S3Store, make_client
from bridge.edges.stream import Entry
from bridge.records import Record
from bridge.settings import S3Settings, WorkersSettings
from bridge.state import fold
from bridge.store import ObjectStore
from tests.conftest import sample
from tests.integration.conftest import ACCESS_KEY, SECRET_KEY, cortx_server, free_port
from tests.integration.redis_faults import until
from workers import archive, context

UID = "1.1795312801"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MIB = 1024 * 1024


class Killed(BaseException):
    """As SIGKILL: no handler of ours may run anything after it."""


class Fuse:
    """Burns at the n-th call, before it is made or after it was (and its answer lost). Nothing works after that."""

    def __init__(self, calls: int, *, after: bool) -> None:
        self._left = calls
        self._after = after

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left < 0 or (self._left == 0 and not self._after):
            raise Killed
        answer = function(*args, **kwargs)
        if self._left == 0:
            raise Killed
        return answer

    @property
    def burnt(self) -> bool:
        return self._left <= 0


class DyingRedis(redis.Redis):
    fuse = Fuse(10**9, after=False)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return self.fuse.call(super().execute_command, *args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        made = super().pipeline(transaction, shard_hint)
        execute = made.execute
        made.execute = lambda *a, **k: self.fuse.call(execute, *a, **k)  # type: ignore[method-assign]
        return made


class DyingStore:
    def __init__(self, real: S3Store, fuse: Fuse) -> None:
        self._real, self._fuse = real, fuse

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return lambda *args, **kwargs: self._fuse.call(real, *args, **kwargs)


@pytest.fixture
def here(
    workers_settings: WorkersSettings, redis_client: redis.Redis, store: S3Store, _no_context_left: None
) -> context.Context:
    made = context.Context(workers_settings, connection=redis_client, store=store)
    context.install(made)
    return made


def entry(
    name: str = "ANNOTATION_CREATED",
    *,
    received_at: datetime | None = None,
    body: bytes = b"",
    **changes: Any,
) -> Entry:
    payload = sample(name)
    if "annotation" in payload:
        payload["annotation"] |= changes
    else:
        payload |= changes
    return Entry(
        event_id=uuid.uuid4().hex,
        received_at=received_at or datetime.now(UTC),
        source="webhook",
        action=name,
        body=body or json.dumps(payload).encode(),
    )


def written(here: context.Context, uid: str = UID) -> list[Record]:
    return list(read_records(here.store, here.layout(uid)))


def log_objects(here: context.Context) -> int:
    return len(list(log_keys(here.store, here.layout(UID))))


def story() -> list[Entry]:
    """Two annotations, one of them revised and one deleted, an upload, and a body that nobody can read."""
    upload = sample("ANNOTATION_CREATED")
    upload["annotation"]["id"] = 51
    upload["task"]["data"] = {"image": "/data/upload/1/a.jpg"}
    return [
        entry(id=50),
        entry(body=json.dumps(upload).encode()),
        entry(id=50, updated_at="2026-11-23T00:00:00Z", lead_time=9),
        entry(body=b'{"action": "ANNOTATION_UPDATED", "annotation": {"id": "x"}}'),
        entry("ANNOTATIONS_DELETED", annotations=[{"id": 51}]),
    ]


def put_in(here: context.Context, uid: str, entries: Iterable[Entry]) -> None:
    """As the door does, in one go."""
    pipe = here.redis.pipeline(transaction=False)
    for one in entries:
        pipe.xadd(names.stream(uid), one.to_fields())  # type: ignore[arg-type]
    pipe.sadd(names.STREAMS, uid)
    pipe.execute()


@pytest.mark.parametrize("after", [False, True], ids=["before it is made", "after it was made"])
def test_a_worker_killed_at_any_call_loses_nothing_and_the_next_drain_ends_right(
    here: context.Context, redis_url: str, after: bool
) -> None:
    killed = 0
    for calls in itertools.count(1):
        uid = f"1.{1795312801 + calls}"
        told = story()
        put_in(here, uid, told)
        fuse = Fuse(calls, after=after)
        dying = DyingRedis.from_url(redis_url)
        dying.fuse = fuse
        context.install(context.Context(here.settings, connection=dying, store=DyingStore(here.store, fuse)))  # type: ignore[arg-type]
        try:
            archive.drain(uid)
        except Killed:
            killed += 1
        dying.connection_pool.disconnect()
        here.redis.delete(names.log_lock(uid))  # it runs out by itself after 20 s
        context.install(here)
        archive.drain(uid)
        assert stream.waiting(here.redis, uid) == 0
        records = written(here, uid)
        alive = [(thing.data["id"], thing.data["lead_time"]) for thing in fold(records).alive("annotation")]
        assert alive == [(50, 9)]
        said = {record.event_id for record in records if record.kind == "annotation"}
        assert said == {one.event_id for one in told} - {told[3].event_id}, f"killed at call {calls}"
        assert told[3].event_id in {item.entry.event_id for item in stream.quarantined(here.redis)}
        if not fuse.burnt:
            break
    assert killed > 15, "the drain makes that many calls"
    assert len(stream.quarantined(here.redis)) == calls, "each of them once"


class StallingStore:
    """The real store, in which the third put never ends."""

    def __init__(self, real: ObjectStore) -> None:
        self._real = real
        self._puts = 0

    def put(self, key: str, body: bytes, **more: Any) -> None:
        self._puts += 1
        if self._puts == 3:
            signal.pause()
        self._real.put(key, body, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _drain_in_a_process(settings: WorkersSettings) -> None:
    stalling = StallingStore(context.Context(settings).put_once_store)
    context.install(context.Context(settings, store=stalling))  # type: ignore[arg-type]
    archive.drain(UID)


def test_a_worker_process_killed_while_it_drains_loses_nothing(here: context.Context) -> None:
    put_in(here, UID, [entry(id=number) for number in range(1000)])
    process = multiprocessing.get_context("fork").Process(target=_drain_in_a_process, args=(here.settings,))
    process.start()
    until(lambda: stream.waiting(here.redis, UID) == 600, "two batches are written")
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (stream.waiting(here.redis, UID), log_objects(here)) == (600, 2)
    here.redis.delete(names.log_lock(UID))
    archive.drain(UID)
    assert stream.waiting(here.redis, UID) == 0
    assert len(list(read_state(here.store, here.layout(UID)).alive("annotation"))) == 1000
    often = Counter(record.event_id for record in written(here) if record.kind == "annotation")
    assert len(often) == 1000
    assert set(often.values()) == {1}


# --- the bucket


@pytest.fixture
def bucket(
    tmp_path: Path, workers_settings: WorkersSettings, redis_client: redis.Redis, _no_context_left: None
) -> Iterator[tuple[context.Context, str, int]]:
    """A worker over a bucket of its own; with the address and the process of its server."""
    port = free_port()
    with cortx_server(tmp_path, port=port) as url:
        s3 = S3Settings(
            endpoint_url=url, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY, bucket="faults-of-it"
        )
        S3Store(s3).create_bucket()
        store = S3Store(s3, client=make_client(s3, attempts=1, connect_timeout_s=1, read_timeout_s=1))
        settings = WorkersSettings(
            label_studio=workers_settings.label_studio, s3=s3, redis_url=workers_settings.redis_url
        )
        here = context.Context(settings, connection=redis_client, store=store)
        context.install(here)
        yield here, url, _listener(port)


def _listener(port: int) -> int:
    """The process that serves a port, by its command line."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended
        if b"cortx_emulation" in words and str(port).encode() in words:
            return int(folder.name)
    raise AssertionError(f"nobody serves {port}")


KINDS = ("busy", "busy-late", "lost", "reset", "timeout")


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_bucket_does_to_a_put_the_events_are_in_the_log_and_no_key_was_written_twice(
    bucket: tuple[context.Context, str, int], kind: str
) -> None:
    here, url, _ = bucket
    entries = [entry(id=number) for number in range(3)]
    for times in (1, 2, 9):  # met by one try, by two, and by every try of the first drain
        httpx.delete(f"{url}/_emulation/faults")
        armed = {"kind": kind, "method": "PUT", "path": "/log/", "times": times}
        httpx.post(f"{url}/_emulation/faults", json=armed).raise_for_status()
        stream.append(here.redis, UID, entries[0])
        archive.drain(UID)
        httpx.delete(f"{url}/_emulation/faults").raise_for_status()
        archive.drain(UID)
        assert stream.waiting(here.redis, UID) == 0
        assert here.redis.get(names.trouble(UID)) is None
        assert entries[0].event_id in {record.event_id for record in written(here)}
        entries.pop(0)
    assert len(list(read_state(here.store, here.layout(UID)).alive("annotation"))) == 3


def test_faults_by_chance_lose_nothing(tmp_path: Path, here: context.Context) -> None:
    with cortx_server(tmp_path, "s3server-doc", "--faults", "11:0.3") as url:
        s3 = S3Settings(
            endpoint_url=url, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY, bucket="by-chance"
        )
        patient = S3Store(s3, client=make_client(s3, attempts=12, sleep=lambda _: None))
        patient.create_bucket()
        hasty = S3Store(s3, client=make_client(s3, attempts=1, read_timeout_s=5))
        context.install(context.Context(here.settings, connection=here.redis, store=hasty))
        ids = []
        for number in range(25):
            one = entry(id=number)
            ids.append(one.event_id)
            stream.append(here.redis, UID, one)
            archive.drain(UID)
        until(lambda: archive.drain(UID) is None and not stream.waiting(here.redis, UID), "all is drained")
        records = list(read_records(patient, here.layout(UID)))
        assert {record.event_id for record in records if record.kind == "annotation"} == set(ids)
        assert len(httpx.get(f"{url}/_emulation/faults").json()) > 0, "there were faults"


def test_a_bucket_that_hangs_keeps_the_events_says_so_and_gets_them_when_it_goes_on(
    bucket: tuple[context.Context, str, int],
) -> None:
    here, _, pid = bucket
    stream.append(here.redis, UID, entry(id=1))
    archive.drain(UID)
    stream.append(here.redis, UID, entry(id=2))
    os.kill(pid, signal.SIGSTOP)
    try:
        archive.drain(UID)
        assert stream.waiting(here.redis, UID) == 1
        assert here.redis.get(names.trouble(UID)) is not None
        assert not here.redis.exists(names.log_lock(UID))
    finally:
        os.kill(pid, signal.SIGCONT)
    archive.drain(UID)
    assert stream.waiting(here.redis, UID) == 0
    assert len(list(read_state(here.store, here.layout(UID)).alive("annotation"))) == 2


# --- what cannot be written


class PickyStore:
    """Fails for one content as no store should: a bug, or a value that it cannot represent."""

    def __init__(self, real: S3Store, hated: bytes) -> None:
        self._real, self._hated = real, hated

    def put(self, key: str, body: bytes, **more: Any) -> None:
        if self._hated in body:
            raise ValueError("this cannot be represented")
        self._real.put(key, body, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_an_entry_that_cannot_be_written_goes_to_the_quarantine_and_those_beside_it_arrive(
    here: context.Context,
) -> None:
    picky = PickyStore(here.store, b"HATED")  # type: ignore[arg-type]
    context.install(context.Context(here.settings, connection=here.redis, store=picky))  # type: ignore[arg-type]
    good, bad, later = entry(id=1), entry(id=2, import_id="HATED"), entry(id=3)
    for one in (good, bad, later):
        stream.append(here.redis, UID, one)
    archive.drain(UID)
    assert stream.waiting(here.redis, UID) == 0
    (kept,) = stream.quarantined(here.redis)
    assert (kept.entry.event_id, kept.entry.received_at) == (bad.event_id, bad.received_at)
    assert kept.uid == UID
    assert "cannot be represented" in kept.reason
    ids = {record.id for record in written(here) if record.kind == "annotation"}
    assert ids == {"1", "3"}


def test_something_in_the_stream_that_is_no_entry_of_ours_stops_none_behind_it(here: context.Context) -> None:
    whole = entry(id=2).to_fields()
    here.redis.xadd(names.stream(UID), {"nonsense": "by hand"})
    here.redis.xadd(names.stream(UID), whole | {"received_at": b"soon", "event_id": b"\xff"})  # type: ignore[arg-type]
    stream.append(here.redis, UID, entry(id=3))
    archive.drain(UID)
    assert stream.waiting(here.redis, UID) == 0
    assert stream.quarantine_size(here.redis) == 1
    assert {r.id for r in written(here) if r.kind == "annotation"} == {"2", "3"}
    here.redis.xadd(names.stream(stream.CONTROL), {"nonsense": "by hand"})
    archive.drain(stream.CONTROL)
    assert stream.waiting(here.redis, stream.CONTROL) == 0
    assert stream.quarantine_size(here.redis) == 2


# --- large bodies


def import_of(count: int, size_bytes: int) -> bytes:
    """A webhook of so many tasks, as large as asked for."""
    payload = sample("TASKS_CREATED")
    one = payload["tasks"][0]
    room = (size_bytes - len(json.dumps(payload["project"]))) // count - len(json.dumps(one))
    payload["tasks"] = [
        one | {"id": number, "data": {"image": f"s3://pictures/{number}.jpg", "text": "x" * max(0, room)}}
        for number in range(count)
    ]
    return json.dumps(payload).encode()


def _memory_of_a_drain(settings: WorkersSettings, answer: Connection) -> None:
    """Sends by how many bytes the process grew at most."""
    context.install(context.Context(settings))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status_bytes("VmRSS")
    archive.drain(UID)
    answer.send(_status_bytes("VmHWM") - before)


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


@pytest.mark.parametrize(("size_mib", "many"), [(2.5, 4), (10, 4)])
def test_imports_of_5000_tasks_are_drained_without_holding_all_of_them_at_once(
    here: context.Context, size_mib: float, many: int
) -> None:
    body = import_of(5000, int(size_mib * MIB))
    assert size_mib * 0.9 < len(body) / MIB < size_mib * 1.3
    put_in(here, UID, [entry("TASKS_CREATED", body=body) for _ in range(many)])
    fork = multiprocessing.get_context("fork")
    mine, its = fork.Pipe()
    process = fork.Process(target=_memory_of_a_drain, args=(here.settings, its))
    process.start()
    process.join()
    assert stream.waiting(here.redis, UID) == 0
    assert mine.recv() < 100 * MIB + 8 * len(body)
    assert sum(record.kind == "task" for record in written(here)) == 5000


def test_a_page_of_the_stream_is_bounded_in_bytes(here: context.Context) -> None:
    for _ in range(10):
        stream.append(here.redis, UID, entry(body=b"x" * MIB))
    assert len(stream.read(here.redis, UID, max_entries=200, max_bytes=3 * MIB + 9999)) == 3
    assert len(stream.read(here.redis, UID, max_entries=2, max_bytes=100 * MIB)) == 2
    assert len(stream.read(here.redis, UID, max_entries=200, max_bytes=10)) == 1


# --- clocks


@pytest.mark.parametrize("ours_is_behind_s", [-600, 0, 600])
def test_clocks_that_differ_by_minutes_or_jump_back_change_no_state(
    here: context.Context, ours_is_behind_s: float
) -> None:
    """Label Studio's revisions are in the order of its own times; ours say only what was heard before a delete."""
    ours = NOON - timedelta(seconds=ours_is_behind_s)
    born = {"created_at": "2026-11-22T12:00:00Z"}
    told = [
        entry(id=1, updated_at="2026-11-22T12:00:01Z", lead_time=1, received_at=ours, **born),
        entry(id=2, updated_at="2026-11-22T12:00:01Z", received_at=ours + timedelta(seconds=1), **born),
        # Our clock jumps back by an hour between the two.
        entry(
            id=1,
            updated_at="2026-11-22T12:00:05Z",
            lead_time=2,
            received_at=ours - timedelta(hours=1),
            **born,
        ),
        entry("ANNOTATIONS_DELETED", annotations=[{"id": 2}], received_at=ours + timedelta(seconds=3)),
    ]
    for one in told:
        stream.append(here.redis, UID, one)
        archive.drain(UID)
    state = read_state(here.store, here.layout(UID))
    assert [(thing.data["id"], thing.data["lead_time"]) for thing in state.alive("annotation")] == [(1, 2)]
