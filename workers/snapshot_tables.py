"""Folds parts of the log into the tables of a snapshot, on disk: the old rows are copied as they are, and only the things
that the part touches are parsed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bridge.edges.lines import Line
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
    together,
)
from bridge.state import State, Thing
from bridge.tables import REGIONS, Row, columns_of, id_order, region_rows, row_id, row_of

_AT_ONCE = 1000  # rows as Python objects are some ten times their size as Arrow data
_FIRST = ("user", "task")  # others show whether their task is there and what their user's address is


def _nothing() -> None: ...


class Tables:
    """The tables of one snapshot in the making, in a folder. `paths`: of each table. `beat` is called for each group of
    rows: writing a large project's takes longer than a lock lives."""

    def __init__(self, folder: Path, paths: dict[str, Path], beat: Callable[[], None] = _nothing) -> None:
        self._folder = folder
        self._beat = beat
        self.paths = dict(paths)
        self._made = 0

    def fold_in(self, part: State) -> None:
        """Join what a part of the log says into the tables."""
        kinds = {*part.things, *self.paths} - {*REGIONS.values()}
        for kind in sorted(kinds, key=lambda kind: (kind not in _FIRST, kind)):
            touched = self._touched(kind, part.things.get(kind, {}))
            if touched or kind not in _FIRST:
                self._write(kind, touched)
                part.things.pop(kind, None)  # what is written needs no memory any more

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
        ids = texts(row_id(id) for id, _ in touched)
        fresh, regions = _fresh(kind, touched)
        self._rewrite(kind, ids, fresh, others)
        if kind == "task" and self._tasks_name_tasks():
            nothing = fresh.slice(0, 0)
            self._rewrite(kind, ids.slice(0, 0), nothing, others_of(self._open("task"), self._open("user")))
        if regions is not None:
            self._rewrite(REGIONS[kind], ids, regions, others)

    def _tasks_name_tasks(self) -> bool:
        """Label Studio's do not. If ever, their flags depend on the rows that were being written."""
        file = self._open("task")
        return file is not None and file.column("task").null_count < file.rows

    def _rewrite(self, table: str, replaced: Any, fresh: Any, others: Others) -> None:
        """`replaced`: the ids whose old rows go; `fresh`: the rows of these ids now."""
        if not len(replaced) and not {"task", "completed_by"} & columns_of(table).keys():
            return
        old = self._open(table)
        self._made += 1
        path = self._folder / f"{self._made}-{table}.parquet"
        writer = TableWriter(path, schema_of(table))
        try:
            for group in self._groups(old, replaced, fresh):
                self._beat()
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


def _fresh(kind: str, touched: Sequence[tuple[str, Thing]]) -> tuple[Any, Any]:
    """The rows of these things, and of their regions (None where the kind has none)."""
    things, regions = [], []
    left = iter(touched)
    while part := list(islice(left, _AT_ONCE)):
        things.append(_table(kind, (row_of(kind, id, thing) for id, thing in part)))
        if kind in REGIONS:
            rows = (row for id, thing in part for row in region_rows(kind, id, thing))
            regions.append(_table(REGIONS[kind], rows))
        for _, thing in part:
            for life in thing.incarnations.values():
                if isinstance(life.newest, Line):
                    life.newest.let_go()
    return (
        together(things, schema_of(kind)),
        together(regions, schema_of(REGIONS[kind])) if kind in REGIONS else None,
    )


def _table(table: str, rows: Iterable[Row]) -> Any:
    return to_table(list(rows), schema_of(table))
