"""The writers of the formats: tasks go in one by one, the converter runs, its output is opened and counted.

Each writer keeps two promises: every region it was given is in the output or in left_out.jsonl, and what it says is in
the output was counted in the opened output.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

from bridge import export_pictures, export_rows
from bridge.export_shapes import left_out
from bridge.export_tasks import Contents, to_line
from bridge.exports import Format, Order
from bridge.labeling import Config
from bridge.state import Thing
from workers.export_convert import ListFile, convert, mismatch
from workers.export_pictures import PictureWriter
from workers.export_tally import Tally

Json = dict[str, Any]


class Writer(Protocol):
    """Tasks go in with `add`; `finish` returns the file for people, and how many objects were counted in it."""

    def add(self, task: Thing, whole: Json) -> None: ...

    def finish(self) -> tuple[Path, int]: ...

    def close(self) -> None: ...


class JsonWriter:
    """Label Studio's own JSON: everything is in it."""

    def __init__(self, folder: Path, tally: Tally) -> None:
        self._folder, self._tally = folder, tally
        self._tasks = ListFile(folder / "tasks.json")

    def add(self, task: Thing, whole: Json) -> None:
        self._tasks.add(to_line(whole))
        self._tally.annotations_in += len(whole["annotations"])
        self._tally.regions_in += sum(len(one["result"] or []) for one in whole["annotations"])

    def finish(self) -> tuple[Path, int]:
        out = self._folder / "out"
        convert(self._tasks.finish(), out, {}, "JSON")
        found = out / "result.json"
        tasks = regions = 0
        with found.open(encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("{"):
                    whole = json.loads(line.rstrip().removesuffix(","))
                    tasks += 1
                    regions += sum(len(one["result"] or []) for one in whole["annotations"])
        if (tasks, regions) != (self._tally.tasks, self._tally.regions_in):
            raise mismatch(f"{tasks} tasks with {regions} regions")
        return found, regions

    def close(self) -> None:
        self._tasks.close()


class CsvWriter:
    """A row for each annotation that was not skipped, and for each task without any."""

    def __init__(self, folder: Path, tally: Tally, config: Config) -> None:
        self._folder, self._tally, self._config = folder, tally, config
        self._tasks = ListFile(folder / "tasks.json")
        self._columns: dict[str, str] = {}
        self._rows: Counter[str] = Counter()

    def add(self, task: Thing, whole: Json) -> None:
        kept = []
        for annotation in whole["annotations"]:
            entries = annotation["result"] or []
            if annotation["was_cancelled"]:
                self._tally.leave_out([left_out(e, annotation, export_pictures.SKIPPED) for e in entries])
                self._tally.annotations_out["it was skipped"] += 1
                continue
            cells, columns, out = export_rows.cells_of(annotation, self._config)
            self._tally.leave_out(out)
            self._tally.regions_in += len(cells)
            self._tally.annotations_in += 1
            self._columns |= columns
            self._rows[str(annotation["id"])] += 1
            kept.append(annotation | {"result": cells, "created_at": annotation["created_at"] or ""})
        if whole["annotations"] and not kept:
            return
        self._rows[""] += not kept
        line = to_line(whole | {"annotations": kept})
        # The converter writes UTF-8 and fails on half an emoji, even as an escape.
        self._tasks.add(_whole_text(line))

    def finish(self) -> tuple[Path, int]:
        out = self._folder / "out"
        schema = {
            name: {"type": kind, "to_name": [], "inputs": [], "labels": [], "labels_attrs": {}}
            for name, kind in self._columns.items()
            if kind != export_rows.CHAT
        }
        # An empty schema means "take everything" to the converter, and nothing is left that could be taken then.
        convert(self._tasks.finish(), out, schema, "CSV")
        found = out / "result.csv"
        csv.field_size_limit(sys.maxsize)
        rows: Counter[str] = Counter()
        with found.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            missing = self._columns.keys() - set(reader.fieldnames or [])
            for row in reader:
                rows[row["annotation_id"]] += 1
        if missing or rows != self._rows:
            raise mismatch(
                f"{rows.total()} rows, columns without place: {', '.join(sorted(missing)) or 'none'}"
            )
        return found, rows.total()

    def close(self) -> None:
        self._tasks.close()


def _whole_text(line: str) -> str:
    if "\\ud" not in line.lower():
        return line
    return json.dumps(_mended(json.loads(line)), separators=(",", ":"), ensure_ascii=False)


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_mended(name): _mended(item) for name, item in value.items()}
    return [_mended(item) for item in value] if isinstance(value, list) else value


def open_writer(
    format: Format, folder: Path, tally: Tally, config: Config, contents: Contents, order: Order, title: str
) -> Writer:
    """The writer of a format."""
    if format.is_for_pictures:
        return PictureWriter(folder, tally, config, contents, format, order, title)
    if format.name == "CSV":
        return CsvWriter(folder, tally, config)
    return JsonWriter(folder, tally)
