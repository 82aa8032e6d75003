"""The tables of a snapshot as Parquet files. The only module that imports pyarrow: the sidecar installs without it.

Rows are sorted by id, files are read and written a row group at a time, and a row group holds at most GROUP_BYTES of
decompressed data (or one row): so memory does not grow with the table.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bridge.state import Thing
from bridge.tables import Row, columns_of, id_of, id_order, thing_of

GROUP_ROWS = 20_000
GROUP_BYTES = 16 * 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_TYPES = {
    "text": pa.string(),
    "texts": pa.list_(pa.string()),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
}


def schema_of(table: str) -> Any:
    return pa.schema({name: _TYPES[type] for name, type in columns_of(table).items()})


def to_table(rows: Sequence[Row], schema: Any) -> Any:
    """Rows as Arrow data; a column that a row lacks is null."""
    columns = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if field.type == _TYPES["time"]:
            columns.append(pa.array([microseconds(value) for value in values], pa.int64()).cast(field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def together(tables: list[Any], schema: Any) -> Any:
    """Arrow data one after the other; empty without any."""
    return pa.concat_tables(tables) if tables else schema.empty_table()


def microseconds(value: datetime | None) -> int | None:
    """Since 1970."""
    return None if value is None else (value - _EPOCH) // _TICK


def moment(value: int | None) -> datetime | None:
    """The time of so many microseconds since 1970."""
    return None if value is None else _EPOCH + timedelta(microseconds=value)


class TableWriter:
    """Writes one Parquet file; nothing is kept in memory but the row group in the making."""

    def __init__(self, path: Path, schema: Any) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._waiting: list[Any] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self.rows = 0

    def add(self, table: Any) -> None:
        size = table.nbytes
        each = max(1, min(GROUP_ROWS, table.num_rows * GROUP_BYTES // max(1, size)))
        for start in range(0, table.num_rows, each):
            part = table.slice(start, each)
            if self._waiting_bytes + part.nbytes > GROUP_BYTES or self._waiting_rows + each > GROUP_ROWS:
                self._flush()
            self._waiting.append(part)
            self._waiting_rows += part.num_rows
            self._waiting_bytes += part.nbytes

    def _flush(self) -> None:
        if self._waiting_rows:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=self._waiting_rows)
            self.rows += self._waiting_rows
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0

    def close(self) -> None:
        self._flush()
        self._writer.close()


class Cells(dict[str, list[Any]]):
    """The columns of one row group by name, read when somebody first asks for one. Lists: whoever asks for one value of a
    column goes on to ask for most, and to take them out of an Arrow array one by one costs more than all at once."""

    def __init__(self, file: Any, number: int) -> None:
        super().__init__()
        self._file, self._number = file, number

    def __missing__(self, name: str) -> list[Any]:
        values: list[Any] = self._file.read_row_group(self._number, columns=[name])[name].to_pylist()
        self[name] = values
        return values


class TableFile:
    """One Parquet file, read a row group at a time."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self._ids: Any = None

    @property
    def rows(self) -> int:
        return int(self._file.metadata.num_rows)

    def groups(self, columns: list[str] | None = None) -> Iterator[Any]:
        for number in range(self._file.num_row_groups):
            yield self._file.read_row_group(number, columns=columns)

    def column(self, name: str) -> Any:
        """The whole of one column, as one Arrow array."""
        return _whole(self._file.read(columns=[name])[name])

    def cells(self) -> Iterator[Cells]:
        """The columns of each row group."""
        for number in range(self._file.num_row_groups):
            yield Cells(self._file, number)

    def has_newer(self) -> bool:
        """Whether a row has lines that a newer version of us wrote."""
        return bool(pc.any(self.column("newer")).as_py())

    def find(self, id: str) -> Thing | None:
        """One thing. The ids stay in memory; the row group is read again each time."""
        if self._ids is None:
            self._ids = self.column("id")
        at = pc.index(self._ids, id).as_py()
        if at < 0:
            return None
        for number in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(number).num_rows
            if at < rows:
                group = self._file.read_row_group(number, columns=["id", "record", "fold"])
                return next(things_in(group.slice(at, 1)))[1]
            at -= rows
        return None

    def where(self, wanted: list[str], *, or_newer: bool = False) -> Iterator[tuple[str, Thing]]:
        """The things whose `id` is among these, and with `or_newer` those with lines of a newer version of us."""
        ids = texts(wanted)
        for number in range(self._file.num_row_groups):
            asked = self._file.read_row_group(number, columns=["id", "newer"])
            mask = pc.is_in(asked["id"], value_set=ids)
            if or_newer:
                mask = pc.or_(mask, asked["newer"])
            if pc.any(mask).as_py():
                found = self._file.read_row_group(number, columns=["id", "record", "fold"]).filter(mask)
                yield from things_in(found)


