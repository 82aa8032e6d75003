"""A thing of the state -> one row of a snapshot's table, and a result -> one row a region. Pure; docs/tables.md.

Two columns carry everything, so that folding goes on from a row: `record` is the log's line of the newest version, `fold`
is `Thing.to_json` less that line. All other columns are what people ask about, read out of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from bridge.records import CONTENT_FIELDS, KINDS, format_time, parse_time
from bridge.state import Thing

Row = dict[str, Any]
REGIONS = {"annotation": "region", "prediction": "predicted_region"}
"""The table of regions for each kind that has a result."""

_FIRST = {
    "id": "text",
    "alive": "bool",
    "hidden": "bool",
    "newer": "bool",
    "created_at": "time",
    "updated_at": "time",
    "received_at": "time",
    "observed_at": "time",
    "source": "text",
    "event": "text",
    "unique_id": "text",
    "hash": "text",
    "project": "int",
    "task": "int",
    "task_created_at": "time",
}
_OF_KIND: dict[str, dict[str, str]] = {
    "project": {"title": "text", "label_config": "text"},
    "user": {"email": "text", "username": "text", "first_name": "text", "last_name": "text"},
    "task": {"inner_id": "int"},
    "annotation": {
        "completed_by": "int",
        "email": "text",
        "was_cancelled": "bool",
        "ground_truth": "bool",
        "lead_time": "float",
        "regions": "int",
        "parent_prediction": "int",
        "parent_annotation": "int",
        "model_version": "text",
    },
    "prediction": {"model_version": "text", "score": "float", "regions": "int"},
    "draft": {
        "annotation": "int",
        "completed_by": "int",
        "email": "text",
        "lead_time": "float",
        "regions": "int",
    },
    "inference": {"model_version": "text", "request_seconds": "float", "regions": "int"},
    "media": {"key": "text", "sha256": "text", "size_bytes": "int"},
}
_LAST = {"record": "text", "fold": "text"}
_REGION = {
    "id": "text",
    "alive": "bool",
    "hidden": "bool",
    "project": "int",
    "task": "int",
    "task_created_at": "time",
    "region": "int",
    "region_id": "text",
    "type": "text",
    "from_name": "text",
    "to_name": "text",
    "label": "text",
    "labels": "texts",
    "x": "float",
    "y": "float",
    "width": "float",
    "height": "float",
    "rotation": "float",
    "original_width": "int",
    "original_height": "int",
    "x_px": "float",
    "y_px": "float",
    "width_px": "float",
    "height_px": "float",
    "value": "text",
    "score": "float",
    "origin": "text",
    "completed_by": "int",
    "email": "text",
    "created_at": "time",
    "updated_at": "time",
    "lead_time": "float",
    "was_cancelled": "bool",
    "ground_truth": "bool",
    "model_version": "text",
}
_IN_PIXELS = (
    ("x", "original_width"),
    ("y", "original_height"),
    ("width", "original_width"),
    ("height", "original_height"),
)
_NEWEST = "in the column record"  # what stands in `fold` in place of the line
_INT64 = range(-(2**63), 2**63)
_compact = json.JSONEncoder(separators=(",", ":")).encode


def columns_of(table: str) -> dict[str, str]:
    """The columns of a table in their order, each text, texts, int, float, bool or time (UTC)."""
    if table in REGIONS.values():
        return _REGION
    return _FIRST | _OF_KIND.get(table, {}) | _LAST


def file_stem(table: str) -> str:
    """The name of a table's file without .parquet. A kind that only a newer version of us knows gets one fit for a key."""
    if table in KINDS or table in REGIONS.values():
        return table
    return f"newer-{hashlib.sha256(table.encode()).hexdigest()[:8]}"


def content_rules() -> str:
    """Changes when the meaning of a content hash does: then the column `hash` of an older snapshot says nothing."""
    return hashlib.sha256(json.dumps(CONTENT_FIELDS, sort_keys=True).encode()).hexdigest()[:16]


def id_order(id: str) -> tuple[int, int, str]:
    """How the rows of a table are sorted: whole numbers by size, then the rest."""
    return (0, int(id), "") if id.isascii() and id.isdigit() else (1, 0, id)


def row_id(id: str) -> str:
    """The id as it stands in the column: half an emoji, which is no UTF-8, as its escape."""
    return id if id.isascii() else id.encode("utf-8", "backslashreplace").decode()


def row_of(kind: str, id: str, thing: Thing) -> Row:
    """`hidden` and `email` are left to whoever has the tasks and the users at hand."""
    life = thing.newest
    record = None if life is None else life.newest
    data: Mapping[str, Any] = {} if record is None else record.data
    row: Row = {
        "id": row_id(id),
        "alive": life is not None and life.ended_at(thing.deleted_at) is None,
        "hidden": False,
        "newer": bool(thing.passed_over),
        "created_at": None if record is None else record.created_at,
        "updated_at": None if record is None else record.version,
        "received_at": None if record is None else record.received_at,
        "observed_at": None if record is None else record.observed_at,
        "source": None if record is None else _text(record.source),
        "event": None if record is None else _text(record.event),
        "unique_id": None if life is None else _text(life.unique_id),
        "hash": None if record is None else record.hash,
        "project": _int(data.get("project")),
        "task": _int(data.get("task")),
        "task_created_at": _time(data.get("task_created_at")),
    }
    row |= _of_kind(kind, data)
    row["record"], row["fold"] = _split(row["id"], id, thing)
    return row


