"""Compare a project in Label Studio with its record, and append what differs: what webhooks did not say, or never say.

What there is and how it is decided: bridge/reconcile.py; what it covers and costs: docs/reconcile.md. A run that is
killed does no harm: what it wrote is true, and the next run finds the rest. A full one goes on where it stopped.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from redis.exceptions import LockError
from redis.lock import Lock

from bridge import hooks, jobs, readings
from bridge import reconcile as rules
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.edges import repairs as memory
from bridge.edges.log import log_keys, lost_newest
from bridge.edges.repairs import Report
from bridge.errors import BridgeError, NotFound, OutsideError, Unavailable
from bridge.keys import project_id_of
from bridge.readings import Reading
from bridge.reconcile import ACCEPT, DRY_RUN, FULL, INCREMENTAL, LIGHT, REPAIR, Candidate, Repair
from bridge.records import Record, clean, content_hash, delete, format_time, parse_time, put
from workers import context
from workers.progress import Reporter
from workers.reading import LOCK_TTL_S, Reader, Stop, time_of, uid_of

log = logging.getLogger(__name__)
LIST_PAGE = 1000
LOCK_WAIT_S = 60
GO_ON_WITHIN = timedelta(days=1)
DELETES_AN_OBJECT = 500
T = TypeVar("T")
SURROUNDINGS = ("user", "storage", "webhook", "ml_backend", "view")


def run(uid: str, depth: str, mode: str = REPAIR, token: str = "") -> None:
    """Compare and repair. Raises Unavailable while Label Studio or the bucket is away: the queue comes again.

    Only one run a project at a time: one that the schedule asked for leaves it to the other, one that a person asked
    for (`token`) waits."""
    here = context.current()
    here.redis.delete(names.reconcile_pending(uid))
    lock = here.redis.lock(names.reconcile_lock(uid), timeout=LOCK_TTL_S)
    if not lock.acquire(blocking=bool(token), blocking_timeout=LOCK_WAIT_S if token else None):
        if token:
            raise Unavailable(f"another reconcile of {uid} is under way")
        if depth == LIGHT:
            here.redis.sadd(
                names.REREAD, uid
            )  # it may be an event's wish, and the other has passed the change
        return
    try:
        Reconcile(here, uid, lock, depth=depth, mode=mode, token=token).run()
    finally:
        try:
            lock.release()
        except LockError:
            log.warning("the lock of the reconcile of %s ran out before its work was done", uid)


class Reconcile:
    """One run over one project, under its lock. Tests hand in `sleep`."""

    def __init__(
        self,
        here: context.Context,
        uid: str,
        lock: Lock,
        *,
        depth: str,
        mode: str = REPAIR,
        token: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._here = here
        self._uid = uid
        self._project_id = project_id_of(uid)
        self._depth = depth
        self._mode = mode
        self._token = token
        self._reader = Reader(here, uid, lock, source="reconcile", event=rules.RECONCILE, sleep=sleep)
        self._report = Report(uid=uid, depth=depth, mode=mode)
        self._missing: list[Candidate] = []
        self._loaded = False
        self._requests_before = here.label_studio.requests
        self._notes: list[str] = []
        self._cut_off = False

    def run(self) -> None:
        """Do it; say in the report what came of it."""
        self._report.started_at = format_time(self._here.now())
        self._save(tried_at=self._report.started_at)
        try:
            self._run()
            self._end("done")
        except Stop as stop:
            log.info("reconcile of %s: %s", self._uid, stop)
            self._end("stopped", str(stop))
        except OutsideError as error:
            log.error("reconcile of %s (%s): %s", self._uid, self._depth, error)
            self._end("waiting" if error.retryable else "failed", str(error))
            if error.retryable and self._token:
                raise  # what the schedule asked for, it asks for again
        except Exception as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            raise

    def _run(self) -> None:
        if lost_newest(self._here.store, self._here.redis, self._here.layout(self._uid)):
            raise Stop("the bucket has lost the log: the scheduler has all of it read again")
        wanted = self._here.redis.sismember(names.WANTED, self._uid)
        if not wanted and next(log_keys(self._here.store, self._here.layout(self._uid)), None) is None:
            raise Stop(f"there is no record of it: `python -m sidecar connect {self._project_id}` begins one")
        project = self._present()
        if project is None:
            self._note_absent()
            return
        saved = self._saved()
        if self._repair_hook() or (self._depth == INCREMENTAL and not saved.get("watermark")):
            # Events were missed, or nobody knows since when to look.
            self._depth = self._report.depth = max(self._depth, LIGHT, key=rules.DEPTHS.index)
        if self._depth == INCREMENTAL:
            self._incremental(project, saved)
        elif self._depth == LIGHT:
            self._light(project)
            if self._predictions_differ():
                self._full(project, saved, surroundings=False)
        else:
            self._full(project, saved)
        self._settle_missing()
        if self._loaded and not self._dry:
            memory.note_absent(self._here.redis, self._uid, self._reader.known.state.absent_since)

    # --- whether it is there at all

    def _present(self) -> dict[str, Any] | None:
        """The project, or None when this Label Studio does not show it to us: asked for directly, and not listed."""
        label_studio = self._here.label_studio
        try:
            project = label_studio.project(self._project_id)
        except NotFound:
            project = None
        if project is not None and uid_of(project) == self._uid:
            return project
        if any(uid_of(listed) == self._uid for listed in label_studio.projects()):
            raise Unavailable(f"Label Studio lists the project {self._uid}, and says that it is not there")
        return None

    def _note_absent(self) -> None:
        """One record says since when the project is absent; nothing that belongs to it is deleted."""
        self._report.absent_since = memory.absent_since(self._here.redis, self._uid)
        if self._report.absent_since and self._depth != FULL:
            return
        self._load()
        state = self._reader.known.state
        thing = state.thing("project", str(self._project_id))
        since = state.absent_since
        if since is None and thing is not None and thing.record is not None:
            stamp = self._reader.stamp()
            since = stamp.observed_at
            gone = delete(
                "project",
                str(self._project_id),
                # The event's name is how people and `State.absent_since` tell it from a delete of contents.
                replace(stamp, event=rules.PROJECT_ABSENT),
                created_at=thing.record.created_at,
            )
            self._write([gone], [self._repair("project", gone.id, rules.ABSENT, "no webhook says this")])
        self._report.absent_since = "" if since is None else format_time(since)
        if not self._dry:
            memory.note_absent(self._here.redis, self._uid, since)

    def _repair_hook(self) -> bool:
        """Whether events cannot have reached us: then the webhook is set right, if our settings say how."""
        secret = self._here.settings.webhook_secret
        connected = self._here.redis.sismember(names.WANTED, self._uid)
        if not secret or not connected:
            return False
        want = hooks.wanted_hook(self._project_id, self._here.settings.sidecar_url, secret)
        repair = hooks.repair_of(want, self._here.label_studio.webhooks(self._project_id))
        if repair is None:
            return False
        done = self._repair("webhook", want["url"], rules.WEBHOOK, repair.why)
        if not self._dry:
            try:
                self._here.label_studio.request(repair.method, repair.path, json=repair.body)
            except BridgeError as error:
                self._notes.append(f"the webhook cannot be repaired ({repair.why}): {error}")
                log.error("the webhook of %s cannot be repaired: %s", self._uid, error)
                return False
            memory.remember(self._here.redis, self._uid, [done])
        self._report.add([done])
        return True

    # --- the three depths

    def _incremental(self, project: dict[str, Any], saved: dict[str, str]) -> None:
        watermark = parse_time(saved["watermark"])
        assert watermark is not None
        moved_at = time_of(saved.get("watermark_moved_at"))
        unmoved = timedelta() if moved_at is None else self._here.now() - moved_at
        since = rules.look_since(watermark, unmoved)
        before = self._here.redis.hgetall(names.reconcile_seen(self._uid))
        seen: dict[int, str] = {}
        now: datetime | None = None
        for rows in self._pages(
            lambda after: self._here.label_studio.tasks_updated_since(
                self._project_id, since, after, page_size=LIST_PAGE
            )
        ):
            now = now or self._here.label_studio.now
            seen |= {row["id"]: row["updated_at"] for row in rows}
        fresh = [id for id, text in seen.items() if before.get(str(id).encode()) != text.encode()]
        if self._project_changed(project, saved) or memory.absent_since(self._here.redis, self._uid):
            self._load()
            self._settle_project()
        for ids in _chunks(fresh, self._here.settings.baseline_page_size):
            self._compare(ids)
        self._note_seen(seen, rules.next_watermark([watermark, *_times(seen.values())], now), project)

    def _light(self, project: dict[str, Any]) -> None:
        self._load()
        self._compare_surroundings()
        task_ids = rules.TaskIds(self._reader.known)
        seen: dict[int, str] = {}
        different: list[int] = []
        now: datetime | None = None
        after = 0
        observed_at = self._here.now()
        for rows in self._pages(
            lambda after: self._here.label_studio.task_counts_after(
                self._project_id, after, page_size=LIST_PAGE
            )
        ):
            now = now or self._here.label_studio.now
            ids = [row["id"] for row in rows]
            self._missing += task_ids.unseen(after, ids[-1], ids, observed_at)
            after = ids[-1]
            seen |= {row["id"]: row["updated_at"] for row in rows}
            different += [row["id"] for row in rows if rules.looks_different(row, self._reader.known)]
        self._missing += task_ids.unseen(after, None, [], observed_at)
        report = Reporter("tasks", total=len(different), now=self._here.now)
        for ids in _chunks(different, self._here.settings.baseline_page_size):
            report(self._report.tasks_compared)
            self._compare(ids)
        self._note_seen(seen, rules.next_watermark(_times(seen.values()), now), project)

    def _full(self, project: dict[str, Any], saved: dict[str, str], *, surroundings: bool = True) -> None:
        after = self._go_on_after(saved)
        self._cut_off = after > 0
        self._load()
        if surroundings:
            self._compare_surroundings()
        task_ids = rules.TaskIds(self._reader.known)
        total = project.get("task_number") or 0
        report = Reporter("tasks", total=total or None, now=self._here.now)
        updated: list[datetime] = []
        now: datetime | None = None
        while True:
            report(self._report.tasks_compared)
            self._check_wanted()
            observed_at = self._here.now()
            last = after
            tasks = self._compare_read(
                lambda: self._here.label_studio.tasks_after(
                    self._project_id,
                    last,  # noqa: B023 (called before the loop goes on)
                    page_size=self._here.settings.baseline_page_size,
                )
            )
            now = now or self._here.label_studio.now
            updated = [max([*updated, *_times(task["updated_at"] for task in tasks)])] if tasks else updated
            ids = [task["id"] for task in tasks]
            self._missing += task_ids.unseen(after, max(ids, default=None), ids, observed_at)
            if not tasks:
                break
            after = max(ids)
            self._note_page(after)
        if self._cut_off:
            return  # The pages before the cut may have shown something newer.
        self._note_seen({}, rules.next_watermark(updated, now), project)

    def _predictions_differ(self) -> bool:
        """Label Studio's count of a task's predictions stays when people delete them; that of the project does not.

        Once for each pair of numbers, or what cannot be read would have everything read each time."""
        listed = self._reader.project().get("total_predictions_number")
        counted = sum(1 for _ in self._reader.known.state.alive("prediction"))
        pair = f"{listed}|{counted}"
        if listed is None or listed == counted or self._saved().get("predictions_compared") == pair:
            return False
        self._save(predictions_compared=pair)
        return True

    def _pages(self, read: Callable[[int], list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
        """Pages in order of id, until an empty one."""
        after = 0
        while True:
            self._check_wanted()
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
        self._compare_read(lambda: self._here.label_studio.tasks_by_id(self._project_id, ids))

    def _compare_read(self, fetch: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Read tasks whole, write what differs, and note what the record shows on them and they do not."""
        tasks: list[dict[str, Any]] = []
        reading = Reading()
        if not self._loaded:
            stamp = self._reader.stamp()
            tasks[:] = fetch()
            self._report.tasks_compared += len(tasks)
            if self._told_already(tasks, readings.of_tasks(tasks, [], stamp)):
                return tasks
            self._report.tasks_compared -= len(tasks)
            self._load()
        observed_at = self._here.now()

        def read() -> Reading:
            nonlocal reading
            tasks[:], reading = self._reader.whole(fetch)
            return reading

        found = self._reader.settle(read, patient=True)
        self._write_readings(found)
        if not self._dry:
            self._reader.enqueue_media([r.data for r in found if r.kind == "task"])
        readable = [int(r.id) for r in reading.records if r.kind == "task"]
        self._missing += rules.unseen_on_tasks(readable, reading.records, self._reader.known, observed_at)
        self._report.tasks_compared += len(tasks)
        return tasks

    def _told_already(self, tasks: list[dict[str, Any]], reading: Reading) -> bool:
        """Whether webhooks brought exactly this: then the log need not be folded, which is the usual case each minute.

        Predictions are never told by webhooks and drafts are not shown here: light and full runs see to them."""
        if reading.unreadable or any(task.get("draft_exists", True) for task in tasks):
            return False
        told = [r for r in reading.records if r.kind in ("task", "annotation")]
        if not told:
            return True
        known = self._here.redis.hmget(names.known(self._uid), [f"{r.kind}:{r.id}" for r in told])
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

        self._write_readings(self._reader.settle(read, patient=True))
        self._missing += rules.unseen_things(SURROUNDINGS, reading.records, self._reader.known, observed_at)

    def _settle_project(self) -> None:
        def read() -> Reading:
            stamp = self._reader.stamp()
            return readings.of_items("project", [self._reader.project()], stamp)

        self._write_readings(self._reader.settle(read, patient=True))

    def _project_changed(self, project: dict[str, Any], saved: dict[str, str]) -> bool:
        return saved.get("project_hash") != _hash_of(project)

    # --- what is missing

    def _settle_missing(self) -> None:
        """Ask Label Studio for each thing that was not shown, and record the end of what it says is not there."""
        candidates = self._candidates()
        if candidates:
            self._reader.let_webhooks_speak()
            candidates = [one for one in candidates if rules.still_alive(one, self._reader.known)]
        reason = rules.too_many(candidates, self._reader.known)
        if reason and self._mode != ACCEPT:
            self._hold(candidates, reason)
            return
        for asked in _chunks(candidates, DELETES_AN_OBJECT):
            self._settle_some(asked)
        if self._depth != INCREMENTAL and not self._dry:
            memory.hold(self._here.redis, self._uid, {})

    def _candidates(self) -> list[Candidate]:
        saved = self._here.redis.lrange(names.reconcile_missing(self._uid), 0, -1) if self._cut_off else []
        everything = {*self._missing, *(Candidate.from_text(text.decode()) for text in saved)}
        return sorted(one for one in everything if rules.still_alive(one, self._reader.known))

    def _settle_some(self, candidates: list[Candidate]) -> None:
        records: list[Record] = []
        done: list[Repair] = []
        for one in candidates:
            self._reader.beat()
            stamp = self._reader.stamp()
            answer = self._ask(one)
            verdict = rules.judge(one, answer, self._reader.known)
            if verdict.gone:
                records.append(delete(one.kind, one.id, stamp, created_at=parse_time(one.created_at or None)))
                why = (
                    "no webhook said so" if one.kind in ("task", "annotation") else "webhooks never say this"
                )
                done.append(self._repair(one.kind, one.id, rules.DELETED, why))
            elif verdict.moved and answer is not None and answer.get("project") in (None, self._project_id):
                owner = self._reader.known.state.thing("task", str(answer["task"]))
                born = owner.record.created_at if owner is not None and owner.record is not None else None
                moved = put(
                    one.kind, answer, stamp, task_created_at=None if born is None else format_time(born)
                )
                # The listing and this answer agree that it is not where the record has it.
                records += readings.confirmed([moved], [moved], self._reader.known)
                done.append(self._repair(one.kind, one.id, rules.OUTDATED, f"moved to task {answer['task']}"))
        if records and self._present() is None:
            raise Unavailable(
                f"the project {self._uid} went away while its contents were looked for: nothing is deleted"
            )
        self._write(records, done)

    def _ask(self, one: Candidate) -> dict[str, Any] | None:
        try:
            return dict(self._here.label_studio.get(rules.path_of(one)))
        except NotFound:
            return None

    def _hold(self, candidates: list[Candidate], reason: str) -> None:
        counts: dict[str, int] = {}
        for one in candidates:
            counts[one.kind] = counts.get(one.kind, 0) + 1
        held = {
            "reason": reason,
            "counts": counts,
            "at": format_time(self._here.now()),
            "examples": [f"{one.kind} {one.id}" for one in candidates[:10]],
        }
        self._report.held = held
        log.error(
            "%d deletions in the record of %s are held for a person: %s. If they are meant: "
            "`python -m sidecar reconcile %s --accept-deletions`",
            len(candidates),
            self._uid,
            reason,
            self._uid,
        )
        if not self._dry:
            memory.hold(self._here.redis, self._uid, held)
            self._here.redis.hincrby(names.COUNTERS, "reconcile_held_runs", 1)

    # --- writing

    @property
    def _dry(self) -> bool:
        return self._mode == DRY_RUN

    def _load(self) -> None:
        if not self._loaded:
            self._reader.load()
            self._loaded = True

    def _repair(self, kind: str, id: str, what: str, why: str) -> Repair:
        return Repair(kind=kind, id=id, what=what, why=why, at=format_time(self._here.now()))

    def _write_readings(self, records: list[Record]) -> None:
        now = self._here.now()
        done = [rules.repair_of(record, self._reader.known, now) for record in records]
        self._write(records, [repair for repair in done if repair is not None])

    def _write(self, records: list[Record], done: list[Repair]) -> None:
        """Append, and only then say so. A dry run takes it into its own view alone."""
        if not self._dry:
            self._check_wanted()
            self._reader.append(records)
            memory.remember(self._here.redis, self._uid, done)
        for record in records:
            self._reader.known.add(record)
        self._report.add(done)
        if records and not self._dry:
            queue.enqueue(self._here.redis, jobs.current(self._uid))

    # --- what is remembered

    def _check_wanted(self) -> None:
        if not self._token:
            self._reader.check_wanted()

    def _saved(self) -> dict[str, str]:
        found = self._here.redis.hgetall(names.reconcile(self._uid))
        return {name.decode(): value.decode() for name, value in found.items()}

    def _save(self, **fields: str) -> None:
        if not self._dry:
            self._here.redis.hset(names.reconcile(self._uid), mapping=dict(fields))

    def _note_seen(self, seen: dict[int, str], watermark: datetime | None, project: dict[str, Any]) -> None:
        """From when on to look next, and what in the overlap needs no second look."""
        if self._dry:
            return
        self._save(project_hash=_hash_of(project))
        if watermark is None:
            return
        since = watermark - rules.OVERLAP
        recent = {str(id): text for id, text in seen.items() if any(t > since for t in _times([text]))}
        pipe = self._here.redis.pipeline(transaction=True)
        pipe.delete(names.reconcile_seen(self._uid))
        if recent:
            pipe.hset(names.reconcile_seen(self._uid), mapping=dict(recent))
        if self._saved().get("watermark") != format_time(watermark):
            moved = {"watermark": format_time(watermark), "watermark_moved_at": format_time(self._here.now())}
            pipe.hset(names.reconcile(self._uid), mapping=dict(moved))
        pipe.execute()

    def _go_on_after(self, saved: dict[str, str]) -> int:
        """The last task that a full run of the same wish compared before it was cut off; else 0."""
        noted_at = time_of(saved.get("full_noted_at"))
        same = saved.get("full_wish") == f"{self._mode}|{self._token}"
        recent = noted_at is not None and self._here.now() - noted_at < GO_ON_WITHIN
        if same and recent and not self._dry:
            return int(saved.get("full_cursor") or 0)
        self._forget_pages()
        return 0

    def _note_page(self, cursor: int) -> None:
        """The page is done: its differences are written, and what it did not show is kept with the cursor."""
        if self._dry:
            return
        pipe = self._here.redis.pipeline(transaction=True)
        pipe.delete(names.reconcile_missing(self._uid))
        if missing := [one.to_text() for one in self._candidates()]:
            pipe.rpush(names.reconcile_missing(self._uid), *missing)
        fields = {
            "full_cursor": str(cursor),
            "full_noted_at": format_time(self._here.now()),
            "full_wish": f"{self._mode}|{self._token}",
        }
        pipe.hset(names.reconcile(self._uid), mapping=dict(fields))
        pipe.execute()

    def _forget_pages(self) -> None:
        if not self._dry:
            self._here.redis.delete(names.reconcile_missing(self._uid))
            self._here.redis.hdel(names.reconcile(self._uid), "full_cursor", "full_noted_at", "full_wish")

    def _end(self, state: str, message: str = "") -> None:
        report = self._report
        report.state = state
        if self._reader.unreadable:
            self._notes.append(
                f"{len(self._reader.unreadable)} things could not be read: "
                + "; ".join(self._reader.unreadable[:5])
            )
        report.message = "; ".join([*([message] if message else []), *self._notes])
        report.finished_at = format_time(self._here.now())
        report.requests = self._here.label_studio.requests - self._requests_before
        if state == "done":
            if self._depth == FULL:
                self._forget_pages()
            done = {
                f"{depth}_done_at": report.finished_at
                for depth in rules.DEPTHS[: rules.DEPTHS.index(self._depth) + 1]
            }
            self._save(**done)
        self._save(last=json.dumps(report.to_json() | {"repairs": []}))
        memory.save_result(self._here.redis, self._token, report)
        log.log(
            logging.INFO if report.counts or self._depth != INCREMENTAL else logging.DEBUG,
            "reconcile of %s (%s): %s, %d repairs, %d requests",
            self._uid,
            self._depth,
            state,
            report.counts.total(),
            report.requests,
        )


def _hash_of(project: dict[str, Any]) -> str:
    return content_hash("project", clean("project", project))


def _times(texts: Iterable[str]) -> list[datetime]:
    return [time for time in map(time_of, texts) if time is not None]


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
