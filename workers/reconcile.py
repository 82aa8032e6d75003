"""Compare a project in Label Studio with its record, and append what differs: what webhooks did not say, or never say.

What there is and how it is decided: bridge/reconcile.py; what it covers and costs: docs/reconcile.md. A run that is
killed does no harm: what it wrote is true, and the next run finds the rest. A full one goes on where it stopped.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from rq import get_current_job

from bridge import readings
from bridge import reconcile as rules
from bridge.edges import redis as names
from bridge.edges import repairs as memory
from bridge.edges.log import log_keys, lost_newest
from bridge.errors import OutsideError, Unavailable
from bridge.readings import Reading
from bridge.reconcile import FULL, INCREMENTAL, LIGHT, REPAIR
from bridge.records import format_time, parse_time
from workers import context
from workers.kept_lock import Kept, held
from workers.progress import Reporter
from workers.reading import LOCK_TTL_S, Stop, time_of
from workers.reconcile_missing import Missing
from workers.reconcile_notes import Notes, hash_of, times_in
from workers.reconcile_presence import Presence
from workers.reconcile_work import Work, chunks

log = logging.getLogger(__name__)
LIST_PAGE = 1000
LOCK_WAIT_S = 60
SURROUNDINGS = ("user", "storage", "webhook", "ml_backend", "view")


def run(uid: str, depth: str, mode: str = REPAIR, token: str = "") -> None:
    """Compare and repair. Raises Unavailable while Label Studio or the bucket is away: the queue comes again.

    Only one run a project at a time: one that the schedule asked for leaves it to the other, one that a person asked
    for (`token`) waits."""
    here = context.current()
    here.redis.delete(names.reconcile_pending(uid))
    looked_at = here.redis.hget(names.reconcile(uid), f"{depth}_looked_at")
    if not token and looked_since(_asked_at(), None if looked_at is None else looked_at.decode()):
        return
    name, wait_s = names.reconcile_lock(uid), LOCK_WAIT_S if token else 0
    with held(here.redis, name, ttl_s=LOCK_TTL_S, wait_s=wait_s) as lock:
        if lock is not None:
            Reconcile(here, uid, lock, depth=depth, mode=mode, token=token).run()
        elif token:
            raise Unavailable(f"another reconcile of {uid} is under way")
        elif depth == LIGHT:
            # It may be an event's wish, and the other has passed the change.
            here.redis.sadd(names.REREAD, uid)


def looked_since(asked_at: datetime | None, looked_at: str | None) -> bool:
    """Whether a look at least as deep has begun since one was asked for: while a queue is long, several wait in it."""
    began = time_of(looked_at)
    return asked_at is not None and began is not None and began > asked_at


def _asked_at() -> datetime | None:
    job = get_current_job()
    asked_at = None if job is None else job.enqueued_at
    return asked_at if asked_at is None or asked_at.tzinfo else asked_at.replace(tzinfo=UTC)


class Reconcile:
    """One run over one project, under its lock. Tests hand in `sleep`."""

    def __init__(
        self,
        here: context.Context,
        uid: str,
        lock: Kept,
        *,
        depth: str,
        mode: str = REPAIR,
        token: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._work = Work(here, uid, lock, depth=depth, mode=mode, token=token, sleep=sleep)
        self._here = here
        self._reader = self._work.reader
        self._notes = Notes(self._work)
        self._presence = Presence(self._work)
        self._missing = Missing(self._work, self._presence)
        self._requests_before = here.label_studio.requests
        self._cut_off = False

    def run(self) -> None:
        """Do it; say in the report what came of it."""
        self._work.report.started_at = format_time(self._here.now())
        self._notes.save(tried_at=self._work.report.started_at)
        try:
            self._run()
            self._end("done")
        except Stop as stop:
            log.info("reconcile of %s: %s", self._work.uid, stop)
            self._end("stopped", str(stop))
        except OutsideError as error:
            log.error("reconcile of %s (%s): %s", self._work.uid, self._work.depth, error)
            self._end("waiting" if error.retryable else "failed", str(error))
            if error.retryable and self._work.token:
                raise  # what the schedule asked for, it asks for again
        except Exception as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            raise

    def _run(self) -> None:
        if lost_newest(self._here.store, self._here.redis, self._here.layout(self._work.uid)):
            raise Stop("the bucket has lost the log: the scheduler has all of it read again")
        wanted = self._here.redis.sismember(names.WANTED, self._work.uid)
        if not wanted and next(log_keys(self._here.store, self._here.layout(self._work.uid)), None) is None:
            raise Stop(
                f"there is no record of it: `python -m sidecar connect {self._work.project_id}` begins one"
            )
        project = self._presence.project()
        if project is None:
            self._presence.note_absent()
            return
        saved = self._notes.saved()
        if self._presence.repair_hook() or (self._work.depth == INCREMENTAL and not saved.get("watermark")):
            # Events were missed, or nobody knows since when to look.
            self._work.depth = self._work.report.depth = max(self._work.depth, LIGHT, key=rules.DEPTHS.index)
        if self._work.depth == INCREMENTAL:
            self._incremental(project, saved)
        elif self._work.depth == LIGHT:
            self._light(project)
            if self._predictions_differ():
                self._full(project, saved, surroundings=False)
        else:
            self._full(project, saved)
        self._missing.settle()
        if self._work.loaded and not self._work.dry:
            memory.note_absent(self._here.redis, self._work.uid, self._reader.known.state.absent_since)

    # --- the three depths

    def _incremental(self, project: dict[str, Any], saved: dict[str, str]) -> None:
        watermark = parse_time(saved["watermark"])
        assert watermark is not None
        moved_at = time_of(saved.get("watermark_moved_at"))
        unmoved = timedelta() if moved_at is None else self._here.now() - moved_at
        since = rules.look_since(watermark, unmoved)
        before = self._here.redis.hgetall(names.reconcile_seen(self._work.uid))
        seen: dict[int, str] = {}
        now: datetime | None = None
        for rows in self._pages(
            lambda after: self._here.label_studio.tasks_updated_since(
                self._work.project_id, since, after, page_size=LIST_PAGE
            )
        ):
            now = now or self._here.label_studio.now
            seen |= {row["id"]: row["updated_at"] for row in rows}
        fresh = [id for id, text in seen.items() if before.get(str(id).encode()) != text.encode()]
        if saved.get("project_hash") != hash_of(project) or memory.absent_since(
            self._here.redis, self._work.uid
        ):
            self._work.load()
            self._settle_project()
        for ids in chunks(fresh, self._here.settings.baseline_page_size):
            self._compare(ids)
        self._notes.note_seen(seen, rules.next_watermark([watermark, *times_in(seen.values())], now), project)

    def _light(self, project: dict[str, Any]) -> None:
        self._work.load()
        self._compare_surroundings()
        task_ids = rules.TaskIds(self._reader.known)
        seen: dict[int, str] = {}
        different: list[int] = []
        now: datetime | None = None
        after = 0
        observed_at = self._here.now()
        for rows in self._pages(
            lambda after: self._here.label_studio.task_counts_after(
                self._work.project_id, after, page_size=LIST_PAGE
            )
        ):
            now = now or self._here.label_studio.now
            ids = [row["id"] for row in rows]
            self._missing.add(task_ids.unseen(after, ids[-1], ids, observed_at))
            after = ids[-1]
            seen |= {row["id"]: row["updated_at"] for row in rows}
            different += [row["id"] for row in rows if rules.looks_different(row, self._reader.known)]
        self._missing.add(task_ids.unseen(after, None, [], observed_at))
        report = Reporter("tasks", total=len(different), now=self._here.now)
        for ids in chunks(different, self._here.settings.baseline_page_size):
            report(self._work.report.tasks_compared)
            self._compare(ids)
        self._notes.note_seen(seen, rules.next_watermark(times_in(seen.values()), now), project)

    def _full(self, project: dict[str, Any], saved: dict[str, str], *, surroundings: bool = True) -> None:
        after = self._notes.go_on_after(saved)
        if after:
            self._cut_off = True
            self._missing.add(self._notes.missing_before())
        self._work.load()
        if surroundings:
            self._compare_surroundings()
        task_ids = rules.TaskIds(self._reader.known)
        total = project.get("task_number") or 0
        report = Reporter("tasks", total=total or None, now=self._here.now)
        updated: list[datetime] = []
        now: datetime | None = None
        while True:
            report(self._work.report.tasks_compared)
            self._work.check_wanted()
            observed_at = self._here.now()
            last = after
            tasks = self._compare_read(
                lambda: self._here.label_studio.tasks_after(
                    self._work.project_id,
                    last,  # noqa: B023 (called before the loop goes on)
                    page_size=self._here.settings.baseline_page_size,
                )
            )
            now = now or self._here.label_studio.now
            updated = [max([*updated, *times_in(task["updated_at"] for task in tasks)])] if tasks else updated
            ids = [task["id"] for task in tasks]
            self._missing.add(task_ids.unseen(after, max(ids, default=None), ids, observed_at))
            if not tasks:
                break
            after = max(ids)
            self._notes.note_page(after, self._missing.candidates())
        if self._cut_off:
            return  # The pages before the cut may have shown something newer.
        self._notes.note_seen({}, rules.next_watermark(updated, now), project)

    def _predictions_differ(self) -> bool:
        """Label Studio's count of a task's predictions stays when people delete them; that of the project does not.

        Once for each pair of numbers, or what cannot be read would have everything read each time."""
        listed = self._reader.project().get("total_predictions_number")
        counted = sum(1 for _ in self._reader.known.state.alive("prediction"))
        pair = f"{listed}|{counted}"
        if listed is None or listed == counted or self._notes.saved().get("predictions_compared") == pair:
            return False
        self._notes.save(predictions_compared=pair)
        return True

    def _pages(self, read: Callable[[int], list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
        """Pages in order of id, until an empty one."""
        after = 0
        while True:
            self._work.check_wanted()
            self._reader.beat()
            rows = read(after)
            if not rows:
                return
            after = max(row["id"] for row in rows)
            yield rows
            if len(rows) < LIST_PAGE:
                return

    # --- comparing

    def _compare(self, ids: list[int]) -> None:
        self._compare_read(lambda: self._here.label_studio.tasks_by_id(self._work.project_id, ids))

    def _compare_read(self, fetch: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Read tasks whole, write what differs, and note what the record shows on them and they do not."""
        tasks: list[dict[str, Any]] = []
        reading = Reading()
        if not self._work.loaded:
            stamp = self._reader.stamp()
            tasks[:] = fetch()
            self._work.report.tasks_compared += len(tasks)
            if self._told_already(tasks, readings.of_tasks(tasks, [], stamp)):
                return tasks
            self._work.report.tasks_compared -= len(tasks)
            self._work.load()
        observed_at = self._here.now()

        def read() -> Reading:
            nonlocal reading
            tasks[:], reading = self._reader.whole(fetch)
            return reading

        found = self._reader.settle(read, patient=True)
        self._work.write_readings(found)
        if not self._work.dry:
            self._reader.enqueue_media([r.data for r in found if r.kind == "task"])
        readable = [int(r.id) for r in reading.records if r.kind == "task"]
        self._missing.add(rules.unseen_on_tasks(readable, reading.records, self._reader.known, observed_at))
        self._work.report.tasks_compared += len(tasks)
        return tasks

    def _told_already(self, tasks: list[dict[str, Any]], reading: Reading) -> bool:
        """Whether webhooks brought exactly this last: then the log need not be folded, which is the usual case each minute.

        What a reading writes of a thing takes back what webhooks told of it (`Reader.append`), so A by webhook, B by a
        reading and A again is compared. Light and full runs never come here: they fold the log, and see to predictions,
        which webhooks never tell, to drafts, which are not shown here, and to what Redis has wrong."""
        if reading.unreadable or any(task.get("draft_exists", True) for task in tasks):
            return False
        told = [r for r in reading.records if r.kind in ("task", "annotation")]
        if not told:
            return True
        known = self._here.redis.hmget(names.known(self._work.uid), [f"{r.kind}:{r.id}" for r in told])
        return all(
            value is not None and value.decode() == r.fingerprint
            for r, value in zip(told, known, strict=True)
        )

    def _compare_surroundings(self) -> None:
        """Everything but the tasks. What belongs to Label Studio alone (its counters, its secrets) is no content."""
        observed_at = self._here.now()
        reading = Reading()

        def read() -> Reading:
            nonlocal reading
            reading = self._reader.surroundings()
            return reading

        self._work.write_readings(self._reader.settle(read, patient=True))
        self._missing.add(rules.unseen_things(SURROUNDINGS, reading.records, self._reader.known, observed_at))

    def _settle_project(self) -> None:
        def read() -> Reading:
            stamp = self._reader.stamp()
            return readings.of_items("project", [self._reader.project()], stamp)

        self._work.write_readings(self._reader.settle(read, patient=True))

    def _end(self, state: str, message: str = "") -> None:
        report = self._work.report
        report.state = state
        if self._reader.unreadable:
            self._work.notes.append(
                f"{len(self._reader.unreadable)} things could not be read: "
                + "; ".join(self._reader.unreadable[:5])
            )
        report.message = "; ".join([*([message] if message else []), *self._work.notes])
        report.finished_at = format_time(self._here.now())
        report.requests = self._here.label_studio.requests - self._requests_before
        if state == "done":
            if self._work.depth == FULL:
                self._notes.forget_pages()
            for depth in rules.DEPTHS[: rules.DEPTHS.index(self._work.depth) + 1]:
                self._notes.save(
                    **{f"{depth}_done_at": report.finished_at, f"{depth}_looked_at": report.started_at}
                )
        self._notes.save(last=json.dumps(report.to_json() | {"repairs": []}))
        memory.save_result(self._here.redis, self._work.token, report)
        log.log(
            logging.INFO if report.counts or self._work.depth != INCREMENTAL else logging.DEBUG,
            "reconcile of %s (%s): %s, %d repairs, %d requests",
            self._work.uid,
            self._work.depth,
            state,
            report.counts.total(),
            report.requests,
        )
