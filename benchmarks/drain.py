"""How fast one worker carries a full stream into the bucket, beside one that puts an object for each event.

The stream is filled first; the time runs from the moment the job is enqueued until the stream is empty, which it is only
once everything is in the bucket. Afterwards the log is read, and must have every annotation.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import redis

from benchmarks.bodies import UID, AnnotationBodies
from benchmarks.relay import NO_LABEL_STUDIO
from benchmarks.row import Row, more_is_better
from bridge import jobs
from bridge.edges import queue, stream
from bridge.edges import redis as names
from bridge.edges.log import read_records
from bridge.edges.stream import Entry
from bridge.settings import WorkersSettings
from bridge.store import ObjectStore
from stack.machine import started, temporary_setup
from stack.settings import program_environment
from workers.context import Context

WARM_UP = 20
FILL_AT_ONCE = 200
LONGEST_S = 150


@dataclass(frozen=True, kw_only=True)
class Size:
    events: int = 10_000
    put_directly: int = 500


def measure(size: Size = Size()) -> list[Row]:
    """Events a second; the emulation stands in for the store."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        setup = temporary_setup(Path(folder), os.environ, **NO_LABEL_STUDIO)
        with started(setup, only={"redis", "s3", "workers-live"}):
            here = Context(WorkersSettings.from_env(program_environment(setup)))
            _drain(here.redis, range(1, 1 + WARM_UP))
            ids = range(1 + WARM_UP, 1 + WARM_UP + size.events)
            seconds = _drain(here.redis, ids)
            _check(here, {str(id) for id in ids})
            directly = _put_directly(here.store, range(1, 1 + size.put_directly))
    return [
        more_is_better(
            "drained by one worker",
            "events/s",
            size.events / seconds,
            size.put_directly / directly,
            "an object for each event, one after the other",
        )
    ]


def _drain(connection: redis.Redis, ids: range) -> float:
    """Seconds. Raises TimeoutError with why the worker cannot, where it knows."""
    for start in range(0, len(ids), FILL_AT_ONCE):
        pipe = connection.pipeline(transaction=False)
        for entry in _entries(ids[start : start + FILL_AT_ONCE]):
            pipe.xadd(names.stream(UID), entry.to_fields())  # type: ignore[arg-type]
        pipe.execute()
    assert stream.waiting(connection, UID) == len(ids), "somebody has begun already"
    began = time.perf_counter()
    job = queue.enqueue(connection, jobs.drain(UID))
    _wait(connection, lambda: stream.waiting(connection, UID) == 0)
    seconds = time.perf_counter() - began
    # It looks again before it ends, and would take what the next one puts in.
    _wait(connection, lambda: not queue.is_under_way(connection, job))
    return seconds


def _wait(connection: redis.Redis, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(connection.get(names.trouble(UID)) or "the worker does not come to an end")
        time.sleep(0.02)


def _entries(ids: range) -> Iterator[Entry]:
    bodies = AnnotationBodies()
    for id in ids:
        yield Entry(
            event_id=uuid.uuid4().hex,
            received_at=datetime.now(UTC),
            source="webhook",
            action="ANNOTATION_CREATED",
            body=bodies.body(id),
        )


def _check(here: Context, ids: set[str]) -> None:
    written = {
        record.id for record in read_records(here.store, here.layout(UID)) if record.kind == "annotation"
    }
    if missing := ids - written:
        raise AssertionError(f"{len(missing)} of {len(ids)} annotations are not in the log")


def _put_directly(store: ObjectStore, ids: range) -> float:
    bodies = AnnotationBodies()
    began = time.perf_counter()
    for id in ids:
        store.put(f"direct/{id}.json", bodies.body(id), content_type="application/json")
    return time.perf_counter() - began
