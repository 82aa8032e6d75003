"""A project's state beside what Label Studio shows now, field by field.

Label Studio goes on meanwhile, so what differs is looked at a second time: read again, then the log is given a moment
to hear of it. What the record knows something newer of than that second reading is left to the next verification.
Memory: the state, an id for each thing found, one page of tasks.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bridge import readings
from bridge.compare import KINDS, Difference, of_reading
from bridge.edges.verify_log import Say
from bridge.errors import NotFound
from bridge.keys import project_id_of, project_uid
from bridge.readings import Reading
from bridge.records import Record, Stamp, parse_time
from bridge.state import State, Thing
from bridge.verify import Problem, Report, of_difference

if TYPE_CHECKING:
    from bridge.edges.label_studio import LabelStudio

PAGE_SIZE = 200
_OF_A_TASK = ("annotation", "prediction", "draft")
_Name = tuple[str, str]  # kind and id


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LabelStudioCheck:
    """One comparison. `settle` waits until the log can have heard of a reading, and folds it into `state`."""

    def __init__(
        self,
        label_studio: LabelStudio,
        uid: str,
        state: State,
        *,
        settle: Callable[[], None],
        say: Say,
        now: Callable[[], datetime] = _utc_now,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._label_studio = label_studio
        self._uid, self._project_id = uid, project_id_of(uid)
        self._state = state
        self._settle, self._say, self._now = settle, say, now
        self._page_size = page_size
        self._unreadable: list[str] = []

    def run(self, report: Report) -> None:
        """Raises what the edge of Label Studio raises. A project that is gone or another one is a note."""
        absent = self._absent()
        if absent:
            report.skipped["label_studio"] = absent
            return
        suspects = self._suspects(report)
        if suspects:
            self._say(f"{len(suspects)} things differ: looking again")
            report.problems += [of_difference(one) for one in self._again(suspects, report)]
        for words in dict.fromkeys(self._unreadable):
            report.problems.append(
                Problem(part="label_studio", where=words.partition(":")[0], what="unreadable", words=words)
            )

    def _absent(self) -> str:
        """Why there is nothing to compare with, or ""."""
        try:
            project = self._label_studio.project(self._project_id)
        except NotFound:
            return f"Label Studio has no project {self._project_id} (any more); the record is kept"
        created_at = parse_time(project["created_at"])
        uid = "" if created_at is None else project_uid(project["id"], created_at)
        if uid != self._uid:
            return f"another project has the id {self._project_id} in this Label Studio now: {uid}"
        return ""

    def _suspects(self, report: Report) -> dict[_Name, set[int]]:
        """What the first look finds different, each with the tasks to look at for it."""
        suspects: dict[_Name, set[int]] = {}
        seen: dict[str, set[str]] = {kind: set() for kind in KINDS}
        for record in self._everything():
            seen[record.kind].add(record.id)
            report.count("compared")
            if next(of_reading(self._state, record), None) is not None:
                suspects[record.kind, record.id] = self._tasks_of(record.kind, record.id, record.data)
        for kind in KINDS:
            for thing in self._state.alive(kind):
                record = thing.record  # type: ignore[assignment]
                if record is not None and record.id not in seen[kind]:
                    suspects[kind, record.id] = self._tasks_of(kind, record.id, {})
        return suspects

    def _tasks_of(self, kind: str, id: str, found: dict[str, Any]) -> set[int]:
        """The tasks on which a thing can be found: where it is, and where the record says it is."""
        if kind == "task":
            return {int(id)} if id.isdecimal() else set()
        if kind not in _OF_A_TASK:
            return set()
        thing = self._state.thing(kind, id)
        recorded = None if thing is None else thing.data.get("task")
        return {task for task in (recorded, found.get("task")) if isinstance(task, int)}

    def _again(self, suspects: dict[_Name, set[int]], report: Report) -> Iterator[Difference]:
        """What is different still, when the log had the time to hear of it."""
        began = self._now()
        tasks = sorted(set().union(*suspects.values()))
        records: dict[_Name, Record] = {}
        if any(not of for of in suspects.values()):
            records = {(one.kind, one.id): one for one in self._surroundings()}
        for start in range(0, len(tasks), self._page_size):
            ids = tasks[start : start + self._page_size]
            page = self._of_tasks(lambda ids=ids: self._label_studio.tasks_by_id(self._project_id, ids))  # type: ignore[misc]
            records |= {(one.kind, one.id): one for one in page if (one.kind, one.id) in suspects}
        self._settle()
        for (kind, id), on_tasks in suspects.items():
            reading = records.get((kind, id))
            if self._known_since(kind, id, began if reading is None else reading.seen_at, on_tasks):
                report.count("changed_meanwhile")
            elif reading is not None:
                yield from of_reading(self._state, reading)
            elif self._is_alive(kind, id):
                yield Difference(kind=kind, id=id, what="missing")

    def _known_since(self, kind: str, id: str, moment: datetime, tasks: set[int]) -> bool:
        """Whether the record says something of it, or of the end of its task, that is newer than a reading."""
        thing = self._state.thing(kind, id)
        record = None if thing is None else thing.record
        if record is not None and record.seen_at > moment:
            return True
        return self._ended_since(thing, moment) or any(
            self._ended_since(self._state.thing("task", str(task)), moment) for task in tasks
        )

    def _ended_since(self, thing: Thing | None, moment: datetime) -> bool:
        if thing is None:
            return False
        times = [thing.deleted_at, *(life.gone_at for life in thing.incarnations.values())]
        return any(time is not None and time > moment for time in times)

    def _is_alive(self, kind: str, id: str) -> bool:
        thing = self._state.thing(kind, id)
        return thing is not None and thing.alive and not self._state.hidden(thing)

    # --- reading

    def _everything(self) -> Iterator[Record]:
        yield from self._surroundings()
        cursor, done = 0, 0
        while True:
            page: list[dict[str, Any]] = []

            def read(after: int = cursor, page: list[dict[str, Any]] = page) -> list[dict[str, Any]]:
                page += self._label_studio.tasks_after(self._project_id, after, page_size=self._page_size)
                return page

            records = self._of_tasks(read)
            if not page:
                return
            yield from records
            cursor, done = max(task["id"] for task in page), done + len(page)
            self._say(f"{done} tasks compared with Label Studio")

    def _of_tasks(self, read: Callable[[], list[dict[str, Any]]]) -> list[Record]:
        """What some tasks say. Drafts of other people are only in an export."""
        stamp = self._stamp()
        tasks = read()
        ids = [task["id"] for task in tasks if task.get("draft_exists", True)]
        exported = self._label_studio.exported(self._project_id, ids) if ids else []
        return self._readable(readings.of_tasks(tasks, exported, stamp))

    def _surroundings(self) -> list[Record]:
        """All but the tasks."""
        studio, id = self._label_studio, self._project_id
        stamp = self._stamp()
        reading = readings.of_items("user", studio.users(), stamp)
        for direction, storage_type, items in studio.storages(id):
            reading += readings.of_storages(direction, storage_type, items, stamp)
        reading += readings.of_items("webhook", studio.webhooks(id), stamp)
        reading += readings.of_items("ml_backend", studio.ml_backends(id), stamp)
        reading += readings.of_items("view", studio.views(id), stamp)
        reading += readings.of_items("project", [studio.project(id)], stamp)
        return self._readable(reading)

    def _readable(self, reading: Reading) -> list[Record]:
        self._unreadable += reading.unreadable
        return reading.records

    def _stamp(self) -> Stamp:
        now = self._now()
        return Stamp(
            event_id=str(uuid.uuid4()), received_at=now, source="reconcile", event="VERIFY", observed_at=now
        )
