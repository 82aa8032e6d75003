"""The record beside what was found, field by field. Pure.

Two sightings are the same when the log would call them the same (bridge/records.py, `content`): absent and null are
one, 1 and 1.0 are one, and a field that changes by itself is not looked at. Here it is said which field differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bridge import records
from bridge.records import CONTENT_FIELDS, Record, canonical, content, format_time, parse_time
from bridge.state import State

# What Label Studio can be asked for. Inferences and media are ours alone.
KINDS = tuple(kind for kind in records.KINDS if kind not in ("inference", "media", "restore"))

_TIMES = frozenset({"created_at", "updated_at", "date_joined", "draft_created_at", "task_created_at"})

What = Literal["missing", "unexpected", "field"]


@dataclass(frozen=True, kw_only=True)
class FieldDifference:
    """One field with two values; None where one side has none."""

    field: str
    recorded: Any
    found: Any


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing in which the record and the world disagree.

    `missing`: the record says it is there, and it was not found. `unexpected`: found, and not alive in the record.
    `field`: both have it, and `field` differs; `created_at` there means another thing under the same id."""

    kind: str
    id: str
    what: What
    field: str = ""
    recorded: Any = None
    found: Any = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def same(field: str, recorded: Any, found: Any) -> bool:
    """Whether two values of one field are the same content: `2026-11-22T06:00:00Z` and `…T06:00:00.000000Z` of a field
    that holds a time, 1 and 1.0 everywhere. True is not 1, and text is compared as it is. Raises nothing."""
    if canonical(recorded) == canonical(found):
        return True
    if field not in _TIMES or not isinstance(recorded, str) or not isinstance(found, str):
        return False
    try:
        return parse_time(recorded) == parse_time(found)
    except ValueError:
        return False


def field_differences(
    kind: str,
    recorded: Mapping[str, Any],
    found: Mapping[str, Any],
    *,
    ignore: frozenset[str] = frozenset(),
    also: Iterable[str] = (),
) -> list[FieldDifference]:
    """In which content fields two sightings of one thing differ, in the order in which CONTENT_FIELDS names them.

    `ignore`: fields not to look at (a restored annotation's `task`, say). `also`: fields to look at that are no content
    (`updated_at`, say). Both are data as a record keeps it. Of a kind that has no content fields, all are compared.
    """
    one, other = content(kind, recorded), content(kind, found)
    names = CONTENT_FIELDS.get(kind) or tuple(sorted(one.keys() | other.keys()))
    for name in also:
        one[name], other[name] = recorded.get(name), found.get(name)
    return [
        FieldDifference(field=name, recorded=one.get(name), found=other.get(name))
        for name in dict.fromkeys((*names, *also))
        if name not in ignore and not same(name, one.get(name), other.get(name))
    ]


def differences(
    state: State,
    readings: Iterable[Record],
    *,
    kinds: Iterable[str] = KINDS,
    ignore: Mapping[str, frozenset[str]] | None = None,
) -> Iterator[Difference]:
    """What a state and a whole reading of the world disagree about, as the reading goes on; what is missing at the end.

    `readings` are put records of these kinds (of other kinds: passed over), each thing once; a second sighting of a
    thing is compared again. `ignore`: fields not to look at, by kind. Memory: an id for each thing found."""
    wanted = tuple(kinds)
    skipped = ignore or {}
    seen: dict[str, set[str]] = {kind: set() for kind in wanted}
    for reading in readings:
        if reading.kind not in seen or reading.op != "put":
            continue
        seen[reading.kind].add(reading.id)
        yield from of_reading(state, reading, ignore=skipped.get(reading.kind, frozenset()))
    for kind in wanted:
        for thing in state.alive(kind):
            record = thing.record
            if record is not None and record.id not in seen[kind]:
                yield Difference(kind=kind, id=record.id, what="missing")


def of_reading(
    state: State, reading: Record, *, ignore: frozenset[str] = frozenset()
) -> Iterator[Difference]:
    """What a state disagrees about with one thing that was found."""
    thing = state.thing(reading.kind, reading.id)
    record = None if thing is None else thing.record
    if thing is None or record is None or not thing.alive or state.hidden(thing):
        yield Difference(kind=reading.kind, id=reading.id, what="unexpected")
        return
    if record.created_at != reading.created_at and "created_at" not in ignore:
        yield Difference(
            kind=reading.kind,
            id=reading.id,
            what="field",
            field="created_at",
            recorded=None if record.created_at is None else format_time(record.created_at),
            found=None if reading.created_at is None else format_time(reading.created_at),
        )
    for one in field_differences(reading.kind, thing.data, reading.data, ignore=ignore):
        yield Difference(
            kind=reading.kind,
            id=reading.id,
            what="field",
            field=one.field,
            recorded=one.recorded,
            found=one.found,
        )
