"""The state of a project at a time, from the newest snapshot that serves it and the log objects it does not name.

What the snapshot holds stays on disk: only the things that the rest of the log touches are parsed when it is opened, the
others as they are asked for. Without a snapshot, or without pyarrow (the sidecar), the log is folded from its beginning.
"""

from __future__ import annotations

import heapq
import importlib.util
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.edges import snapshots
from bridge.edges.lines import data_of, loads
from bridge.edges.log import log_keys, read_good_lines
from bridge.keys import Layout
from bridge.readings import Known, kept_of
from bridge.records import Record
from bridge.snapshots import FOLDED, Manifest, late_from
from bridge.state import Incarnation, State, Thing, hides
from bridge.store import ObjectStore
from bridge.tables import REGIONS, content_rules, id_of, id_order, row_id, thing_of

if TYPE_CHECKING:
    from bridge.edges.tables import Cells, TableFile

log = logging.getLogger(__name__)
Beat = Callable[[], None]
Report = Callable[[int, int], None]


def _nothing() -> None: ...


def _nobody(done: int, total: int) -> None: ...


class _Row(Thing):
    """A thing that still is a row of a snapshot. What its columns say costs nothing; the rest is parsed when asked for."""

    def __init__(
        self, cells: Cells, number: int, *, alive: bool, hidden: bool, unique_id: str | None
    ) -> None:
        self._cells, self._number, self._unique_id = cells, number, unique_id
        self._alive, self.is_hidden = alive or hidden, hidden
        self._parsed: Thing | None = None

    def cell(self, column: str) -> Any:
        return self._cells[column][self._number]

    @property
    def whole(self) -> Thing:
        if self._parsed is None:
            self._parsed = thing_of(self.cell("record"), self.cell("fold"))
        return self._parsed

    @property
    def incarnations(self) -> dict[datetime | None, Incarnation]:  # type: ignore[override]
        return self.whole.incarnations

    @property
    def deleted_at(self) -> datetime | None:  # type: ignore[override]
        return self.whole.deleted_at

    @property
    def passed_over(self) -> set[str]:  # type: ignore[override]
        return self.whole.passed_over

    @property
    def alive(self) -> bool:
        return self._alive

    @property
    def record(self) -> Record | None:
        line = self.cell("record")
        return None if line is None else Record.from_fields(loads(line))

    @property
    def data(self) -> dict[str, Any]:
        line = self.cell("record")
        if line is None:
            return {}
        data = data_of(line)
        if self._unique_id is not None:
            data["unique_id"] = self._unique_id
        return data

    @property
    def task_id(self) -> str | None:
        task = self.cell("task")
        return None if task is None else str(task)


