"""What Label Studio's API answered -> records, and which of them the log does not say yet. Pure.

A reading is weaker than it looks: it may be older than a webhook that arrived while it was under way, so it is compared
with the state before it is written. What it can only say by overruling the state (content that differs under the same
`updated_at`; a thing that was deleted) is `doubtful` until a second reading says the same (docs/architecture.md, State).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from bridge.records import Record, Stamp, parse_time, put, superseding
from bridge.state import Incarnation, State

ONE_TICK = timedelta(microseconds=1)
# Webhooks bring these too, so one with old content can still be on its way: A, B, A arriving as A, A, B must end as A.
_ALSO_BY_WEBHOOK = ("task", "annotation")
# /api/tasks shows the drafts of the reading user alone, and no unique_id; an export has both (seen with 1.23.2).
_ONLY_IN_EXPORT = ("unique_id",)
# What `Known` keeps of the data: which task a thing belongs to, and Label Studio's own time.
_KEPT = (*_ONLY_IN_EXPORT, "task", "task_created_at", "updated_at")
OF_A_TASK = ("annotation", "prediction", "draft")
# Longer than clocks of one installation differ; a backup that is put back is older than that.
CLOCKS_DIFFER = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one reading says. `unreadable` names each item that costs itself only, with what is wrong with it."""

    records: list[Record] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def __add__(self, other: Reading) -> Reading:
        return Reading(records=self.records + other.records, unreadable=self.unreadable + other.unreadable)


def of_items(kind: str, items: Iterable[Any], stamp: Stamp) -> Reading:
    """Project, users, webhooks, ML backends or views, as their endpoints list them."""
    reading = Reading()
    for item in items:
        _collect(reading, kind, item, lambda item=item: [put(kind, item, stamp)])  # type: ignore[misc]
    return reading


def of_storages(direction: str, storage_type: str, items: Iterable[Any], stamp: Stamp) -> Reading:
    """Storages of one type; each type counts its ids from 1, so the record's id is such as `import/s3/1`."""
    reading = Reading()
    for item in items:
        _collect(
            reading,
            "storage",
            item,
            lambda item=item: [  # type: ignore[misc]
                put(
                    "storage",
                    item
                    | {
                        "id": f"{direction}/{storage_type}/{item['id']}",
                        "type": storage_type,
                        "direction": direction,
                    },
                    stamp,
                )
            ],
        )
    return reading


def of_tasks(tasks: Iterable[Any], exported: Iterable[Any], stamp: Stamp) -> Reading:
    """Tasks as `/api/tasks?fields=all` lists them, with their annotations, predictions and drafts.

    `exported` are some of the same tasks as the JSON export shows them: they add `unique_id` and others' drafts."""
    by_id = {task["id"]: task for task in exported if isinstance(task, Mapping) and "id" in task}
    reading = Reading()
    for task in tasks:
        _collect(
            reading,
            "task",
            task,
            lambda task=task: _of_task(task, by_id.get(task["id"], {}), stamp),  # type: ignore[misc]
        )
    return reading


def _of_task(task: Mapping[str, Any], exported: Mapping[str, Any], stamp: Stamp) -> list[Record]:
    of = {"task_created_at": task.get("created_at")}
    again = {(item["id"], item["created_at"]): item for item in exported.get("annotations") or []}
    drafts = {item["id"]: item for item in [*(task.get("drafts") or []), *(exported.get("drafts") or [])]}
    records = [put("task", task, stamp)]
    for annotation in task.get("annotations") or []:
        other = again.get((annotation["id"], annotation["created_at"]), {})
        added = {name: other[name] for name in _ONLY_IN_EXPORT if name in other}
        records.append(put("annotation", {**added, **annotation}, stamp, **of))
    records += [put("prediction", item, stamp, **of) for item in task.get("predictions") or []]
    records += [put("draft", item, stamp, **of) for item in drafts.values()]
    for record in records:
        _ = record.hash  # A record that cannot be written is found out here, where it costs its task alone.
    return records


def _collect(reading: Reading, kind: str, item: Any, make: Callable[[], list[Record]]) -> None:
    try:
        reading.records.extend(make())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        id = item.get("id") if isinstance(item, Mapping) else None
        reading.unreadable.append(f"{kind} {id}: {type(error).__name__}: {error}")


def kept_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record's data `Known` keeps."""
    return {name: data[name] for name in _KEPT if name in data}


def _note(of_task: dict[int, set[tuple[str, str]]], record: Record) -> None:
    if isinstance(record.data.get("task"), int):
        of_task.setdefault(record.data["task"], set()).add((record.kind, record.id))


