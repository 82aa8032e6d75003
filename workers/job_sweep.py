"""Jobs that RQ 3.0.0 leaves lying for minutes are taken up again within one or two.

- A worker killed with its work-horse: the job stays "started" until its heartbeat runs out, and RQ looks after that only
  every ten minutes. `take_up` has RQ look as soon as it has run out: retried where tries are left, else failed.
- A worker killed between taking a job and beginning it: the job lies in RQ's intermediate queue. Put back.
- A retry's wait is ended by a process beside the worker. A worker that comes back within a minute of being killed finds
  the dead one's lock, and starts none for ten minutes. `Timekeeper` stands in where no lock has been held for a while.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import redis
from rq import Queue
from rq.job import Job
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges import redis as names
from bridge.edges.queue import note_failure, open_queue
from bridge.failures import DIED

log = logging.getLogger(__name__)
# A worker says every so often that its job is alive; RQ lets a minute pass beyond that (worker/base.py, get_heartbeat_ttl).
HEARTBEAT_S = 10
LOCK_MS = 30_000
STUCK_S = 30.0
NOBODY_S = 15.0


class Sweep:
    """What the scheduler calls at each tick; it looks every few seconds. Tests hand in a clock."""

    def __init__(
        self, connection: redis.Redis, *, every_s: float = 5.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._redis = connection
        self._every_s = every_s
        self._clock = clock
        self._looked_at = float("-inf")
        self._first_seen: dict[str, float] = {}
        self._timekeepers = [Timekeeper(connection, name, clock=clock) for name in jobs.QUEUES]

    def tick(self) -> list[str]:
        """Returns the ids of the jobs taken up."""
        if self._clock() - self._looked_at < self._every_s:
            return []
        self._looked_at = self._clock()
        for timekeeper in self._timekeepers:
            timekeeper.tick()
        # One scheduler at a time: two would each use up one of a job's tries.
        if not self._redis.set(names.JOB_SWEEP_LOCK, 1, nx=True, px=LOCK_MS):
            return []
        try:
            return take_up(self._redis, now=self._clock()) + self._put_back()
        finally:
            self._redis.delete(names.JOB_SWEEP_LOCK)

    def stop(self) -> None:
        for timekeeper in self._timekeepers:
            timekeeper.stop()

    def _put_back(self) -> list[str]:
        """Put back the jobs that a worker took half a minute ago and has not begun."""
        queues = [open_queue(self._redis, name) for name in jobs.QUEUES]
        lying = {id: queue for queue in queues for id in _not_begun(queue)}
        self._first_seen = {id: self._first_seen.get(id, self._clock()) for id in lying}
        found = []
        for id, queue in lying.items():
            if self._clock() - self._first_seen[id] < STUCK_S:
                continue
            if self._redis.lrem(queue.intermediate_queue.key, 1, id) and queue.fetch_job(id) is not None:
                queue.push_job_id(id, at_front=True)
                found.append(id)
        return found


def take_up(connection: redis.Redis, *, now: float) -> list[str]:
    """Have RQ deal with every started job whose heartbeat has run out at `now` (seconds since 1970). Returns their ids."""
    found: list[str] = []
    for name in jobs.QUEUES:
        registry = open_queue(connection, name).started_job_registry
        expired = registry.get_expired_job_ids(now)
        if not expired:
            continue
        registry.cleanup(now, exception_handlers=[say_it_died])
        found += expired
    return found


def say_it_died(job: Job, *_: object) -> bool:
    """For whoever has RQ look after abandoned jobs: this sweep, and each worker at its start and every ten minutes."""
    log.warning("%s: %s", job.description, DIED)
    note_failure(job, DIED)
    # RQ 3.0.0 keeps the dead execution in the job's own registry, and stumbles over it when a further try has succeeded.
    job.connection.delete(job.execution_registry.key)
    return True


def _not_begun(queue: Queue) -> list[str]:
    """Taken by a worker, and neither started nor in any way ended."""
    ids = queue.intermediate_queue.get_job_ids()
    started = set(queue.started_job_registry.get_job_ids(cleanup=False)) if ids else set()
    return [id for id in ids if id not in started]


class Timekeeper:
    """Ends the waits of one queue's jobs for as long as no worker does."""

    def __init__(self, connection: redis.Redis, name: str, *, clock: Callable[[], float]) -> None:
        self._redis = connection
        self._name = name
        self._clock = clock
        self._nobody_since: float | None = None
        self._scheduler: RQScheduler | None = None

    def tick(self) -> None:
        """Also keeps the lock, once it is ours."""
        if self._scheduler is not None:
            if self._scheduler.acquire_locks():
                self._scheduler.enqueue_scheduled_jobs()
            else:
                self._scheduler.connection.connection_pool.disconnect()
                self._scheduler = None
            return
        if self._redis.exists(RQScheduler.get_locking_key(self._name)):
            self._nobody_since = None
            return
        if self._nobody_since is None:
            self._nobody_since = self._clock()
        if self._clock() - self._nobody_since >= NOBODY_S:
            self._nobody_since = None
            self._scheduler = RQScheduler(
                [self._name], connection=self._redis, logging_level="WARNING", serializer=JSONSerializer
            )
            self.tick()

    def stop(self) -> None:
        """Let go of the lock, for workers to take."""
        if self._scheduler is not None:
            self._scheduler.release_locks()
            self._scheduler.connection.connection_pool.disconnect()
            self._scheduler = None
