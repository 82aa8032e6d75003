"""Enqueue what a pre-labelling job has lost: a killed worker, an enqueue that failed, tries used up while a backend was away.

Also the hook of the drain: new tasks that are to be pre-labelled as they come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import redis

from bridge import jobs
from bridge.edges import prelabel as registry
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.edges.prelabel import Ledger
from bridge.errors import NotFound
from bridge.records import Record

EVERY_S = 20.0
TASKS_CREATED = "TASKS_CREATED"
NEW_TASKS = "new tasks"


def new_tasks(connection: redis.Redis, uid: str, records: Sequence[Record]) -> None:
    """Want the tasks that were just made pre-labelled."""
    ids = [int(r.id) for r in records if r.kind == "task" and r.op == "put" and r.event == TASKS_CREATED]
    registry.want(connection, uid, ids, by=NEW_TASKS)


class Sweep:
    """What the scheduler calls at each tick."""

    def __init__(
        self,
        connection: redis.Redis,
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis, self._every_s, self._clock = connection, every_s, clock
        self._looked_at = float("-inf")

    def tick(self) -> list[str]:
        """Returns the ids of the jobs of which something was enqueued."""
        if self._clock() - self._looked_at < self._every_s:
            return []
        self._looked_at = self._clock()
        found = [id for id in registry.newest(self._redis) if self._take_up(Ledger(self._redis, id))]
        for raw in self._redis.smembers(names.PRELABEL_WANTED):  # type: ignore[union-attr]
            uid = raw.decode()
            if not registry.active(self._redis, uid):
                registry.enqueue_wanted(self._redis, uid)
        return found

    def _take_up(self, ledger: Ledger) -> bool:
        try:
            order = ledger.order()
        except NotFound:
            return False
        if not ledger.is_running:
            return False
        lost = []
        if ledger.state == "queued" or not ledger.is_split:
            lost.append(("split", jobs.prelabel(order.uid, order.id)))
        for name in ledger.chunks():
            lost.append((name, jobs.prelabel_chunk(order.uid, order.id, name, len(ledger.chunk(name)))))
        if not lost:
            lost.append(("finish", jobs.prelabel_finish(order.uid, order.id)))
        enqueued = False
        for part, job in lost:
            if not queue.is_under_way(self._redis, ledger.job_of(part) or "-"):
                ledger.note_job(part, queue.enqueue(self._redis, job))
                enqueued = True
        return enqueued
