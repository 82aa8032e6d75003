"""What baseline and reconcile share: reading Label Studio, comparing with what the log says, appending what is new.

A reading is compared with `known`, the fold of the log without the data. Whoever reads keeps a lock of his own; only the
append takes the project's log lock, for as long as one put takes, so live events pass in between.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from bridge import events, jobs, readings
from bridge import reconcile as rules
from bridge.edges import queue, stream
from bridge.edges import redis as names
from bridge.edges import repairs as memory
from bridge.edges.history import load_known
from bridge.edges.log import log_keys, newest_key, read_good_lines
from bridge.errors import NotFound, Refused
from bridge.keys import project_id_of, project_uid
from bridge.readings import Known, Reading
from bridge.records import Record, Source, Stamp, parse_time
from workers import context
from workers.kept_lock import Kept, LockLost

log = logging.getLogger(__name__)
LOCK_TTL_S = 120
# Longer than clocks of one installation differ and than a webhook is under way.
CONFIRM_AFTER_S = 2.0
DRAIN_WAIT_S = 10.0
MEDIA_A_JOB = 100
FORGET_AT_ONCE = 1000


class Stop(Exception):
    """This run has nothing more to do; another one, or nobody, goes on."""


class Reader:
    """One reading of one project, under the lock of whoever reads. Tests hand in `sleep`."""

    def __init__(
        self,
        here: context.Context,
        uid: str,
        lock: Kept,
        *,
        source: Source,
        event: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.known = Known()
        self.unreadable: list[str] = []
        self.older = ""  # why deletions shall wait for a person, once something has gone back
        self._here = here
        self._uid = uid
        self._project_id = project_id_of(uid)
        self._lock = lock
        self._source: Source = source
        self._event = event
        self._sleep = sleep
        self._caught_up_to = ""

    # --- what the log says

    def load(self) -> None:
        """Fold the log."""
        newest = newest_key(self._here.store, self._here.layout(self._uid))
        self.known = load_known(self._here.store, self._here.layout(self._uid), beat=self.beat)
        self._caught_up_to = "" if newest is None else newest.key

    def catch_up(self) -> None:
        """Fold what others have appended since."""
        for info in log_keys(self._here.store, self._here.layout(self._uid), after=self._caught_up_to):
            for record in read_good_lines(self._here.store, info.key)[0]:
                self.known.add(record)
            self._caught_up_to = info.key
            self.beat()

    def let_webhooks_speak(self) -> None:
        """What people do just now reaches us by webhook in a moment: wait for that, and for what waits in the stream."""
        self._sleep(CONFIRM_AFTER_S)
        deadline = time.monotonic() + DRAIN_WAIT_S
        while stream.waiting(self._here.redis, self._uid) and time.monotonic() < deadline:
            self.beat()
            self._sleep(0.2)
        self.catch_up()

    # --- what Label Studio says

    def stamp(self) -> Stamp:
        """Made before each request: `observed_at` is our clock before it."""
        now = self._here.now()
        return Stamp(
            event_id=str(uuid.uuid4()),
            received_at=now,
            source=self._source,
            event=self._event,
            observed_at=now,
        )

    def project(self) -> dict[str, Any]:
        """The project, if it still is the one that the uid means. Raises NotFound or Refused."""
        try:
            project = self._here.label_studio.project(self._project_id)
        except NotFound as error:
            raise NotFound(
                f"Label Studio has no project {self._project_id} (any more); its record stays in the bucket"
            ) from error
        uid = uid_of(project)
        if uid != self._uid:
            raise Refused(
                f"another project has the id {self._project_id} in this Label Studio now: {uid}, not {self._uid}",
                hint=f"run `python -m sidecar connect {self._project_id}` to keep a record of that one",
            )
        return project

    def surroundings(self) -> Reading:
        """All but the tasks."""
        label_studio, id = self._here.label_studio, self._project_id
        reading = readings.of_items("user", label_studio.users(), self.stamp())
        stamp = self.stamp()
        for direction, storage_type, items in label_studio.storages(id):
            reading += readings.of_storages(direction, storage_type, items, stamp)
        for kind, read in (
            ("webhook", label_studio.webhooks),
            ("ml_backend", label_studio.ml_backends),
            ("view", label_studio.views),
            ("project", lambda id: [self._here.label_studio.project(id)]),
        ):
            stamp = self.stamp()
            reading += readings.of_items(kind, read(id), stamp)
            self.beat()
        return reading

    def whole(self, read: Callable[[], list[dict[str, Any]]]) -> tuple[list[dict[str, Any]], Reading]:
        """Tasks as `read` fetches them, and the records of them, with what only an export shows."""
        self.beat()
        stamp = self.stamp()
        tasks = read()
        self.beat()
        ids = readings.wanted_from_export(tasks, self.known, stamp)
        exported = self._here.label_studio.exported(self._project_id, ids) if ids else []
        return tasks, readings.of_tasks(tasks, exported, stamp)

    def settle(self, read: Callable[[], Reading], *, patient: bool = False) -> list[Record]:
        """Read, and read again where the first answer would overrule what the log says. Returns what is to be written.

        `patient`: wait for the webhooks before believing that they will not say it. Raises NotFound or Refused when
        another Label Studio has come up at the address meanwhile: its answers are not of our project."""
        found = self._settled(read, patient=patient)
        if found:
            self.project()
            self.older = self.older or rules.older_backup(found, self.known)
        return found

    def _settled(self, read: Callable[[], Reading], *, patient: bool) -> list[Record]:
        reading = read()
        self.unreadable += reading.unreadable
        for words in reading.unreadable:
            log.error("%s of %s cannot read %s", self._event.lower(), self._uid, words)
        plan = readings.plan(reading.records, self.known)
        if patient and (plan.write or plan.doubtful):
            self.let_webhooks_speak()
            plan = readings.plan(reading.records, self.known)
        if not plan.doubtful:
            return plan.write
        if not patient:
            self._sleep(CONFIRM_AFTER_S)
        sure = readings.confirmed(plan.doubtful, read().records, self.known)
        log.info(
            "%s of %s: %d things differ from the record though nothing told us; %d confirmed",
            self._event.lower(),
            self._uid,
            len(plan.doubtful),
            len(sure),
        )
        return plan.write + sure

    # --- writing

    def append(self, records: list[Record]) -> None:
        """One object, under the log's lock for as long as one put takes."""
        self.beat()
        if not records:
            return
        if self.older:
            # First, since the record will not show it any more: what is missing now must be held by later looks too.
            memory.note_older(self._here.redis, self._uid, self.older)
        self._here.log_writer(self._uid).append(records)
        self._forget_told(records)
        if stream.waiting(self._here.redis, self._uid):
            # A drain that found the lock held has gone away.
            queue.enqueue(self._here.redis, jobs.drain(self._uid))

    def _forget_told(self, records: list[Record]) -> None:
        """What webhooks told last is not what was written last for these things any more.

        Or Label Studio going back to it (A by webhook, B by reading, A again: an older backup) would be taken for known
        by looks that trust the webhooks. The drain remembers under the log's lock, so what it wrote before our append
        is forgotten here; of what it writes after, the worst is that one look folds the log for nothing."""
        told = [f"{record.kind}:{record.id}" for record in records]
        for start in range(0, len(told), FORGET_AT_ONCE):
            self._here.redis.hdel(names.known(self._uid), *told[start : start + FORGET_AT_ONCE])

    def enqueue_media(self, tasks: list[dict[str, Any]]) -> None:
        paths = list(
            dict.fromkeys(path for task in tasks for path in events.upload_paths(task.get("data") or {}))
        )
        for start in range(0, len(paths), MEDIA_A_JOB):
            queue.enqueue(self._here.redis, jobs.media(self._uid, paths[start : start + MEDIA_A_JOB]))

    def check_wanted(self) -> None:
        if not self._here.redis.sismember(names.WANTED, self._uid):
            raise Stop("stopped, since the project was disconnected")

    def beat(self) -> None:
        """Whoever lost our lock stops; a thread keeps it, whatever Label Studio takes for an answer."""
        try:
            self._lock()
        except LockLost as error:
            raise Stop("its lock ran out, another run goes on") from error


def uid_of(project: dict[str, Any]) -> str:
    """The uid of a project as Label Studio shows it; "" without created_at."""
    created_at = parse_time(project["created_at"])
    return "" if created_at is None else project_uid(project["id"], created_at)


def time_of(text: str | None) -> datetime | None:
    """A time as we noted it, or None."""
    try:
        return parse_time(text)
    except ValueError:
        return None
