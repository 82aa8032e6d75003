"""Folds parts of the log into the tables of a snapshot, on disk: the old rows are copied as they are, and only the things
that the part touches are parsed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bridge.edges.tables import (
    Others,
    TableFile,
    TableWriter,
    merged,
    others_of,
    refreshed,
    schema_of,
    texts,
    to_table,
)
from bridge.state import State, Thing
from bridge.tables import REGIONS, columns_of, id_order, region_rows, row_id, row_of

_FIRST = ("user", "task")  # others show whether their task is there and what their user's address is


class Tables:
    """The tables of one snapshot in the making, in a folder. `paths`: of each table."""

    def __init__(self, folder: Path, paths: dict[str, Path]) -> None:
        self._folder = folder
        self.paths = dict(paths)
        self._made = 0

    def fold_in(self, part: State) -> None:
        """Join what a part of the log says into the tables."""
        kinds = {*part.things, *self.paths} - {*REGIONS.values()}
        for kind in sorted(kinds, key=lambda kind: (kind not in _FIRST, kind)):
            touched = self._touched(kind, part.things.get(kind, {}))
            if touched or kind not in _FIRST:
                self._write(kind, touched)

    def _touched(self, kind: str, fresh: dict[str, Thing]) -> list[tuple[str, Thing]]:
        """The things to write anew, in the order of their rows, each with all that is known of it."""
        found = dict(fresh)
        if (old := self._open(kind)) is not None and (fresh or old.has_newer()):
            for id, thing in old.where([row_id(id) for id in fresh], or_newer=True):
                if id in fresh:
                    thing.merge(fresh[id])
                found[id] = thing
        return sorted(found.items(), key=lambda one: id_order(row_id(one[0])))

    def _write(self, kind: str, touched: list[tuple[str, Thing]]) -> None:
        others = others_of(self._open("task"), self._open("user"))
        self._rewrite(kind, touched, [row_of(kind, id, thing) for id, thing in touched], others)
        if kind == "task" and self._tasks_name_tasks():
            self._rewrite(kind, [], [], others_of(self._open("task"), self._open("user")))
        if kind in REGIONS:
            rows = [row for id, thing in touched for row in region_rows(kind, id, thing)]
            self._rewrite(REGIONS[kind], touched, rows, others)

    def _tasks_name_tasks(self) -> bool:
        """Label Studio's do not. If ever, their flags depend on the rows that were being written."""
        file = self._open("task")
        return file is not None and file.column("task").null_count < file.rows

    def _rewrite(
        self, table: str, touched: list[tuple[str, Thing]], rows: list[dict[str, Any]], others: Others
    ) -> None:
        if not touched and not {"task", "completed_by"} & columns_of(table).keys():
            return
        schema, old = schema_of(table), self._open(table)
        replaced = texts(row_id(id) for id, _ in touched)
        self._made += 1
        path = self._folder / f"{self._made}-{table}.parquet"
        writer = TableWriter(path, schema)
        try:
            for group in self._groups(old, replaced, to_table(rows, schema)):
                writer.add(refreshed(group, others))
        finally:
            writer.close()
        if table in self.paths:
            self.paths[table].unlink()
        self.paths[table] = path

    def _groups(self, old: TableFile | None, replaced: Any, fresh: Any) -> Iterator[Any]:
        return merged([] if old is None else old.groups(), replaced, fresh)

    def _open(self, table: str) -> TableFile | None:
        return TableFile(self.paths[table]) if table in self.paths else None

    def rows(self, table: str) -> int:
        return TableFile(self.paths[table]).rows
