"""Records -> the state of a project. Pure: no clock, no bucket; order and repetition of records change nothing.

What is kept of each thing is a join of maxima and minima, so folding is associative, commutative and idempotent:
two halves of a log can be folded apart and merged. The rules are in docs/architecture.md, "The record".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from bridge.records import Record, format_time, parse_time

BASELINE_COMPLETED = "BASELINE_COMPLETED"


def _wins(one: Record, other: Record) -> bool:
    """Which of two puts of one incarnation wins: version, then time at the door, then content; the rest breaks ties.

    The costly parts are looked at only where the times are equal."""
    first = (one.version or one.seen_at, one.received_at)
    second = (other.version or other.seen_at, other.received_at)
    if first != second:
        return first > second
    return (one.hash, one.to_json()) > (other.hash, other.to_json())


def _latest(a: datetime | None, b: datetime | None) -> datetime | None:
    return max((t for t in (a, b) if t is not None), default=None)


def _earliest(a: datetime | None, b: datetime | None) -> datetime | None:
    return min((t for t in (a, b) if t is not None), default=None)


@dataclass(kw_only=True)
class Incarnation:
    """What is known of one life of one id. Times are None until a record says them."""

    newest: Record | None = None
    first_seen: datetime | None = None
    last_read: datetime | None = None  # newest observed_at of a put read from Label Studio by us
    gone_at: datetime | None = None  # newest observed_at of a confirmed absence
    unique_id: str | None = None  # webhooks and exports carry it, /api/tasks does not

    def add(self, record: Record) -> None:
        if record.op == "delete":
            self.gone_at = _latest(self.gone_at, record.seen_at)
            return
        if self.newest is None or _wins(record, self.newest):
            self.newest = record
        self.first_seen = _earliest(self.first_seen, record.seen_at)
        self.last_read = _latest(self.last_read, record.observed_at)
        unique_id = record.data.get("unique_id")
        if isinstance(unique_id, str):
            self.unique_id = min(self.unique_id or unique_id, unique_id)

    def merge(self, other: Incarnation) -> None:
        if other.newest is not None and (self.newest is None or _wins(other.newest, self.newest)):
            self.newest = other.newest
        self.first_seen = _earliest(self.first_seen, other.first_seen)
        self.last_read = _latest(self.last_read, other.last_read)
        self.gone_at = _latest(self.gone_at, other.gone_at)
        if other.unique_id:
            self.unique_id = min(self.unique_id or other.unique_id, other.unique_id)

    def ended_at(self, deleted_at: datetime | None) -> datetime | None:
        """When the newest delete that speaks of this incarnation was made; None if none does, or if it is re-opened.

        A delete speaks of what was first seen before it. A reading of ours made after the delete re-opens."""
        if self.first_seen is None:
            return None
        ends = [t for t in (deleted_at, self.gone_at) if t is not None and self.first_seen < t]
        if not ends:
            return None
        end = max(ends)
        return None if self.last_read is not None and self.last_read > end else end


@dataclass(kw_only=True)
class Thing:
    """Every incarnation under one id, by `created_at` (None where Label Studio has none)."""

    incarnations: dict[datetime | None, Incarnation] = field(default_factory=dict)
    deleted_at: datetime | None = None  # newest delete by webhook: it names no incarnation
    # Lines that a newer version of us wrote: not folded, and kept wherever the state is, so that it can fold them.
    passed_over: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        if not record.understood:
            self.passed_over.add(record.to_json())
        elif record.op == "delete" and record.created_at is None:
            self.deleted_at = _latest(self.deleted_at, record.seen_at)
        else:
            self.incarnations.setdefault(record.created_at, Incarnation()).add(record)

    def merge(self, other: Thing) -> None:
        self.deleted_at = _latest(self.deleted_at, other.deleted_at)
        self.passed_over |= other.passed_over
        for created_at, incarnation in other.incarnations.items():
            self.incarnations.setdefault(created_at, Incarnation()).merge(incarnation)

    @property
    def newest(self) -> Incarnation | None:
        """The incarnation created last; only it can be alive. None while only deletes are known."""
        known = [key for key, one in self.incarnations.items() if one.newest is not None]
        if not known:
            return None
        return self.incarnations[max(known, key=lambda key: (key is not None, key))]

    @property
    def alive(self) -> bool:
        newest = self.newest
        return newest is not None and newest.ended_at(self.deleted_at) is None

    @property
    def record(self) -> Record | None:
        """The newest version of the newest incarnation, alive or not."""
        newest = self.newest
        return None if newest is None else newest.newest

    @property
    def data(self) -> dict[str, Any]:
        """The newest version's data, with the unique_id that any sighting of it carried."""
        newest = self.newest
        if newest is None or newest.newest is None:
            return {}
        extra = {} if newest.unique_id is None else {"unique_id": newest.unique_id}
        return newest.newest.data | extra

    @property
    def task_id(self) -> str | None:
        """The task that the newest version belongs to."""
        task = self.data.get("task")
        return str(task) if isinstance(task, int) else None

    def to_json(self) -> dict[str, Any]:
        """Everything needed to go on folding later; `from_json` reads it back."""
        kept = {"passed_over": sorted(self.passed_over)} if self.passed_over else {}
        return kept | {
            "deleted_at": None if self.deleted_at is None else format_time(self.deleted_at),
            "incarnations": [
                {
                    "created_at": None if created_at is None else format_time(created_at),
                    "newest": None if one.newest is None else one.newest.to_json(),
                    "first_seen": None if one.first_seen is None else format_time(one.first_seen),
                    "last_read": None if one.last_read is None else format_time(one.last_read),
                    "gone_at": None if one.gone_at is None else format_time(one.gone_at),
                    "unique_id": one.unique_id,
                }
                for created_at, one in sorted(
                    self.incarnations.items(), key=lambda item: (item[0] is not None, item[0])
                )
            ],
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Thing:
        """Raises ValueError or KeyError when `fields` did not come from `to_json`."""
        thing = cls(deleted_at=parse_time(fields["deleted_at"]))
        for item in fields["incarnations"]:
            thing.incarnations[parse_time(item["created_at"])] = Incarnation(
                newest=None if item["newest"] is None else Record.from_json(item["newest"]),
                first_seen=parse_time(item["first_seen"]),
                last_read=parse_time(item["last_read"]),
                gone_at=parse_time(item["gone_at"]),
                unique_id=item["unique_id"],
            )
        for line in fields.get("passed_over", ()):
            thing.add(Record.from_json(line))  # folded now, if we are the newer version
        return thing


@dataclass(kw_only=True)
class State:
    """Everything known of one project. `things[kind][id]`: also of kinds that only a newer version of us knows."""

    things: dict[str, dict[str, Thing]] = field(default_factory=dict)
    baseline_completed_at: datetime | None = None

    def add(self, record: Record) -> None:
        if record.event == BASELINE_COMPLETED and record.understood:
            self.baseline_completed_at = _latest(self.baseline_completed_at, record.received_at)
        self.things.setdefault(record.kind, {}).setdefault(record.id, Thing()).add(record)

    def merge(self, other: State) -> None:
        """Fold in what another part of the log said."""
        self.baseline_completed_at = _latest(self.baseline_completed_at, other.baseline_completed_at)
        for kind, things in other.things.items():
            mine = self.things.setdefault(kind, {})
            for id, thing in things.items():
                mine.setdefault(id, Thing()).merge(thing)

    @property
    def absent_since(self) -> datetime | None:
        """When Label Studio was found without the project, unless it has been seen there again since.

        Its record is a delete of kind project that names its incarnation; what belongs to the project stays alive."""
        for thing in self.things.get("project", {}).values():
            newest = thing.newest
            return None if newest is None else newest.ended_at(thing.deleted_at)
        return None

    @property
    def passed_over(self) -> int:
        """How many records from a newer version of us were not folded (bridge/records.py, `understood`)."""
        return sum(len(thing.passed_over) for things in self.things.values() for thing in things.values())

    def thing(self, kind: str, id: str) -> Thing | None:
        return self.things.get(kind, {}).get(id)

    def every(self, kind: str) -> Iterator[tuple[str, Thing]]:
        """(id, thing) of every thing of a kind, there or not, in no order."""
        yield from self.things.get(kind, {}).items()

    def alive(self, kind: str) -> Iterator[Thing]:
        """The things of a kind that are there, in the order of their ids. Annotations, predictions and drafts of a
        deleted task are hidden, not ended: when the task is found again, or they on another, they show again."""
        for _, thing in sorted(self.things.get(kind, {}).items(), key=lambda item: _id_order(item[0])):
            if thing.alive and not self.hidden(thing):
                yield thing

    def hidden(self, thing: Thing) -> bool:
        """Whether the task this thing belongs to is known to be gone."""
        id = thing.task_id
        return id is not None and hides(self.thing("task", id), thing)


class StateView(Protocol):
    """What readers of a state ask: of a `State`, or of one that is mostly on disk (bridge/edges/history.py)."""

    @property
    def baseline_completed_at(self) -> datetime | None: ...

    @property
    def absent_since(self) -> datetime | None: ...

    def thing(self, kind: str, id: str) -> Thing | None: ...

    def every(self, kind: str) -> Iterator[tuple[str, Thing]]: ...

    def alive(self, kind: str) -> Iterator[Thing]: ...

    def hidden(self, thing: Thing) -> bool: ...


def hides(task: Thing | None, thing: Thing) -> bool:
    """Whether a task hides what belongs to it: it is gone, or its id is another task's now."""
    if task is None:
        return False
    if not task.alive:
        return True
    owner = _time(thing.data.get("task_created_at"))
    newest = task.record
    return (
        owner is not None
        and newest is not None
        and newest.created_at is not None
        and newest.created_at != owner
    )


def _time(value: Any) -> datetime | None:
    try:
        return parse_time(value)
    except (ValueError, TypeError):
        return None


def _id_order(id: str) -> tuple[int, int, str]:
    return (0, int(id), "") if id.isdigit() else (1, 0, id)


def fold(records: Iterable[Record]) -> State:
    """The state that these records say. Order and repetition change nothing. Raises nothing."""
    state = State()
    for record in records:
        state.add(record)
    return state


def state_at(records: Iterable[Record], at: datetime) -> State:
    """The state as our door knew it at a time: records received later are left out."""
    return fold(record for record in records if record.received_at <= at)