class Known:
    """What the log says of each thing, without the data: about a kilobyte a thing, whatever annotators draw."""

    def __init__(self) -> None:
        self.state = State()
        self._of_task: dict[int, set[tuple[str, str]]] | None = None  # made when somebody asks

    def add(self, record: Record) -> None:
        """Fold in a record of the log. Adding one twice changes nothing."""
        light = replace(record, data=kept_of(record.data))
        light.__dict__["hash"] = (
            record.hash
        )  # where cached_property keeps it: still the hash of the whole content
        self.state.add(light)
        if self._of_task is not None and record.kind in OF_A_TASK and record.op == "put":
            _note(self._of_task, light)

    def alive_of_task(self, task_id: int) -> Iterator[tuple[str, str, Incarnation]]:
        """Kind, id and newest life of every annotation, prediction and draft that the log shows on a task."""
        if self._of_task is None:
            self._of_task = {}
            for kind in OF_A_TASK:
                for one in self.state.things.get(kind, {}).values():
                    if one.record is not None:
                        _note(self._of_task, one.record)
        for kind, id in sorted(self._of_task.get(task_id, ())):
            thing = self.state.thing(kind, id)
            if thing is None or not thing.alive or thing.newest is None or self.state.hidden(thing):
                continue
            if thing.data.get("task") == task_id:
                yield kind, id, thing.newest

    def life(self, record: Record) -> Incarnation | None:
        """The incarnation that a record speaks of, when the log holds a version of it."""
        thing = self.state.thing(record.kind, record.id)
        life = None if thing is None else thing.incarnations.get(record.created_at)
        return None if life is None or life.newest is None else life

    def ended_at(self, record: Record) -> datetime | None:
        thing = self.state.thing(record.kind, record.id)
        life = self.life(record)
        return None if thing is None or life is None else life.ended_at(thing.deleted_at)


def wanted_from_export(tasks: Iterable[Any], known: Known, stamp: Stamp) -> list[int]:
    """The ids of the tasks whose export says something that `/api/tasks` does not and the log does not know yet."""
    wanted = []
    for task in tasks:
        if not isinstance(task, Mapping) or not isinstance(task.get("id"), int):
            continue
        lives = [known.life(r) for r in of_items("annotation", task.get("annotations") or [], stamp).records]
        if task.get("draft_exists", True) or any(life is None or not life.unique_id for life in lives):
            wanted.append(task["id"])
    return wanted


def went_back(record: Record, known: Known) -> bool:
    """Whether Label Studio shows a task or annotation as it was before what the log had heard of it when it was asked.

    By Label Studio's own time, which it sets anew with each change: so this is a Label Studio that was put back to an
    older backup, or whose clock was."""
    return _moved(record, known) < -CLOCKS_DIFFER


def _moved(record: Record, known: Known) -> timedelta:
    """How far Label Studio's time of a task or annotation has moved since the log heard of it; none if it heard later."""
    life = known.life(record)
    if record.kind not in _ALSO_BY_WEBHOOK or life is None or life.newest is None:
        return timedelta()
    before, now = updated_at(life.newest), updated_at(record)
    if before is None or now is None or life.newest.seen_at >= record.seen_at:
        return timedelta()
    return now - before


def updated_at(record: Record) -> datetime | None:
    """Label Studio's own time of the last change; `version` can be a later one, of ours."""
    return parse_time(record.data.get("updated_at"))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do with a reading's records; those in neither list say nothing new."""

    write: list[Record] = field(default_factory=list)
    doubtful: list[Record] = field(default_factory=list)


def plan(records: Iterable[Record], known: Known) -> Plan:
    """Compare readings (records with `observed_at`) with what the log says."""
    decided = Plan()
    for record in records:
        verdict = _verdict(record, known)
        if verdict == "write":
            decided.write.append(record)
        elif verdict == "doubtful":
            decided.doubtful.append(record)
    return decided


def _verdict(record: Record, known: Known) -> str:
    life = known.life(record)
    if life is None or life.newest is None:
        return "write"
    newest = life.newest
    same = record.hash == newest.hash
    newer = _version(record) > _version(newest)
    ended_at = known.ended_at(record)
    if ended_at is not None:
        if record.seen_at > ended_at:
            return "doubtful"
        return "write" if newer and not same else "known"
    if same and not newer and abs(_moved(record, known)) > CLOCKS_DIFFER:
        # Back to an older backup, or from there to the newer: noted once confirmed, or each look would find it anew.
        return "doubtful"
    if same:
        adds_unique_id = "unique_id" in record.data and life.unique_id is None
        return "write" if adds_unique_id or (newer and record.kind in _ALSO_BY_WEBHOOK) else "known"
    if newer:
        return "write"
    # What the door heard after our request is newer than this reading, whatever the reading says.
    return "doubtful" if newest.seen_at < record.seen_at else "known"


def confirmed(doubtful: Iterable[Record], again: Iterable[Record], known: Known) -> list[Record]:
    """The doubtful records that a second reading repeats, made to win over what the state holds.

    What changed in between is left to its webhook or to the next reading."""
    second = {(r.kind, r.id, r.created_at): r for r in again}
    found = []
    for record in doubtful:
        repeated = second.get((record.kind, record.id, record.created_at))
        life = known.life(record)
        if repeated is None or repeated.hash != record.hash or life is None or life.newest is None:
            continue
        differs = repeated.hash != life.newest.hash or abs(_moved(repeated, known)) > CLOCKS_DIFFER
        if differs and _version(repeated) <= _version(life.newest):
            repeated = superseding(repeated, _version(life.newest), ONE_TICK)
        found.append(repeated)
    return found


def _version(record: Record) -> datetime:
    return record.version or record.seen_at
