"""From the stream to the log, with a real Redis and a real HTTP store; and what happens when something dies between."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges import redis as names
from bridge.edges import stream
from bridge.edges.log import log_keys, read_records, read_state
from bridge.edges.queue import open_queue
from bridge.edges.s3 import S3Store
from bridge.edges.stream import Entry
from bridge.errors import Unavailable
from bridge.settings import WorkersSettings
from tests.conftest import sample
from tests.fakes import gone, record
from tests.integration.test_kept_lock import taken_over, wait_until_extended
from workers import archive, context, current, reconcile_sweep, scheduler, snapshot
from workers.kept_lock import LockLost

UID = "1.1795312801"


@pytest.fixture
def here(
    workers_settings: WorkersSettings, redis_client: redis.Redis, store: S3Store, _no_context_left: None
) -> Iterator[context.Context]:
    made = context.Context(workers_settings, connection=redis_client, store=store)
    context.install(made)
    return made


def entry(name: str = "ANNOTATION_CREATED", *, body: bytes | None = None, **changes: Any) -> Entry:
    payload = sample(name)
    if "annotation" in payload:
        payload["annotation"] |= changes
    return Entry(
        event_id=uuid.uuid4().hex,
        received_at=datetime.now(UTC),
        source="webhook",
        action=name,
        body=json.dumps(payload).encode() if body is None else body,
    )


def objects(here: context.Context) -> list[str]:
    return [info.key for info in log_keys(here.store, here.layout(UID))]


def test_an_event_becomes_a_log_object_and_leaves_the_stream(here: context.Context) -> None:
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    records = list(read_records(here.store, here.layout(UID)))
    assert [(r.kind, r.id) for r in records] == [("project", "1"), ("task", "1"), ("annotation", "2")]
    assert stream.waiting(here.redis, UID) == 0
    assert len(objects(here)) == 1


def test_the_queued_drain_runs_by_its_name_in_an_rq_worker(here: context.Context) -> None:
    stream.append(here.redis, UID, entry())
    worker = SimpleWorker(
        [open_queue(here.redis, jobs.LIVE)], connection=here.redis, serializer=JSONSerializer
    )
    worker.work(burst=True)
    assert len(objects(here)) == 1


def test_many_events_at_once_ask_for_one_drain(here: context.Context) -> None:
    for _ in range(20):
        stream.append(here.redis, UID, entry())
    assert len(open_queue(here.redis, jobs.LIVE)) == 1


def test_the_same_delivery_twice_writes_nothing_more(here: context.Context) -> None:
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    assert len(objects(here)) == 1


def test_revisions_a_b_a_arriving_as_a_a_b_end_as_a(here: context.Context) -> None:
    first = {"updated_at": "2026-11-22T02:00:05Z", "lead_time": 1}
    second = {"updated_at": "2026-11-22T02:00:06Z", "lead_time": 2}
    third = {"updated_at": "2026-11-22T02:00:07Z", "lead_time": 1}
    for changes in (first, third, second):
        stream.append(here.redis, UID, entry(**changes))
        archive.drain(UID)
    thing = read_state(here.store, here.layout(UID)).thing("annotation", "2")
    assert thing is not None
    assert thing.data["updated_at"] == "2026-11-22T02:00:07Z"
    revisions = [r for r in read_records(here.store, here.layout(UID)) if r.kind == "annotation"]
    assert len(revisions) == 3


def test_an_upload_is_copied_once_though_every_annotation_names_it_again(here: context.Context) -> None:
    payload = sample("ANNOTATION_CREATED")
    payload["task"]["data"] = {"image": "/data/upload/1/a.jpg"}
    stream.append(here.redis, UID, entry(body=json.dumps(payload).encode()))
    archive.drain(UID)
    assert len(open_queue(here.redis, jobs.MEDIA)) == 1
    here.redis.hset(names.media(UID), "/data/upload/1/a.jpg", "the key")
    payload["annotation"]["updated_at"] = "2026-11-22T09:00:00Z"
    stream.append(here.redis, UID, entry(body=json.dumps(payload).encode()))
    archive.drain(UID)
    assert len(open_queue(here.redis, jobs.MEDIA)) == 1


def test_an_unreadable_entry_goes_to_the_quarantine_and_the_next_one_arrives(here: context.Context) -> None:
    broken = sample("ANNOTATION_CREATED")
    broken["annotation"]["created_at"] = "yesterday"
    stream.append(here.redis, UID, entry(body=json.dumps(broken).encode()))
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    kept = stream.quarantined(here.redis)
    assert len(kept) == 1
    assert "yesterday" in kept[0].reason
    assert json.loads(kept[0].entry.body) == broken
    assert len(objects(here)) == 1


class FlakyStore:
    """The real store, whose next puts fail as told: "before" (nothing written) or "after" (written, answer lost)."""

    def __init__(self, real: S3Store, failures: list[str]) -> None:
        self._real = real
        self._failures = failures
        self.put_keys: list[str] = []

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        self.put_keys.append(key)
        failure = self._failures.pop(0) if self._failures else ""
        if failure != "before":
            self._real.put(key, body, content_type=content_type)
        if failure:
            raise Unavailable("the answer was lost")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def with_store(here: context.Context, failures: list[str]) -> FlakyStore:
    flaky = FlakyStore(here.store, failures)  # type: ignore[arg-type]
    context.install(context.Context(here.settings, connection=here.redis, store=flaky))  # type: ignore[arg-type]
    return flaky


def test_a_lost_answer_after_the_write_is_settled_by_asking_and_writes_once(here: context.Context) -> None:
    flaky = with_store(here, ["after"])
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    assert len(flaky.put_keys) == 1
    assert objects(here) == flaky.put_keys


def test_a_failed_put_is_repeated_under_a_new_key(here: context.Context) -> None:
    flaky = with_store(here, ["before"])
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    assert len(flaky.put_keys) == len(set(flaky.put_keys)) == 2
    assert objects(here) == flaky.put_keys[1:]


def test_a_bucket_that_stays_away_keeps_the_entries_and_says_why(here: context.Context) -> None:
    with_store(here, ["before"] * archive.BATCH_ENTRIES)
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    assert stream.waiting(here.redis, UID) == 1
    assert b"the answer was lost" in (here.redis.get(names.trouble(UID)) or b"")
    context.install(here)
    archive.drain(UID)
    assert stream.waiting(here.redis, UID) == 0
    assert here.redis.get(names.trouble(UID)) is None


def test_a_bucket_that_was_away_from_the_start_is_not_taken_for_a_lost_one(here: context.Context) -> None:
    with_store(here, ["before"] * archive.BATCH_ENTRIES)
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    context.install(here)
    archive.drain(UID)
    assert len(objects(here)) == 1
    assert len(open_queue(here.redis, jobs.BASELINE)) == 0


@pytest.mark.parametrize("dies_in", ["_remember", "_enqueue_current", "_count"])
def test_a_drain_that_dies_between_its_writes_is_finished_by_the_next(
    here: context.Context, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    stream.append(here.redis, UID, entry())
    with monkeypatch.context() as patch:
        patch.setattr(archive, dies_in, lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            archive.drain(UID)
    archive.drain(UID)
    assert stream.waiting(here.redis, UID) == 0
    thing = read_state(here.store, here.layout(UID)).thing("annotation", "2")
    assert thing is not None
    assert thing.alive


def test_positions_grow_though_the_clock_steps_back(here: context.Context) -> None:
    writer = here.log_writer(UID)
    found = archive.batch_of([entry()]).records
    ticks = iter([5000, 4000, 4000])
    writer._clock_ms = lambda: next(ticks)
    positions = []
    for _ in range(3):
        key = here.layout(UID).parse_log(writer.append(found))
        assert key is not None
        positions.append(key.position)
    assert positions == [5000, 5001, 5002]


def test_redis_forgetting_the_position_does_not_move_it_back(here: context.Context) -> None:
    found = archive.batch_of([entry()]).records
    writer = here.log_writer(UID)
    writer._clock_ms = lambda: 9000
    writer.append(found)
    here.redis.flushall()
    writer._clock_ms = lambda: 10
    key = here.layout(UID).parse_log(writer.append(found))
    assert key is not None
    assert key.position == 9001


class Overtaken(FlakyStore):
    """A store whose first put takes longer than the lock lives: another worker writes meanwhile."""

    def __init__(self, real: S3Store, meanwhile: Callable[[], None]) -> None:
        super().__init__(real, [])
        self._meanwhile = [meanwhile]

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        if self._meanwhile:
            self._meanwhile.pop()()
        super().put(key, body, content_type=content_type)


def test_a_put_that_another_worker_overtook_is_done_again_where_every_reader_sees_it(
    here: context.Context,
) -> None:
    """`current` has gone on from the other's object, and looks at nothing before it."""

    def meanwhile() -> None:
        here.redis.delete(names.log_lock(UID))
        other = record("annotation", "99", task=1)
        other_key.append(here.log_writer(UID).append([other]))
        current.refresh(UID)

    other_key: list[str] = []
    stream.append(here.redis, UID, entry())
    slow: Any = Overtaken(here.store, meanwhile)  # type: ignore[arg-type]
    context.install(context.Context(here.settings, connection=here.redis, store=slow))
    archive.drain(UID)
    assert here.redis.get(names.last_key(UID)) == other_key[0].encode(), "the newest key has not moved back"
    assert stream.waiting(here.redis, UID) == 1, "what was overtaken is not called written"
    archive.drain(UID)
    assert stream.waiting(here.redis, UID) == 0
    current.refresh(UID)
    assert current_of(here)[1]["alive"]
    positions = [here.layout(UID).parse_log(key) for key in objects(here)]
    assert len({one.position for one in positions if one}) == len(positions) == 3