class History:
    """A project's state: read like a `State` (`StateView`), a kind at a time, without holding it all."""

    def __init__(self, rest: State, manifest: Manifest | None, files: dict[str, TableFile]) -> None:
        self.manifest = manifest
        self._rest = rest
        self._files = files
        self._touched = {kind: self._touch(kind) for kind in self.kinds()}
        self._tasks: dict[str, Thing | None] | None = None
        self.newest_key = ""
        self.log_objects = 0
        self.unreadable: list[str] = []

    def kinds(self) -> list[str]:
        return sorted({*self._files, *self._rest.things})

    def _touch(self, kind: str) -> dict[str, Thing]:
        """What the rest of the log touches, and what a newer version of us wrote lines of, joined with the snapshot."""
        fresh, file = self._rest.things.get(kind, {}), self._files.get(kind)
        if file is None:
            return fresh
        return dict(_joined(file, fresh))

    @property
    def baseline_completed_at(self) -> datetime | None:
        said = (self._rest.baseline_completed_at, self.manifest and self.manifest.baseline_completed_at)
        return max((time for time in said if time), default=None)

    @property
    def absent_since(self) -> datetime | None:
        only = State(things={"project": dict(self.every("project"))})
        return only.absent_since

    def every(self, kind: str) -> Iterator[tuple[str, Thing]]:
        """(id, thing) of every thing of a kind, there or not, in the order of their ids."""
        touched = self._touched.get(kind, {})
        if not touched:
            for _, id, row in self._rows(kind):
                yield id, row
            return
        mine = sorted((id_order(row_id(id)), id) for id in touched)
        rows = ((id_order(shown), id, row) for shown, id, row in self._rows(kind))
        merged = heapq.merge(((order, id, None) for order, id in mine), rows, key=lambda one: one[0])
        for _, id, untouched in merged:
            yield id, touched[id] if untouched is None else untouched

    def _rows(self, kind: str) -> Iterator[tuple[str, str, _Row]]:
        file = self._files.get(kind)
        if file is None:
            return
        touched = {row_id(id) for id in self._touched.get(kind, {})}
        for cells in file.cells():
            flags = (cells[name] for name in ("id", "alive", "hidden", "unique_id"))
            for number, (shown, alive, hidden, unique_id) in enumerate(zip(*flags, strict=True)):
                if shown not in touched:
                    row = _Row(cells, number, alive=alive, hidden=hidden, unique_id=unique_id)
                    id = shown if "\\" not in shown else id_of(shown, row.cell("fold"))
                    yield shown, id, row

    def alive(self, kind: str) -> Iterator[Thing]:
        """As `State.alive`."""
        for _, thing in self.every(kind):
            if thing.alive and not self.hidden(thing):
                yield thing

    def thing(self, kind: str, id: str) -> Thing | None:
        touched = self._touched.get(kind, {})
        file = self._files.get(kind)
        if id in touched or file is None:
            return touched.get(id)
        return file.find(row_id(id))

    def hidden(self, thing: Thing) -> bool:
        """As `State.hidden`, of a thing that has not ended itself."""
        touched = self._touched.get("task", {})
        if isinstance(thing, _Row) and not (touched and thing.task_id in touched):
            return thing.is_hidden
        task = thing.task_id
        return task is not None and hides(self._task(task), thing)

    def _task(self, id: str) -> Thing | None:
        """The task, of those that touched things are on: fetched in one go."""
        if self._tasks is None:
            wanted = {thing.task_id for things in self._touched.values() for thing in things.values()}
            touched = self._touched.get("task", {})
            file = self._files.get("task")
            self._tasks = dict(touched)
            if file is not None and (missing := [one for one in wanted if one and one not in touched]):
                self._tasks |= dict(file.where(missing))
        return self._tasks[id] if id in self._tasks else self.thing("task", id)

    def state(self) -> State:
        """All of it in memory, whole."""
        if self.manifest is None:
            return self._rest
        state = State(baseline_completed_at=self.baseline_completed_at)
        for kind in self.kinds():
            things = state.things[kind] = {}
            for id, thing in self.every(kind):
                things[id] = thing.whole if isinstance(thing, _Row) else thing
        return state

    def known(self, beat: Beat = _nothing) -> Known:
        """What a reading is compared with: versions and hashes, without the data."""
        known = Known()
        same_rules = self.manifest is not None and self.manifest.content_rules == content_rules()
        for kind in self.kinds():
            things = known.state.things[kind] = {}
            for id, thing in self._touched.get(kind, {}).items():
                things[id] = _light(thing, None)
            for number, (_, id, row) in enumerate(self._rows(kind)):
                if number % 1000 == 0:
                    beat()
                things[id] = _light(row, row.cell("hash") if same_rules else None)
        known.state.baseline_completed_at = self.baseline_completed_at
        return known


def _joined(file: TableFile, fresh: dict[str, Thing]) -> Iterator[tuple[str, Thing]]:
    left = dict(fresh)
    if fresh or file.has_newer():
        for id, thing in file.where([row_id(id) for id in fresh], or_newer=True):
            if id in left:
                thing.merge(left.pop(id))
            yield id, thing
    yield from left.items()


def _light(thing: Thing, hash: str | None) -> Thing:
    """The thing without its data, whose hashes stay."""
    light = Thing(deleted_at=thing.deleted_at)
    newest = thing.newest
    for created_at, life in thing.incarnations.items():
        record = life.newest
        if record is not None:
            known = hash if hash is not None and life is newest else record.hash
            record = replace(record, data=kept_of(record.data), extra={})
            record.__dict__["hash"] = known
        light.incarnations[created_at] = Incarnation(
            newest=record,
            first_seen=life.first_seen,
            last_read=life.last_read,
            gone_at=life.gone_at,
            unique_id=life.unique_id,
        )
    return light