def things_in(group: Any) -> Iterator[tuple[str, Thing]]:
    """(id, thing) of each row, whole."""
    shown, records, folds = (group[name].to_pylist() for name in ("id", "record", "fold"))
    for id, record, fold in zip(shown, records, folds, strict=True):
        yield id_of(id, fold), thing_of(record, fold)


def _whole(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def texts(values: Iterable[str]) -> Any:
    return pa.array(list(values), pa.string())


def merged(groups: Iterable[Any], replaced: Any, fresh: Any) -> Iterator[Any]:
    """Sorted rows of an old table, less those whose id is in `replaced`, with the sorted `fresh` rows between them."""
    orders = [id_order(id) for id in fresh["id"].to_pylist()]
    done = 0
    for group in groups:
        kept = group
        if len(replaced):
            kept = group.filter(pc.invert(pc.is_in(group["id"], value_set=replaced)))
        end = bisect_right(orders, id_order(group["id"][-1].as_py()), lo=done) if group.num_rows else done
        if end > done:
            kept = _between(kept, fresh.slice(done, end - done), orders[done:end])
            done = end
        yield kept
    yield fresh.slice(done)


def _between(kept: Any, fresh: Any, fresh_orders: list[tuple[int, int, str]]) -> Any:
    orders = [id_order(id) for id in kept["id"].to_pylist()] + fresh_orders
    order = sorted(range(len(orders)), key=orders.__getitem__)
    return pa.concat_tables([kept, fresh]).combine_chunks().take(pa.array(order, pa.int64()))


@dataclass(frozen=True, kw_only=True)
class Others:
    """What a row's `hidden` and `email` depend on, as Arrow arrays side by side."""

    tasks: Any
    task_alive: Any
    task_created_at: Any
    users: Any
    emails: Any


def others_of(tasks: TableFile | None, users: TableFile | None) -> Others:
    def column(file: TableFile | None, name: str, type: str) -> Any:
        return pa.array([], _TYPES[type]) if file is None else file.column(name)

    return Others(
        tasks=column(tasks, "id", "text"),
        task_alive=pc.or_(column(tasks, "alive", "bool"), column(tasks, "hidden", "bool")),
        task_created_at=column(tasks, "created_at", "time"),
        users=column(users, "id", "text"),
        emails=column(users, "email", "text"),
    )


def refreshed(group: Any, others: Others) -> Any:
    """The rows with `alive`, `hidden` and `email` as the tasks and users are now (bridge/state.py, `hidden`)."""
    own = pc.or_(group["alive"], group["hidden"])
    at = pc.index_in(group["task"].cast(pa.string()), value_set=others.tasks)
    ended = pc.fill_null(pc.invert(pc.take(others.task_alive, at)), False)
    another = pc.fill_null(pc.not_equal(group["task_created_at"], pc.take(others.task_created_at, at)), False)
    away = pc.or_(ended, another)
    group = _with(group, "hidden", pc.and_(own, away))
    group = _with(group, "alive", pc.and_(own, pc.invert(away)))
    if "email" in group.column_names and "completed_by" in group.column_names:
        who = pc.index_in(group["completed_by"].cast(pa.string()), value_set=others.users)
        group = _with(group, "email", pc.take(others.emails, who))
    return group


def _with(group: Any, name: str, column: Any) -> Any:
    return group.set_column(group.column_names.index(name), group.schema.field(name), column)