def test_a_clock_that_is_behind_gives_no_position_before_what_was_overtaken_by(here: context.Context) -> None:
    """Two writers, the slow one's clock an hour behind: its next object comes after the other's all the same."""
    found = archive.batch_of([entry()]).records
    slow, quick = here.log_writer(UID), here.log_writer(UID)
    slow._clock_ms, quick._clock_ms = lambda: 5_000, lambda: 3_605_000

    def meanwhile() -> None:
        here.redis.delete(names.log_lock(UID))
        quick.append([record("annotation", "99", task=1)])

    slow._store = Overtaken(here.store, meanwhile)  # type: ignore[arg-type,assignment]
    with pytest.raises(Unavailable, match="another worker wrote after it"):
        slow.append(found)
    key = here.layout(UID).parse_log(slow.append(found))
    assert key is not None
    assert key.position == 3_605_001


def test_the_sweep_finds_a_stream_whose_job_was_lost(here: context.Context) -> None:
    here.redis.xadd(names.stream(UID), entry().to_fields(), id="1-1")  # type: ignore[arg-type]
    here.redis.sadd(names.STREAMS, UID)
    assert scheduler.sweep(here.redis) == [UID]
    assert scheduler.sweep(here.redis) == []
    archive.drain(UID)
    assert scheduler.sweep(here.redis) == []


