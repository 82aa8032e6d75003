"""Snapshots by the job, with a real Redis and a store behind CORTX's rules; and what happens when it dies half-way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges import history, queue, snapshots
from bridge.edges import redis as names
from bridge.edges.log import read_records, read_state
from bridge.edges.queue import open_queue
from bridge.edges.s3 import S3Store
from bridge.errors import Unavailable
from bridge.keys import SnapshotKey
from bridge.settings import LabelStudioSettings, SidecarSettings, WorkersSettings
from bridge.snapshots import LEFT_BEHIND, MANIFEST, STILL_READ
from bridge.state import fold, state_at
from sidecar.cli import cli
from sidecar.clients import Clients
from tests.fakes import Clock, at, gone, record
from tests.integration.test_kept_lock import taken_over, wait_until_extended
from tests.unit.sidecar.fakes import FakeLabelStudio
from tests.unit.test_history import said
from workers import context, snapshot
from workers.kept_lock import LockLost

UID = "3.1795312966"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def here(
    workers_settings: WorkersSettings,
    redis_client: redis.Redis,
    store: S3Store,
    clock: Clock,
    _no_context_left: None,
) -> context.Context:
    made = context.Context(workers_settings, connection=redis_client, store=store, now=clock)
    context.install(made)
    redis_client.sadd(names.STREAMS, UID)
    return made


def write(here: context.Context, *numbers: int) -> None:
    for number in numbers:
        here.log_writer(UID).append(
            [
                record("task", str(number), data={"image": "a.jpg"}),
                record("annotation", str(number), task=number, result=[{"type": "labels", "value": {}}]),
            ]
        )


def whole(here: context.Context) -> list[int]:
    return snapshots.positions(here.store, here.layout(UID))[0]


def is_true(here: context.Context) -> None:
    layout = here.layout(UID)
    assert said(read_state(here.store, layout)) == said(fold(read_records(here.store, layout)))


def test_the_job_makes_a_snapshot_and_the_next_one_goes_on_from_it(here: context.Context) -> None:
    write(here, 1, 2, 3)
    snapshot.make(UID)
    write(here, 4)
    here.log_writer(UID).append([gone("task", "2", received=99)])
    is_true(here)
    snapshot.make(UID)
    snapshot.make(UID)  # nothing new: no third one
    first, second = whole(here)
    manifest = snapshots.manifest_at(here.store, here.layout(UID), second)
    assert manifest is not None
    assert (manifest.previous, manifest.log_objects) == (first, 5)
    with history.open_history(here.store, here.layout(UID)) as state:
        assert [thing.data["id"] for thing in state.alive("annotation")] == [1, 3, 4]
    is_true(here)


class Dying:
    """A store that fails at one write, counted from 1."""

    def __init__(self, store: S3Store, at: int) -> None:
        self._store, self._left = store, at

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        if name not in ("put", "upload", "delete"):
            return verb

        def count(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                raise Unavailable("the store went away")
            return verb(*args, **kwargs)

        return count


def test_a_job_that_dies_at_any_write_leaves_no_half_snapshot(
    here: context.Context, workers_settings: WorkersSettings, store: S3Store
) -> None:
    write(here, 1)
    snapshot.make(UID)
    write(here, 2)
    for death in range(1, 6):  # four files, and the manifest
        dying = context.Context(
            workers_settings, connection=here.redis, store=Dying(store, death), now=here.now
        )
        context.install(dying)
        with pytest.raises(Unavailable):
            snapshot.make(UID)
        assert len(whole(here)) == 1
        is_true(here)
    context.install(here)
    snapshot.make(UID)
    assert len(whole(here)) == 2
    is_true(here)


class Slow:
    """A store whose first upload, or download, does something else before it is done."""

    def __init__(self, store: S3Store, verb: str, meanwhile: Callable[[], None]) -> None:
        self._store, self._verb, self._meanwhile = store, verb, [meanwhile]

    def __getattr__(self, name: str) -> Any:
        if name == self._verb and self._meanwhile:
            self._meanwhile.pop()()
        return getattr(self._store, name)


def with_slow(here: context.Context, verb: str, meanwhile: Callable[[], None]) -> None:
    slow: Any = Slow(here.store, verb, meanwhile)  # type: ignore[arg-type]
    context.install(context.Context(here.settings, connection=here.redis, store=slow, now=here.now))


@pytest.mark.parametrize("verb", ["upload", "download"])
def test_the_lock_is_kept_while_one_file_takes_longer_than_it_lives(
    here: context.Context, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    write(here, 1)
    snapshot.make(UID)
    write(here, 2)
    monkeypatch.setattr(snapshot, "LOCK_TTL_S", 4)
    with_slow(here, verb, lambda: wait_until_extended(here.redis, names.snapshot_lock(UID)))
    snapshot.make(UID)
    assert len(whole(here)) == 2


def test_whoever_lost_the_lock_puts_no_manifest(here: context.Context) -> None:
    write(here, 1)
    with_slow(here, "upload", lambda: taken_over(here.redis, names.snapshot_lock(UID)))
    with pytest.raises(LockLost):
        snapshot.make(UID)
    assert whole(here) == []
    assert here.redis.get(names.snapshot_lock(UID)) == b"another worker"
    assert not here.redis.hexists(names.snapshot(UID), "at"), "it is due as before"


def test_a_door_whose_clock_was_days_ahead_costs_time_and_nothing_else(here: context.Context) -> None:
    """A snapshot with such a record serves no earlier moment, so these are folded from the log: the answer is the same."""
    month = 30 * 24 * 3600
    writer, layout = here.log_writer(UID), here.layout(UID)
    writer.append([record("task", "1", received=10)])
    writer.append([record("task", "2", received=20), record("task", "3", received=month)])
    snapshot.make(UID)
    writer.append([record("task", "4", received=40)])
    snapshot.make(UID)
    for moment in (at(30), at(50), at(month + 1)):
        found = read_state(here.store, layout, moment)
        assert said(found) == said(state_at(read_records(here.store, layout), moment))
    with history.open_history(here.store, layout, at=at(50)) as state:
        assert (state.manifest, state.log_objects) == (None, 3)
        assert [thing.data["id"] for thing in state.alive("task")] == [1, 2, 4]
    with history.open_history(here.store, layout, at=at(month + 1)) as state:
        assert state.manifest is not None


def test_another_worker_at_it_is_left_alone(here: context.Context) -> None:
    write(here, 1)
    with here.redis.lock(names.snapshot_lock(UID), timeout=60):
        snapshot.make(UID)
        assert whole(here) == []


def test_the_scheduler_asks_when_the_log_has_grown_enough(here: context.Context, clock: Clock) -> None:
    object.__setattr__(here.settings, "snapshot_every_records", 4)
    object.__setattr__(here.settings, "snapshot_every_hours", 0)
    write(here, 1)
    assert snapshot.sweep(here) == []
    write(here, 2)
    assert snapshot.sweep(here) == [UID]
    assert snapshot.sweep(here) == []  # asked already
    work(here)
    assert len(whole(here)) == 1
    here.redis.delete(names.snapshot_pending(UID))
    assert snapshot.sweep(here) == []
    write(here, 3, 4)
    assert snapshot.sweep(here) == []  # not so soon after the last one
    clock.sleep(snapshot.PAUSE_S + 1)
    assert snapshot.sweep(here) == [UID]


def test_the_scheduler_asks_when_hours_have_passed_with_a_change(here: context.Context, clock: Clock) -> None:
    write(here, 1)
    assert snapshot.sweep(here) == [UID]
    work(here)
    here.redis.delete(names.snapshot_pending(UID))
    write(here, 2)
    assert snapshot.sweep(here) == []
    clock.sleep(25 * 3600)
    assert snapshot.sweep(here) == [UID]


def work(here: context.Context) -> None:
    SimpleWorker(
        [open_queue(here.redis, jobs.SNAPSHOTS)], connection=here.redis, serializer=JSONSerializer
    ).work(burst=True)


def test_thinned_snapshots_lose_the_manifest_first_and_their_files_hours_later(
    here: context.Context, clock: Clock
) -> None:
    layout = here.layout(UID)
    write(here, 1)
    snapshot.make(UID)
    write(here, 2)
    snapshot.make(UID)
    (old, new) = whole(here)
    clock.sleep(2000 * 24 * 3600)  # both of one month long ago
    snapshot.thin(here, layout, lambda: None)
    assert whole(here) == [new]
    task = layout.snapshot(SnapshotKey(position=old, name="task.parquet"))
    assert here.store.head(task) is not None
    clock.time -= timedelta(days=2000) - STILL_READ / 2
    snapshot.thin(here, layout, lambda: None)
    assert here.store.head(task) is not None
    clock.sleep(STILL_READ.total_seconds())
    snapshot.thin(here, layout, lambda: None)
    assert snapshots.positions(here.store, layout)[1] == [new]
    is_true(here)


def test_what_a_dead_job_left_is_removed_a_day_later(here: context.Context, clock: Clock) -> None:
    layout = here.layout(UID)
    write(here, 1)
    snapshot.make(UID)
    (only,) = whole(here)
    here.store.delete(layout.snapshot(SnapshotKey(position=only, name=MANIFEST)))
    snapshot.thin(here, layout, lambda: None)
    assert snapshots.positions(here.store, layout)[1] == [only]
    clock.sleep(LEFT_BEHIND.total_seconds() + 60)
    snapshot.thin(here, layout, lambda: None)
    assert snapshots.positions(here.store, layout)[1] == []


@pytest.fixture
def clients(here: context.Context, tmp_path: Path) -> Clients:
    settings = SidecarSettings(
        label_studio=LabelStudioSettings(url="http://127.0.0.1:9", api_key="0" * 40),
        s3=here.settings.s3,
        redis_url=here.settings.redis_url,
        webhook_secret="a-secret-of-the-tests",
        api_token="a-token-of-the-tests",
        spool_dir=str(tmp_path / "spool"),
    )

    def at_once(connection: redis.Redis, job: jobs.Job) -> str:
        id = queue.enqueue(connection, job)
        work(here)
        return id

    return Clients(
        settings=settings,
        label_studio=FakeLabelStudio(),  # type: ignore[arg-type]
        redis=here.redis,
        store=here.store,
        check_bucket=lambda: None,
        enqueue=at_once,
    )


def test_the_commands_make_and_list_snapshots(here: context.Context, clients: Clients) -> None:
    nothing = CliRunner().invoke(cli, ["archive", "snapshots", UID], obj=clients)
    assert "no snapshot" in nothing.output
    write(here, 1, 2)
    made = CliRunner().invoke(cli, ["archive", "snapshot", UID, "--wait"], obj=clients)
    assert made.exit_code == 0, made.output
    assert "2 log objects" in made.output
    assert "2 annotation" in made.output
    listed = CliRunner().invoke(cli, ["archive", "snapshots", UID], obj=clients)
    assert listed.output == made.output
