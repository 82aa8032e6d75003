"""Which regions of an annotation fit into the cells of a table, and why not the others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.export_shapes import LeftOut, left_out
from bridge.labeling import Config

CHAT = "chatmessage"
# The converter writes these shorter than as they are; it needs the field named here for that.
_SHORTENED = {"Choices": "choices", "TextArea": "text"}


def cells_of(
    annotation: Mapping[str, Any], config: Config
) -> tuple[list[Any], dict[str, str], list[LeftOut]]:
    """The entries of a result that go into the row, the column of each with the type it is written as, and the others."""
    entries: list[Any] = []
    columns: dict[str, str] = {}
    out: list[LeftOut] = []
    for entry in annotation.get("result") or []:
        found = _column(entry, config)
        if isinstance(found, str):
            out.append(left_out(entry, annotation, found))
            continue
        entries.append(entry)
        columns[found[0]] = found[1]
    return entries, columns, out


def _column(entry: object, config: Config) -> tuple[str, str] | str:
    """The column and the type of one entry, or the reason why it has none."""
    if not isinstance(entry, Mapping):
        return "it is no region"
    if entry.get("type") == "relation":
        return "CSV has no relations between regions"
    value, name = entry.get("value"), entry.get("from_name")
    if not isinstance(value, Mapping):
        return "it has no value"
    if not isinstance(name, str) or not name:
        return "it names no control"
    if entry.get("type") == CHAT:
        return name, CHAT
    control = config.control(name)
    if control is None and config.controls:
        return f"the labeling config has no control {name!r}"
    tag = control.tag if control is not None else ""
    needed = _SHORTENED.get(tag)
    if needed is None:
        return name, "Region"
    if not isinstance(value.get(needed), list | str):
        return f"its value has no {needed!r}"
    return name, tag