def test_an_emptied_bucket_is_noticed_and_the_project_is_read_again(here: context.Context) -> None:
    here.redis.sadd(names.WANTED, UID)
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    for info in list(here.store.keys()):
        here.store.delete(info.key)
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    assert len(open_queue(here.redis, jobs.BASELINE)) == 1
    assert len(objects(here)) == 1, "what Redis remembered as written must be written again"


def test_an_event_that_names_no_project_has_the_connected_ones_read_again(here: context.Context) -> None:
    here.redis.sadd(names.WANTED, UID, "2.1795312801")
    deleted = Entry(
        event_id="e", received_at=datetime.now(UTC), source="webhook", action="PROJECT_DELETED",
        body=b'{"action": "PROJECT_DELETED", "project": {"id": 1}}',
    )  # fmt: skip
    stream.append(here.redis, stream.CONTROL, deleted)
    archive.drain(stream.CONTROL)
    assert scheduler.sweep_rereads(here.redis) == [UID]
    assert len(open_queue(here.redis, jobs.BASELINE)) == 1


def current_of(here: context.Context, id: str = "2") -> tuple[list[str], dict[str, Any]]:
    keys = [i.key for i in here.store.keys(here.layout(UID).current_prefix) if i.key.endswith(f"/{id}.json")]
    return keys, json.loads(here.store.get(keys[0])) if keys else {}


def test_current_holds_the_newest_version_and_loses_a_deleted_one(here: context.Context) -> None:
    for changes in ({"updated_at": "2026-11-22T02:00:06Z", "lead_time": 7}, {}):
        stream.append(here.redis, UID, entry(**changes))
        archive.drain(UID)
        current.refresh(UID)
    _, found = current_of(here)
    assert found["annotation"]["lead_time"] == 7
    gone = sample("ANNOTATIONS_DELETED")
    gone["annotations"] = [{"id": 2}]
    stream.append(here.redis, UID, entry(body=json.dumps(gone).encode()))
    archive.drain(UID)
    current.refresh(UID)
    keys, found = current_of(here)
    assert keys == [f"{here.layout(UID).root}current/deleted/annotations/2.json"]
    assert not found["alive"]
    stream.append(here.redis, UID, entry(updated_at="2026-11-22T02:00:59Z"))
    archive.drain(UID)
    current.refresh(UID)
    keys, _ = current_of(here)
    assert "deleted" in keys[0], "a late version of a deleted annotation stays hidden"


def test_current_hides_the_annotations_of_a_deleted_task(here: context.Context) -> None:
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    current.refresh(UID)
    gone = sample("TASKS_DELETED")
    gone["tasks"] = [{"id": 1}]
    stream.append(here.redis, UID, entry(body=json.dumps(gone).encode()))
    archive.drain(UID)
    current.refresh(UID)
    keys, _ = current_of(here)
    assert len(keys) == 1
    assert "deleted" in keys[0]


def test_current_hides_an_annotation_whose_task_was_deleted_before_the_first_refresh(
    here: context.Context,
) -> None:
    gone = sample("TASKS_DELETED")
    gone["tasks"] = [{"id": 1}]
    stream.append(here.redis, UID, entry())
    stream.append(here.redis, UID, entry(body=json.dumps(gone).encode()))
    archive.drain(UID)
    current.refresh(UID)
    keys, found = current_of(here)
    assert (len(keys), "deleted" in keys[0], found["alive"]) == (1, True, False)