def _of_kind(kind: str, data: Mapping[str, Any]) -> Row:
    if kind == "annotation":
        shown = data.get("prediction")
        return {
            "completed_by": _int(data.get("completed_by")),
            "email": None,
            "was_cancelled": bool(data.get("was_cancelled")),
            "ground_truth": bool(data.get("ground_truth")),
            "lead_time": _float(data.get("lead_time")),
            "regions": _count(data.get("result")),
            "parent_prediction": _int(data.get("parent_prediction")),
            "parent_annotation": _int(data.get("parent_annotation")),
            "model_version": _text(shown.get("model_version")) if isinstance(shown, dict) else None,
        }
    if kind == "draft":
        return {
            "annotation": _int(data.get("annotation")),
            "completed_by": _int(data.get("user")),
            "email": None,
            "lead_time": _float(data.get("lead_time")),
            "regions": _count(data.get("result")),
        }
    read = {"text": _text, "int": _int, "float": _float}
    row = {name: read[type](data.get(name)) for name, type in _OF_KIND.get(kind, {}).items()}
    if "regions" in row:
        row["regions"] = _count(data.get("regions" if kind == "inference" else "result"))
    return row


def _split(shown: str, id: str, thing: Thing) -> tuple[str | None, str]:
    """The columns `record` and `fold`."""
    fields, newest, line = thing.to_json(), thing.newest, None
    keys = [
        None if key is None else format_time(key) for key, one in thing.incarnations.items() if one is newest
    ]
    for item in fields["incarnations"]:
        if keys and item["created_at"] == keys[0]:
            line, item["newest"] = item["newest"], _NEWEST
    return line, _compact(fields if shown == id else fields | {"id": id})


def thing_of(record: str | None, fold: str) -> Thing:
    """The thing that a row was made of. Raises ValueError or KeyError when it was not made by `row_of`."""
    fields = json.loads(fold)
    for item in fields["incarnations"]:
        if item["newest"] == _NEWEST:
            item["newest"] = record
    return Thing.from_json(fields)


def id_of(shown: str, fold: str) -> str:
    """The thing's id, from its row."""
    if "\\" not in shown:
        return shown
    real = json.loads(fold).get("id", shown)
    return real if isinstance(real, str) else shown


def region_rows(kind: str, id: str, thing: Thing) -> Iterator[Row]:
    """A row for each entry of the newest version's result, in its order."""
    record = thing.record
    result = None if record is None else record.data.get("result")
    if record is None or not isinstance(result, list):
        return
    data = record.data
    shown = data.get("prediction")
    shared: Row = {
        "id": row_id(id),
        "alive": thing.alive,
        "hidden": False,
        "project": _int(data.get("project")),
        "task": _int(data.get("task")),
        "task_created_at": _time(data.get("task_created_at")),
        "completed_by": _int(data.get("completed_by")),
        "email": None,
        "created_at": record.created_at,
        "updated_at": record.version,
        "lead_time": _float(data.get("lead_time")),
        "was_cancelled": bool(data.get("was_cancelled")),
        "ground_truth": bool(data.get("ground_truth")),
        "model_version": _text(
            data.get("model_version")
            if kind == "prediction"
            else shown.get("model_version")
            if isinstance(shown, dict)
            else None
        ),
    }
    for number, entry in enumerate(result):
        if isinstance(entry, dict):
            yield shared | _region(number, entry)


def _region(number: int, entry: Mapping[str, Any]) -> Row:
    said = entry.get("value")
    value: Mapping[str, Any] = said if isinstance(said, dict) else {}
    type = entry.get("type")
    named = value.get(type) if isinstance(type, str) else None
    labels = [str(_text(one)) for one in named if isinstance(one, str)] if isinstance(named, list) else []
    row: Row = {
        "region": number,
        "region_id": _text(entry.get("id")),
        "type": _text(type),
        "from_name": _text(entry.get("from_name")),
        "to_name": _text(entry.get("to_name")),
        "label": labels[0] if labels else None,
        "labels": labels,
        "original_width": _int(entry.get("original_width")),
        "original_height": _int(entry.get("original_height")),
        "value": _compact(value),
        "score": _float(entry.get("score")),
        "origin": _text(entry.get("origin")),
        "rotation": _float(value.get("rotation")),
    }
    for name, side in _IN_PIXELS:
        percent, whole = _float(value.get(name)), row[side]
        row[name] = percent
        row[f"{name}_px"] = None if percent is None or whole is None else percent * whole / 100
    return row


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _INT64 else None


def _float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _text(value: Any) -> str | None:
    return row_id(value) if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None


def _time(value: Any) -> datetime | None:
    try:
        return parse_time(value)
    except (ValueError, TypeError):
        return None
