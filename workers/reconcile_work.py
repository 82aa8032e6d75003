"""What the parts of one reconcile share: its reader, its report, and the one way to append and to say so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from bridge import jobs
from bridge import reconcile as rules
from bridge.edges import queue
from bridge.edges import repairs as memory
from bridge.edges.repairs import Report
from bridge.keys import project_id_of
from bridge.reconcile import DRY_RUN, Repair
from bridge.records import Record, format_time
from workers import context
from workers.kept_lock import Kept
from workers.reading import Reader

T = TypeVar("T")


class Work:
    """One run's means. Nothing but `write` appends to the log."""

    def __init__(
        self,
        here: context.Context,
        uid: str,
        lock: Kept,
        *,
        depth: str,
        mode: str,
        token: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.here = here
        self.uid = uid
        self.project_id = project_id_of(uid)
        self.depth = depth
        self.mode = mode
        self.token = token
        self.reader = Reader(here, uid, lock, source="reconcile", event=rules.RECONCILE, sleep=sleep)
        self.report = Report(uid=uid, depth=depth, mode=mode)
        self.notes: list[str] = []
        self.loaded = False

    @property
    def dry(self) -> bool:
        return self.mode == DRY_RUN

    def load(self) -> None:
        if not self.loaded:
            self.reader.load()
            self.loaded = True

    def check_wanted(self) -> None:
        if not self.token:
            self.reader.check_wanted()

    def repair(self, kind: str, id: str, what: str, why: str) -> Repair:
        return Repair(kind=kind, id=id, what=what, why=why, at=format_time(self.here.now()))

    def write_readings(self, records: list[Record]) -> None:
        now = self.here.now()
        done = [rules.repair_of(record, self.reader.known, now) for record in records]
        self.write(records, [repair for repair in done if repair is not None])

    def write(self, records: list[Record], done: list[Repair]) -> None:
        """Append, and only then say so. A dry run takes it into its own view alone."""
        if not self.dry:
            self.check_wanted()
            self.reader.append(records)
            memory.remember(self.here.redis, self.uid, done)
        for record in records:
            self.reader.known.add(record)
        self.report.add(done)
        if records and not self.dry:
            queue.enqueue(self.here.redis, jobs.current(self.uid))


def chunks(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
