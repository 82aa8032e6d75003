"""folded.parquet: the log objects that are in a snapshot, in order, each with the times its records were received.

An object that could not be read is named with `read` false: it is tried again by every reader, since a later version of
us may understand it.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bridge.edges.tables import microseconds
from bridge.keys import LogKey

_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    {
        "position": pa.int64(),
        "sha": pa.string(),
        "read": pa.bool_(),
        "received_from": _TIME,
        "received_to": _TIME,
    }
)
GROUP_ROWS = 50_000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One log object. Times in microseconds since 1970; None for one without a record."""

    key: LogKey
    read: bool
    received_from: int | None
    received_to: int | None

    def later(self, at: datetime) -> bool:
        """Whether none of its records was received by a time."""
        limit = microseconds(at)
        return self.read and limit is not None and (self.received_from is None or self.received_from > limit)


class Folded:
    """Asked for keys in their order: as a listing brings them. Holds one row group."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self._groups = iter(range(self._file.num_row_groups))
        self._keys: list[tuple[int, str]] = []
        self._group: Any = None

    def find(self, key: LogKey) -> Entry | None:
        wanted = (key.position, key.sha)
        while not self._keys or self._keys[-1] < wanted:
            if not self._load_next(key.position):
                return None
        at = bisect_left(self._keys, wanted)
        if self._keys[at] != wanted:
            return None
        return Entry(
            key=key,
            read=self._group["read"][at].as_py(),
            received_from=self._group["received_from"][at].as_py(),
            received_to=self._group["received_to"][at].as_py(),
        )

    def _load_next(self, position: int) -> bool:
        for number in self._groups:
            last = self._file.metadata.row_group(number).column(0).statistics
            if last is not None and last.max < position:
                continue
            self._group = _in_microseconds(self._file.read_row_group(number))
            self._keys = list(
                zip(self._group["position"].to_pylist(), self._group["sha"].to_pylist(), strict=True)
            )
            return True
        return False

    def beyond(self, other: Folded, *, before: int) -> list[LogKey]:
        """Those of positions before a listing's start that the other one has not read: found too late by it, or unreadable
        then."""
        mine, others = (one._before(before) for one in (self, other))
        # By content alone: what was read once says nothing new at another position. (A join, or a comparison with a
        # number, makes pyarrow import pandas where it is installed: half a second for each job that reads a state.)
        left = mine.filter(pc.invert(pc.is_in(mine["sha"], value_set=others.filter(others["read"])["sha"])))
        return [LogKey(position=row["position"], sha=row["sha"]) for row in left.to_pylist()]

    def _before(self, position: int) -> Any:
        found = self._file.read(columns=["position", "sha", "read"])  # in order of position
        return found.slice(0, bisect_left(found["position"], position, key=lambda one: one.as_py()))


def _in_microseconds(group: Any) -> Any:
    for name in ("received_from", "received_to"):
        group = group.set_column(group.column_names.index(name), name, group[name].cast(pa.int64()))
    return group.combine_chunks()


class FoldedWriter:
    """Collects entries in any order, some 50 bytes each; written sorted, each name once, the last word counts."""

    def __init__(self, before: Path | None = None) -> None:
        self._tables = [] if before is None else [_in_microseconds(pq.read_table(before))]
        self._entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        if len(self._entries) == GROUP_ROWS:
            self._pack()

    def _pack(self) -> None:
        columns: dict[str, Any] = {
            "position": pa.array([one.key.position for one in self._entries], pa.int64()),
            "sha": pa.array([one.key.sha for one in self._entries], pa.string()),
            "read": pa.array([one.read for one in self._entries], pa.bool_()),
            "received_from": pa.array([one.received_from for one in self._entries], pa.int64()),
            "received_to": pa.array([one.received_to for one in self._entries], pa.int64()),
        }
        self._tables.append(pa.table(columns))
        self._entries = []

    def write(self, path: Path) -> tuple[int, int, int | None, int | None]:
        """Returns how many could be read, how many not, and when the first and the last record was received."""
        self._pack()
        table = pa.concat_tables(self._tables)
        # One that could not be read before, and now can, is in it twice: the one that was read sorts last.
        table = table.sort_by([("position", "ascending"), ("sha", "ascending"), ("read", "ascending")])
        table = table.combine_chunks()
        if table.num_rows > 1:
            same = pc.and_(
                pc.equal(table["position"].slice(0, table.num_rows - 1), table["position"].slice(1)),
                pc.equal(table["sha"].slice(0, table.num_rows - 1), table["sha"].slice(1)),
            )
            table = table.filter(pa.concat_arrays([pc.invert(same).combine_chunks(), pa.array([True])]))
        read = pc.sum(pc.cast(table["read"], pa.int64())).as_py() or 0
        limits = (pc.min(table["received_from"]).as_py(), pc.max(table["received_to"]).as_py())
        pq.write_table(table.cast(SCHEMA), path, compression="zstd", row_group_size=GROUP_ROWS)
        return read, table.num_rows - read, *limits
