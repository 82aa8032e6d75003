"""Read all of a project from Label Studio into its log: what was there before we were, and what no webhook told.

A page of tasks at a time: read, compare with what the log says, append what is new as one object, note the cursor. So a
run that is killed goes on where it stopped, and a repeated one writes next to nothing. Only the short append takes the
project's log lock; live events pass between the pages. Memory: one page, and about a kilobyte for each thing the log
knows.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from redis.exceptions import LockError
from redis.lock import Lock
from rq import get_current_job

from bridge import events, jobs, readings
from bridge.edges import queue, stream
from bridge.edges import redis as names
from bridge.edges.log import forget, lost_newest, read_records
from bridge.errors import NotFound, OutsideError, Refused
from bridge.keys import project_id_of, project_uid
from bridge.readings import Known, Reading
from bridge.records import Record, Stamp, format_time, parse_time, put
from bridge.state import BASELINE_COMPLETED
from workers import context
from workers.progress import Reporter

log = logging.getLogger(__name__)

EVENT = "BASELINE"
LOCK_TTL_S = 120
LOCK_BEAT_S = 20
# Longer than clocks of one installation differ and than a webhook is under way.
CONFIRM_AFTER_S = 2.0
GO_ON_WITHIN = timedelta(days=1)
MEDIA_A_JOB = 100
UNREADABLE_NAMED = 5


class _Stop(Exception):
    """This run has nothing more to do; another one, or nobody, goes on."""


def run(uid: str, reason: str) -> None:
    """Read the project whole. Raises Unavailable while Label Studio or the bucket is away: the queue comes again.

    Only one run a project at a time: a request that comes while one is under way has it repeated afterwards, since
    pages already read can have missed what the request is about."""
    here = context.current()
    fields = names.baseline(uid)
    lock = here.redis.lock(names.baseline_lock(uid), timeout=LOCK_TTL_S)
    if not lock.acquire(blocking=False):
        if reason != jobs.NOT_FINISHED:
            here.redis.hset(fields, "again", reason)
        return
    try:
        Baseline(here, uid, lock).run(reason)
    finally:
        try:
            lock.release()
        except LockError:
            log.warning("the lock of the baseline of %s ran out before its work was done", uid)
    again = here.redis.hget(fields, "again")
    if again is not None and here.redis.hdel(fields, "again") and here.redis.sismember(names.WANTED, uid):
        queue.enqueue(here.redis, jobs.baseline(uid, again.decode()))


class Baseline:
    """One run over one project, under its lock. Tests hand in `sleep`."""

    def __init__(
        self, here: context.Context, uid: str, lock: Lock, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._here = here
        self._uid = uid
        self._project_id = project_id_of(uid)
        self._lock = lock
        self._sleep = sleep
        self._known = Known()
        self._beaten = time.monotonic()
        self._started_at = ""
        self._unreadable: list[str] = []

    def run(self, reason: str) -> None:
        """Read everything; say in the progress what came of it."""
        try:
            self._run(reason)
        except _Stop as stop:
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
        project = self._project()
        cursor, done = self._begin(reason, project.get("task_number") or 0)
        self._load_known()
        self._append(self._settle(self._surroundings))
        report = Reporter(
            "tasks", total=max(done, project.get("task_number") or 0), now=self._here.now, done_at_start=done
        )
        while True:
            report(done)
            self._check_wanted()
            tasks, found = self._page(cursor)
            if not tasks:
                break
            self._append(found)
            self._enqueue_media(tasks)
            cursor, done = max(task["id"] for task in tasks), done + len(tasks)
            self._note(cursor=cursor, done=done)
        self._complete(done)

    # --- one after the other

    def _project(self) -> dict[str, Any]:
        """The project, if it still is the one that `uid` means. Raises NotFound or Refused."""
        try:
            project = self._here.label_studio.project(self._project_id)
        except NotFound as error:
            raise NotFound(
                f"Label Studio has no project {self._project_id} (any more); its record stays in the bucket"
            ) from error
        created_at = parse_time(project["created_at"])
        uid = "" if created_at is None else project_uid(project["id"], created_at)
        if uid != self._uid:
            raise Refused(
                f"another project has the id {self._project_id} in this Label Studio now: {uid}, not {self._uid}",
                hint=f"run `python -m sidecar connect {self._project_id}` to keep a record of that one",
            )
        return project

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
        noted_at = _time(saved.get("updated_at"))
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

    def _load_known(self) -> None:
        for record in read_records(self._here.store, self._here.layout(self._uid)):
            self._known.add(record)
            self._beat()

    def _surroundings(self) -> Reading:
        """All but the tasks."""
        label_studio, id = self._here.label_studio, self._project_id
        reading = readings.of_items("user", label_studio.users(), self._stamp())
        stamp = self._stamp()
        for direction, storage_type, items in label_studio.storages(id):
            reading += readings.of_storages(direction, storage_type, items, stamp)
        for kind, read in (
            ("webhook", label_studio.webhooks),
            ("ml_backend", label_studio.ml_backends),
            ("view", label_studio.views),
            ("project", lambda id: [self._here.label_studio.project(id)]),
        ):
            stamp = self._stamp()
            reading += readings.of_items(kind, read(id), stamp)
            self._beat()
        return reading

    def _page(self, cursor: int) -> tuple[list[dict[str, Any]], list[Record]]:
        """The next tasks, and what of them the log does not say yet."""
        tasks: list[dict[str, Any]] = []

        def read() -> Reading:
            self._beat()
            stamp = self._stamp()
            tasks[:] = self._here.label_studio.tasks_after(
                self._project_id, cursor, page_size=self._here.settings.baseline_page_size
            )
            self._beat()
            ids = readings.wanted_from_export(tasks, self._known, stamp)
            exported = self._here.label_studio.exported(self._project_id, ids) if ids else []
            return readings.of_tasks(tasks, exported, stamp)

        found = self._settle(read)
        return tasks, found

    def _settle(self, read: Callable[[], Reading]) -> list[Record]:
        """Read, and read again where the first answer would overrule what the log says."""
        reading = read()
        self._unreadable += reading.unreadable
        for words in reading.unreadable:
            log.error("baseline of %s cannot read %s", self._uid, words)
        plan = readings.plan(reading.records, self._known)
        if not plan.doubtful:
            return plan.write
        self._sleep(CONFIRM_AFTER_S)
        sure = readings.confirmed(plan.doubtful, read().records, self._known)
        log.info(
            "baseline of %s: %d things differ from the record though nothing told us; %d confirmed",
            self._uid,
            len(plan.doubtful),
            len(sure),
        )
        return plan.write + sure

    def _append(self, records: list[Record]) -> None:
        """One object, under the log's lock for as long as one put takes."""
        self._beat()
        if not records:
            return
        self._here.log_writer(self._uid).append(records)
        if stream.waiting(self._here.redis, self._uid):
            # A drain that found the lock held has gone away.
            queue.enqueue(self._here.redis, jobs.drain(self._uid))

    def _enqueue_media(self, tasks: list[dict[str, Any]]) -> None:
        paths = list(
            dict.fromkeys(path for task in tasks for path in events.upload_paths(task.get("data") or {}))
        )
        for start in range(0, len(paths), MEDIA_A_JOB):
            queue.enqueue(self._here.redis, jobs.media(self._uid, paths[start : start + MEDIA_A_JOB]))

    def _complete(self, done: int) -> None:
        """Say in the log itself that all of it is there: readers without Redis must know too."""
        stamp = self._stamp()
        project = self._project()
        stamp = Stamp(
            event_id=stamp.event_id,
            received_at=self._here.now(),
            source="baseline",
            event=BASELINE_COMPLETED,
            observed_at=stamp.observed_at,
        )
        self._append([put("project", project, stamp)])
        queue.enqueue(self._here.redis, jobs.current(self._uid))
        message = ""
        if self._unreadable:
            self._here.redis.hincrby(names.COUNTERS, "baseline_unreadable", len(self._unreadable))
            shown = "; ".join(self._unreadable[:UNREADABLE_NAMED])
            message = f"{len(self._unreadable)} things could not be read: {shown}"
        self._note(state="complete", done=done, total=done, message=message)
        self._here.redis.hdel(names.baseline(self._uid), "cursor")
        log.info("baseline of %s is complete: %d tasks", self._uid, done)

    # --- keeping in step with the others

    def _stamp(self) -> Stamp:
        """Made before each request: `observed_at` is our clock before it."""
        now = self._here.now()
        return Stamp(
            event_id=str(uuid.uuid4()), received_at=now, source="baseline", event=EVENT, observed_at=now
        )

    def _check_wanted(self) -> None:
        if not self._here.redis.sismember(names.WANTED, self._uid):
            raise _Stop("stopped, since the project was disconnected")
        if self._started_at and self._saved_start() != self._started_at:
            # The bucket was found empty, so what this run wrote is gone and its progress was thrown away.
            self._here.redis.hset(names.baseline(self._uid), "again", "its progress was reset")
            raise _Stop("its progress was reset; it begins again")

    def _saved_start(self) -> str:
        saved = self._here.redis.hget(names.baseline(self._uid), "started_at")
        return "" if saved is None else saved.decode()

    def _beat(self) -> None:
        """Keep our lock while we work; whoever lost it stops."""
        if time.monotonic() - self._beaten < LOCK_BEAT_S:
            return
        try:
            self._lock.extend(LOCK_TTL_S, replace_ttl=True)
        except LockError as error:
            raise _Stop("its lock ran out, another run goes on") from error
        self._beaten = time.monotonic()

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


def _time(text: str | None) -> datetime | None:
    try:
        return parse_time(text)
    except ValueError:
        return None
