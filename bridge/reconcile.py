"""What Label Studio has now, compared with what the record says: differences as values. Pure.

Three depths. `incremental` looks at the tasks touched since the last look, `light` lists all tasks with their counts and
reads those that do not fit the record, `full` reads everything. What is missing from a reading is a `Candidate`: it
is deleted in the record only after Label Studio was asked for it directly and said that it is not there.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bridge.readings import OF_A_TASK, ONE_TICK, Known, updated_at, went_back
from bridge.records import Record, format_time, parse_time
from bridge.state import Incarnation

INCREMENTAL, LIGHT, FULL = "incremental", "light", "full"
DEPTHS = (INCREMENTAL, LIGHT, FULL)
REPAIR, DRY_RUN, ACCEPT = "repair", "dry run", "accept deletions"
MODES = (REPAIR, DRY_RUN, ACCEPT)

PROJECT_ABSENT = "PROJECT_ABSENT"
RECONCILE = "RECONCILE"

# Longer than any request of Label Studio takes between setting updated_at and committing it.
OVERLAP = timedelta(minutes=5)
LEAST_OVERLAP = timedelta(seconds=1)
HELD_OVER, HELD_SHARE = 50, 0.05
# Only these are told by webhooks; the rest of the record never is (shared facts on Label Studio, section 2).
_TOLD = ("task", "annotation", "project")

MISSING, OUTDATED, DELETED, REOPENED = "missing", "outdated", "deleted", "reopened"
WEBHOOK, ABSENT, FOUND_AGAIN = "webhook", "absent", "found_again"
WHATS = (MISSING, OUTDATED, DELETED, REOPENED, WEBHOOK, ABSENT, FOUND_AGAIN)


@dataclass(frozen=True, kw_only=True)
class Repair:
    """One difference between Label Studio and the record, that the record now holds (or would, in a dry run)."""

    kind: str
    id: str
    what: str
    why: str
    at: str

    def to_json(self) -> dict[str, str]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True, order=True)
class Candidate:
    """Something the record shows and a reading did not. `created_at` is "" where Label Studio gives none."""

    kind: str
    id: str
    created_at: str = ""

    def to_text(self) -> str:
        return f"{self.kind}|{self.created_at}|{self.id}"

    @classmethod
    def from_text(cls, text: str) -> Candidate:
        """Raises ValueError when the text did not come from `to_text`."""
        kind, created_at, id = text.split("|", 2)
        return cls(kind=kind, id=id, created_at=created_at)


def candidate(kind: str, id: str, life: Incarnation) -> Candidate:
    born = life.newest.created_at if life.newest else None
    return Candidate(kind=kind, id=id, created_at="" if born is None else format_time(born))


# --- what is there and differs


def repair_of(record: Record, known: Known, at: datetime) -> Repair | None:
    """What writing this reading repairs; None when it only brings a new time or a unique_id.

    Asked before `known` has the record."""
    life = known.life(record)
    if life is None or life.newest is None:
        what = MISSING
    elif known.ended_at(record) is not None:
        what = FOUND_AGAIN if record.kind == "project" else REOPENED
    elif life.newest.hash != record.hash:
        what = OUTDATED
    else:
        return None
    why = "no webhook brought it" if record.kind in _TOLD else "webhooks never say this"
    return Repair(kind=record.kind, id=record.id, what=what, why=why, at=format_time(at))


def looks_different(row: Mapping[str, Any], known: Known) -> bool:
    """Whether a line of the light listing (id, created_at, updated_at, counts) does not fit the record."""
    thing = known.state.thing("task", str(row["id"]))
    newest = None if thing is None else thing.record
    if thing is None or newest is None or not thing.alive:
        return True
    if newest.created_at != parse_time(row["created_at"]):
        return True
    said = newest.data.get("updated_at")
    if parse_time(said) != parse_time(row["updated_at"]):
        return True
    count = Counter(kind for kind, _, _ in known.alive_of_task(row["id"]))
    listed = (row["total_annotations"] or 0) + (row["cancelled_annotations"] or 0)
    return count["annotation"] != listed or count["prediction"] != (row["total_predictions"] or 0)


# --- what is not there


def unseen_on_tasks(
    task_ids: Iterable[int], records: Iterable[Record], known: Known, observed_at: datetime
) -> list[Candidate]:
    """Annotations, predictions and drafts that the record shows on these tasks and the reading of them does not.

    What was first seen after the reading began can be newer than it."""
    read = {(r.kind, r.id, r.created_at) for r in records if r.kind in OF_A_TASK}
    found = []
    for task_id in task_ids:
        for kind, id, life in known.alive_of_task(task_id):
            born = life.newest.created_at if life.newest else None
            if (kind, id, born) not in read and _seen_before(life, observed_at):
                found.append(candidate(kind, id, life))
    return found


def unseen_things(
    kinds: Iterable[str], records: Iterable[Record], known: Known, observed_at: datetime
) -> list[Candidate]:
    """The same for what belongs to the project itself: users, storages, webhooks, ML backends, views."""
    read = {(r.kind, r.id, r.created_at) for r in records}
    found = []
    for kind in kinds:
        for thing in known.state.alive(kind):
            newest, record = thing.newest, thing.record
            if newest is None or record is None or not _seen_before(newest, observed_at):
                continue
            if (kind, record.id, record.created_at) not in read:
                found.append(candidate(kind, record.id, newest))
    return found


class TaskIds:
    """The ids of the tasks that the record shows, in order: for finding those that a listing passes over."""

    def __init__(self, known: Known) -> None:
        self._known = known
        things = known.state.things.get("task", {})
        self._ids = sorted(int(id) for id, thing in things.items() if id.isdecimal() and thing.alive)

    def __len__(self) -> int:
        return len(self._ids)

    def unseen(
        self, after: int, up_to: int | None, listed: Iterable[int], observed_at: datetime
    ) -> list[Candidate]:
        """Tasks with `after` < id <= `up_to` (None: to the end) that the record shows and the listing does not."""
        start = bisect.bisect_right(self._ids, after)
        end = len(self._ids) if up_to is None else bisect.bisect_right(self._ids, up_to)
        there = set(listed)
        found = []
        for id in self._ids[start:end]:
            thing = self._known.state.thing("task", str(id))
            if id in there or thing is None or not thing.alive or thing.newest is None:
                continue
            if _seen_before(thing.newest, observed_at):
                found.append(candidate("task", str(id), thing.newest))
        return found


def _seen_before(life: Incarnation, observed_at: datetime) -> bool:
    return life.first_seen is not None and life.first_seen < observed_at


def still_alive(asked: Candidate, known: Known) -> bool:
    """Whether the record still shows a candidate: a webhook may have told of its end meanwhile."""
    thing = known.state.thing(asked.kind, asked.id)
    if thing is None or not thing.alive or thing.record is None or known.state.hidden(thing):
        return False
    born = thing.record.created_at
    return ("" if born is None else format_time(born)) == asked.created_at


def too_many(candidates: Iterable[Candidate], known: Known) -> str:
    """Why these deletions are held for a person, in words; empty when they are not.

    More than max(50, 5 %) of what the record shows, of one kind or of all kinds together: a fresh or wrong Label Studio
    must never empty the record."""
    asked = Counter(one.kind for one in candidates)
    total = asked.total()
    if total <= HELD_OVER:
        return ""
    alive = {
        kind: sum(thing.alive for thing in known.state.things.get(kind, {}).values())
        for kind in (*asked, *OF_A_TASK, "task")
    }
    for kind, count in asked.items():
        if count > max(HELD_OVER, HELD_SHARE * alive[kind]):
            return f"{count} of {alive[kind]} of kind {kind} are not in Label Studio any more"
    everything = sum(alive.values())
    if total > max(HELD_OVER, HELD_SHARE * everything):
        return f"{total} of {everything} things are not in Label Studio any more"
    return ""


def older_backup(records: Iterable[Record], known: Known) -> str:
    """Why deletions wait for a person, whatever their number, once something that is there has gone back; else empty.

    What is missing then came after the backup. The time named first is the last one at which the record says nothing of
    the older state, for `restore --at`. Asked before `known` has the records."""
    back = [record for record in records if went_back(record, known)]
    if not back:
        return ""
    first = back[0]
    life = known.life(first)
    before = None if life is None or life.newest is None else updated_at(life.newest)
    now = updated_at(first)
    assert before is not None
    assert now is not None
    return (
        f"Label Studio seems to have been put back to an older backup before {format_time(first.seen_at - ONE_TICK)}: "
        f"it shows {first.kind} {first.id} as of {format_time(now)}, the record has it as of {format_time(before)}"
    )


# --- what a direct question to Label Studio answers


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`gone`: that incarnation is not there. `moved`: it is, on another task than the record says."""

    gone: bool = False
    moved: bool = False