@pytest.mark.parametrize(
    "edited", [b"{}", b'{"fold": 1}', b'{"fold": {"deleted_at": null, "incarnations": [{}]}}']
)
def test_a_file_of_current_that_somebody_edited_is_written_anew(here: context.Context, edited: bytes) -> None:
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    current.refresh(UID)
    here.store.put(current_of(here)[0][0], edited)
    stream.append(here.redis, UID, entry(updated_at="2026-11-22T02:00:59Z", lead_time=9))
    archive.drain(UID)
    current.refresh(UID)
    assert current_of(here)[1]["annotation"]["lead_time"] == 9


def test_a_late_version_of_an_annotation_stays_hidden_with_its_deleted_task(here: context.Context) -> None:
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    current.refresh(UID)
    gone = sample("TASKS_DELETED")
    gone["tasks"] = [{"id": 1}]
    stream.append(here.redis, UID, entry(body=json.dumps(gone).encode()))
    archive.drain(UID)
    current.refresh(UID)
    stream.append(here.redis, UID, entry(updated_at="2026-11-22T02:00:59Z", lead_time=9))
    archive.drain(UID)
    current.refresh(UID)
    keys, found = current_of(here)
    assert len(keys) == 1
    assert "deleted" in keys[0]
    assert found["annotation"]["lead_time"] == 9


def test_a_refresh_of_current_that_dies_is_finished_by_the_next(
    here: context.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    with monkeypatch.context() as patch:
        patch.setattr(current, "_write", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            current.refresh(UID)
    here.redis.delete(names.current_lock(UID))
    current.refresh(UID)
    assert current_of(here)[1]["alive"]


def rewritten_meanwhile(here: context.Context, meanwhile: Callable[[], None]) -> None:
    """A deleted task has all of current/ written anew; something happens in the midst of it."""
    here.log_writer(UID).append([record("task", "1"), *(record(id=str(n), task=1) for n in (1, 2, 3))])
    current.refresh(UID)
    here.log_writer(UID).append([gone("task", "1", received=99)])
    slow: Any = Overtaken(here.store, meanwhile)  # type: ignore[arg-type]
    context.install(context.Context(here.settings, connection=here.redis, store=slow))


def hidden_in_current(here: context.Context) -> int:
    return sum("/deleted/" in info.key for info in here.store.keys(here.layout(UID).current_prefix))


def test_the_lock_of_current_is_kept_while_all_of_it_is_written(
    here: context.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current, "LOCK_TTL_S", 4)
    rewritten_meanwhile(here, lambda: wait_until_extended(here.redis, names.current_lock(UID)))
    current.refresh(UID)
    assert hidden_in_current(here) == 3
    assert here.redis.get(names.current_cursor(UID)) == objects(here)[-1].encode()


def test_whoever_lost_the_lock_of_current_does_not_note_how_far_he_came(here: context.Context) -> None:
    rewritten_meanwhile(here, lambda: taken_over(here.redis, names.current_lock(UID)))
    with pytest.raises(LockLost):
        current.refresh(UID)
    assert here.redis.get(names.current_cursor(UID)) != objects(here)[-1].encode()
    here.redis.delete(names.current_lock(UID))
    current.refresh(UID)
    assert hidden_in_current(here) == 3


def test_writing_all_of_current_stops_at_the_file_where_the_lock_is_lost(here: context.Context) -> None:
    rewritten_meanwhile(here, lambda: None)
    asked: list[int] = []

    def beat() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise LockLost("the lock ran out")

    with pytest.raises(LockLost):
        current.write_all(here.store, here.layout(UID), read_state(here.store, here.layout(UID)), beat=beat)
    assert hidden_in_current(here) == 1


def test_a_name_in_redis_that_is_no_project_costs_itself_only(
    here: context.Context, caplog: pytest.LogCaptureFixture
) -> None:
    for key in (names.STREAMS, names.WANTED, names.REREAD):
        here.redis.sadd(key, "not a project", b"\xff", UID)
    stream.append(here.redis, UID, entry())
    archive.drain(UID)
    here.redis.hset(names.baseline(UID), "state", "complete")
    assert scheduler.sweep_baselines(here.redis) == []
    assert scheduler.sweep_rereads(here.redis) == [UID]
    here.redis.delete(names.current_pending(UID))
    assert scheduler.sweep_current(here.redis) == [UID]
    assert scheduler.check_buckets(here) == []
    assert reconcile_sweep.tick(here) == [(UID, "light")]
    assert stream.uids(here.redis) == [UID]
    for _ in range(2):
        snapshot.sweep(here)
    assert sum("not a project" in record.message for record in caplog.records) == 3  # once for each set