@contextmanager
def open_history(
    store: ObjectStore,
    layout: Layout,
    *,
    at: datetime | None = None,
    up_to: str = "",
    beat: Beat = _nothing,
    report: Report = _nobody,
) -> Iterator[History]:
    """The state now, or as the door knew it at a time (`at`), or as one log object left it (`up_to`, its key).

    `beat` is called for each log object, `report` with how many are read of how many."""
    with tempfile.TemporaryDirectory(prefix="snapshot-") as folder:
        found = _Found() if not _can_read_tables() else _find(store, layout, Path(folder), at, up_to)
        keys = list(_rest(store, layout, found, at, up_to))
        rest, unreadable = State(), []
        for done, key in enumerate(keys):
            beat()
            report(done, len(keys))
            records, whole = read_good_lines(store, key)
            if not whole:
                unreadable.append(key)
            for record in records:
                if at is None or record.received_at <= at:
                    rest.add(record)
        report(len(keys), len(keys))
        history = History(rest, found.manifest, found.files)
        history.unreadable = unreadable
        history.log_objects = len(keys) + (0 if found.manifest is None else found.manifest.log_objects)
        history.newest_key = max(
            [*keys, "" if found.manifest is None else found.manifest.newest_key], default=""
        )
        yield history


def _can_read_tables() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


@dataclass(kw_only=True)
class _Found:
    """The snapshot to begin with, if there is one; `newest` says when the records of other log objects were received."""

    manifest: Manifest | None = None
    files: dict[str, TableFile] = field(default_factory=dict)
    folded: Path | None = None
    newest: Path | None = None


def _find(store: ObjectStore, layout: Layout, folder: Path, at: datetime | None, up_to: str) -> _Found:
    """Fetch the newest snapshot that serves; one whose files are damaged is passed over."""
    from bridge.edges.tables import TableFile

    found = _Found()
    for manifest in snapshots.manifests(store, layout):
        serves = manifest.serves(at=at, up_to=up_to)
        if not serves and (at is None or found.newest is not None):
            continue
        tables = {FOLDED} | ({*manifest.rows()} - {*REGIONS.values()} if serves else set())
        try:
            paths = snapshots.fetch(store, layout, manifest, folder, tables)
            folded = paths.pop(FOLDED)
            if serves:
                found.files = {table: TableFile(path) for table, path in paths.items()}
        except (snapshots.Unusable, KeyError, OSError, ValueError) as error:
            log.error("passed over the snapshot %d of %s: %s", manifest.position, layout.uid, error)
            continue
        found.newest = found.newest or folded
        if serves:
            found.manifest, found.folded = manifest, folded
            break
    return found


def _rest(
    store: ObjectStore, layout: Layout, found: _Found, at: datetime | None, up_to: str
) -> Iterator[str]:
    """The keys of the log objects that the snapshot does not have in it, less those received after `at` as a whole."""
    start, named, newest = 0, None, None
    if found.newest is not None:
        from bridge.edges.folded import Folded

        newest = Folded(found.newest)
        if found.folded is not None and found.manifest is not None:
            start = late_from(found.manifest.position)
            named = Folded(found.folded)
            for old in sorted(newest.beyond(named, before=start), key=lambda key: (key.position, key.sha)):
                yield layout.log(old)
    for info in log_keys(store, layout, after=layout.log_from(start)):
        if up_to and info.key > up_to:
            break
        key = layout.parse_log(info.key)
        if key is None:
            continue
        if named is not None and (entry := named.find(key)) is not None and entry.read:
            continue
        if (
            at is not None
            and newest is not None
            and (entry := newest.find(key)) is not None
            and entry.later(at)
        ):
            continue
        yield info.key


def load_known(store: ObjectStore, layout: Layout, *, beat: Beat = _nothing) -> Known:
    """What the log knows of each thing, without the data: what readings are compared with."""
    with open_history(store, layout, beat=beat) as history:
        return history.known(beat)
