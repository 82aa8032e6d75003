"""Read all of a project from Label Studio into its log: what was there before we were, and what no webhook told.

A page of tasks at a time: read, compare with what the log says, append what is new as one object, note the cursor. So a
run that is killed goes on where it stopped, and a repeated one writes next to nothing. Only the short append takes the
project's log lock; live events pass between the pages. Memory: one page, and about a kilobyte for each thing the log
knows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from rq import get_current_job

from bridge import jobs
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.edges.log import forget, lost_newest
from bridge.errors import OutsideError
from bridge.keys import project_id_of
from bridge.readings import Reading
from bridge.records import Record, Stamp, format_time, put
from bridge.state import BASELINE_COMPLETED
from workers import context
from workers.kept_lock import Kept, held
from workers.progress import Reporter
from workers.reading import LOCK_TTL_S, Reader, Stop, time_of

log = logging.getLogger(__name__)

EVENT = "BASELINE"
GO_ON_WITHIN = timedelta(days=1)
UNREADABLE_NAMED = 5


def run(uid: str, reason: str) -> None:
    """Read the project whole. Raises Unavailable while Label Studio or the bucket is away: the queue comes again.

    Only one run a project at a time: a request that comes while one is under way has it repeated afterwards, since
    pages already read can have missed what the request is about."""
    here = context.current()
    fields = names.baseline(uid)
    with held(here.redis, names.baseline_lock(uid), ttl_s=LOCK_TTL_S) as lock:
        if lock is None:
            if reason != jobs.NOT_FINISHED:
                here.redis.hset(fields, "again", reason)
            return
        Baseline(here, uid, lock).run(reason)
    again = here.redis.hget(fields, "again")
    if again is not None and here.redis.hdel(fields, "again") and here.redis.sismember(names.WANTED, uid):
        queue.enqueue(here.redis, jobs.baseline(uid, again.decode()))


class Baseline:
    """One run over one project, under its lock. Tests hand in `sleep`."""

    def __init__(
        self, here: context.Context, uid: str, lock: Kept, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._here = here
        self._uid = uid
        self._project_id = project_id_of(uid)
        self._reader = Reader(here, uid, lock, source="baseline", event=EVENT, sleep=sleep)
        self._started_at = ""

    def run(self, reason: str) -> None:
        """Read everything; say in the progress what came of it."""
        try:
            self._run(reason)
        except Stop as stop:
            log.info("baseline of %s: %s", self._uid, stop)
        except OutsideError as error:
            if error.retryable:
                self._note(state="queued", message=f"waits: {error}")
                raise
            # The queue's tries cannot help; a person reads this in the status and asks again.
            log.error("baseline of %s failed: %s", self._uid, error)
            self._note(state="failed", message=str(error))
        except Exception as error:
            self._note(state="failed", message=f"{type(error).__name__}: {error}")
            raise

    def _run(self, reason: str) -> None:
        self._check_wanted()
        project = self._reader.project()
        cursor, done = self._begin(reason, project.get("task_number") or 0)
        self._reader.load()
        self._reader.append(self._reader.settle(self._reader.surroundings))
        report = Reporter(
            "tasks", total=max(done, project.get("task_number") or 0), now=self._here.now, done_at_start=done
        )
        while True:
            report(done)
            self._check_wanted()
            tasks, found = self._page(cursor)
            if not tasks:
                break
            self._reader.append(found)
            self._reader.enqueue_media(tasks)
            cursor, done = max(task["id"] for task in tasks), done + len(tasks)
            self._note(cursor=cursor, done=done)
        self._complete(done)

    # --- one after the other

    def _begin(self, reason: str, total: int) -> tuple[int, int]:
        """Where to go on: (id of the last task done, how many are done). (0, 0) unless this run repairs a cut one."""
        job = get_current_job()
        job_id = "" if job is None else str(job.id)
        saved = {
            name.decode(): value.decode()
            for name, value in self._here.redis.hgetall(names.baseline(self._uid)).items()
        }
        now = self._here.now()
        lost = lost_newest(self._here.store, self._here.redis, self._here.layout(self._uid))
        if lost:
            forget(self._here.redis, self._uid)
        cut_off = reason == jobs.NOT_FINISHED or (job_id != "" and job_id == saved.get("job"))
        noted_at = time_of(saved.get("updated_at"))
        goes_on = (
            cut_off
            and saved.get("cursor", "").isdecimal()
            and saved.get("started_at", "") != ""
            and noted_at is not None
            and now - noted_at < GO_ON_WITHIN
            and not lost
        )
        cursor, done = (int(saved["cursor"]), int(saved.get("done") or 0)) if goes_on else (0, 0)
        self._started_at = saved["started_at"] if goes_on else format_time(now)
        self._here.redis.hset(
            names.baseline(self._uid),
            mapping={
                "state": "running",
                "started_at": self._started_at,
                "updated_at": format_time(now),
                "cursor": cursor,
                "done": done,
                "total": max(total, done),
                "job": job_id,
                "message": reason,
            },
        )
        log.info("baseline of %s (%s): %d of %d tasks done", self._uid, reason, done, total)
        return cursor, done

    def _page(self, cursor: int) -> tuple[list[dict[str, Any]], list[Record]]:
        """The next tasks, and what of them the log does not say yet."""
        tasks: list[dict[str, Any]] = []

        def read() -> Reading:
            tasks[:], reading = self._reader.whole(
                lambda: self._here.label_studio.tasks_after(
                    self._project_id, cursor, page_size=self._here.settings.baseline_page_size
                )
            )
            return reading

        found = self._reader.settle(read)
        return tasks, found

    def _complete(self, done: int) -> None:
        """Say in the log itself that all of it is there: readers without Redis must know too."""
        stamp = self._reader.stamp()
        project = self._reader.project()
        stamp = Stamp(
            event_id=stamp.event_id,
            received_at=self._here.now(),
            source="baseline",
            event=BASELINE_COMPLETED,
            observed_at=stamp.observed_at,
        )
        self._reader.append([put("project", project, stamp)])
        queue.enqueue(self._here.redis, jobs.current(self._uid))
        message = ""
        if self._reader.unreadable:
            self._here.redis.hincrby(names.COUNTERS, "baseline_unreadable", len(self._reader.unreadable))
            shown = "; ".join(self._reader.unreadable[:UNREADABLE_NAMED])
            message = f"{len(self._reader.unreadable)} things could not be read: {shown}"
        self._note(state="complete", done=done, total=done, message=message)
        self._here.redis.hdel(names.baseline(self._uid), "cursor")
        log.info("baseline of %s is complete: %d tasks", self._uid, done)

    # --- keeping in step with the others

    def _check_wanted(self) -> None:
        self._reader.check_wanted()
        if self._started_at and self._saved_start() != self._started_at:
            # The bucket was found empty, so what this run wrote is gone and its progress was thrown away.
            self._here.redis.hset(names.baseline(self._uid), "again", "its progress was reset")
            raise Stop("its progress was reset; it begins again")

    def _saved_start(self) -> str:
        saved = self._here.redis.hget(names.baseline(self._uid), "started_at")
        return "" if saved is None else saved.decode()

    def _note(self, **fields: str | int) -> None:
        """Progress for status; a run whose progress was thrown away writes none."""
        if self._started_at and self._saved_start() != self._started_at:
            return
        total = fields.get("done")
        if isinstance(total, int) and "total" not in fields:
            known = self._here.redis.hget(names.baseline(self._uid), "total")
            fields["total"] = max(total, int(known or 0))
        self._here.redis.hset(
            names.baseline(self._uid), mapping=fields | {"updated_at": format_time(self._here.now())}
        )