def judge(asked: Candidate, answer: Mapping[str, Any] | None, known: Known) -> Verdict:
    """What the answer to a direct GET (None: 404) says of a candidate."""
    if answer is None:
        return Verdict(gone=True)
    born = answer.get("created_at") or answer.get("date_joined")
    if asked.created_at and born and parse_time(born) != parse_time(asked.created_at):
        return Verdict(gone=True)  # SQLite gave the id to another
    thing = known.state.thing(asked.kind, asked.id)
    task = None if thing is None else thing.data.get("task")
    return Verdict(moved=asked.kind in OF_A_TASK and answer.get("task") not in (None, task))


PATHS = {
    "task": "/api/tasks/{id}/",
    "annotation": "/api/annotations/{id}/",
    "prediction": "/api/predictions/{id}/",
    "draft": "/api/drafts/{id}/",
    "user": "/api/users/{id}/",
    "webhook": "/api/webhooks/{id}/",
    "ml_backend": "/api/ml/{id}",
    "view": "/api/dm/views/{id}/",
}


def path_of(asked: Candidate) -> str:
    """Where Label Studio 1.23.2 answers for one thing. A storage's id is such as `export/s3/1`."""
    if asked.kind == "storage":
        direction, storage_type, id = asked.id.split("/", 2)
        root = "/api/storages/export" if direction == "export" else "/api/storages"
        return f"{root}/{storage_type}/{id}"
    return PATHS[asked.kind].format(id=asked.id)


# --- from when on to look next time


def look_since(watermark: datetime, unmoved: timedelta) -> datetime:
    """From when on to list touched tasks. `unmoved`: for how long the watermark has not moved, by a stopwatch of ours.

    What was being committed when it moved has been committed after the overlap: then the tasks of the last minutes of
    work (or of one large import) need not be listed each time while nobody works."""
    return watermark - max(OVERLAP - max(unmoved, timedelta()), LEAST_OVERLAP)


def next_watermark(updated: Iterable[datetime], label_studio_now: datetime | None) -> datetime | None:
    """Up to when we have seen everything, by Label Studio's own clock, never ours. None while it has no task.

    Not beyond Label Studio's time of answering: after its clock was ahead for a while, what people change now has a
    lower updated_at than what they changed then."""
    newest = max(updated, default=None)
    if newest is None or label_studio_now is None:
        return newest
    return min(newest, label_studio_now)
