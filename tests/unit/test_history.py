"""Snapshot + the rest of the log = the fold of all of it: for any split, order, repetition and moment."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.edges import history, snapshots
from bridge.edges import tables as table_files
from bridge.edges.lines import Line
from bridge.edges.log import read_records, read_state
from bridge.keys import Layout, LogKey, SnapshotKey
from bridge.readings import Known
from bridge.records import Record
from bridge.snapshots import MANIFEST, SCHEMA, Manifest
from bridge.state import BASELINE_COMPLETED, State, fold, state_at
from bridge.store import MemoryStore
from tests.fakes import at, gone, record
from tests.unit.test_state import records
from workers import snapshot
from workers.snapshot_tables import Tables

ROOT = Path(__file__).parents[2]
LAYOUT = Layout("1.1795312801", "team")
START_MS = int(at(0).timestamp() * 1000)
DAY_MS = 24 * 3600 * 1000


def put(store: MemoryStore, found: Iterable[Record], position: int) -> str:
    body = "".join(one.to_json() + "\n" for one in found).encode()
    key = LAYOUT.log(LogKey(position=position, sha=hashlib.sha256(body).hexdigest()[:16]))
    store.put(key, body)
    return key


def snap(store: MemoryStore, when: float = 100) -> Manifest | None:
    return snapshot.Snapshot(store, LAYOUT, beat=lambda **_: None, now=lambda: at(when)).run()


def said(state: State) -> dict[str, Any]:
    """Everything a state says, to be compared."""
    return {
        "baseline": state.baseline_completed_at,
        "things": {
            (kind, id): thing.to_json()
            for kind, things in state.things.items()
            for id, thing in things.items()
        },
    }


def view_of(state: Any, kinds: Iterable[str]) -> dict[str, Any]:
    """What readers ask of a state or a history."""
    return {
        "baseline": state.baseline_completed_at,
        "absent": state.absent_since,
        **{f"alive {kind}": [thing.data for thing in state.alive(kind)] for kind in kinds},
        **{
            f"every {kind}": {
                id: (
                    thing.alive,
                    thing.alive and state.hidden(thing),
                    thing.data,
                    thing.record,
                    thing.task_id,
                    thing.to_json(),
                )
                for id, thing in state.every(kind)
            }
            for kind in kinds
        },
    }


def same_everywhere(store: MemoryStore, when: datetime | None = None) -> None:
    """The state read with snapshots is the one that the bare log says, however it is asked."""
    everything = list(read_records(store, LAYOUT))
    expected = fold(everything) if when is None else state_at(everything, when)
    assert said(read_state(store, LAYOUT, when)) == said(expected)
    with history.open_history(store, LAYOUT, at=when) as found:
        kinds = sorted({*expected.things, *found.kinds()})
        assert view_of(found, kinds) == view_of(expected, kinds)
        for kind in kinds:
            for id, thing in expected.things.get(kind, {}).items():
                one = found.thing(kind, id)
                assert one is not None
                assert one.to_json() == thing.to_json()


parts = st.lists(st.lists(records(), min_size=1, max_size=5), min_size=1, max_size=5)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
@given(parts=parts, order=st.randoms(use_true_random=False), snapped=st.sets(st.integers(0, 4)))
def test_a_snapshot_and_the_rest_are_the_whole_log(
    parts: list[list[Record]], order: Any, snapped: set[int]
) -> None:
    store = MemoryStore()
    positions = list(range(len(parts)))
    order.shuffle(positions)
    for number, part in enumerate(parts):
        put(store, part, START_MS + positions[number])
        if number in snapped:
            snap(store)
    same_everywhere(store)
    same_everywhere(store, at(12))


def test_an_object_with_an_older_position_counts_after_a_snapshot() -> None:
    store = MemoryStore()
    put(store, [record("annotation", "1", version=1, result=[])], START_MS + 1000)
    snap(store)
    put(store, [record("annotation", "1", version=2, result=["late"])], START_MS)
    assert read_state(store, LAYOUT).things["annotation"]["1"].data["result"] == ["late"]
    same_everywhere(store)


def test_an_object_older_than_a_listing_looks_back_is_in_the_next_snapshot() -> None:
    store = MemoryStore()
    put(store, [record("annotation", "1", version=1, result=[], received=5)], START_MS + 2 * DAY_MS)
    first = snap(store)
    put(store, [record("annotation", "1", version=2, result=["late"], received=4)], START_MS)
    second = snap(store)
    assert first is not None
    assert second is not None
    assert (second.log_objects, second.previous) == (2, first.position)
    same_everywhere(store)
    same_everywhere(store, at(4.5))
    put(store, [record("annotation", "2", received=50)], START_MS + 3 * DAY_MS)
    snap(store)
    same_everywhere(store, at(6))


def test_a_snapshot_that_knows_what_came_later_does_not_serve_an_earlier_moment() -> None:
    store = MemoryStore()
    put(store, [record("annotation", "1", version=1, result=["early"], received=10)], START_MS)
    first = snap(store)
    put(store, [record("annotation", "1", version=2, result=["later"], received=30)], START_MS + 1)
    snap(store)
    with history.open_history(store, LAYOUT, at=at(20)) as found:
        assert found.manifest == first
        assert [thing.data["result"] for thing in found.alive("annotation")] == [["early"]]
    same_everywhere(store, at(5))


class Counting(MemoryStore):
    """Remembers what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return super().get(key)


def test_a_moment_in_the_past_costs_a_snapshot_and_a_listing_not_the_history() -> None:
    store = Counting()
    for number in range(60):
        put(store, [record("annotation", str(number), received=number)], START_MS + number * 1000)
        if number in (20, 59):
            snap(store)
    store.read.clear()
    with history.open_history(store, LAYOUT, at=at(25)) as found:
        assert sum(1 for _ in found.alive("annotation")) == 26
    read = [key for key in store.read if LAYOUT.parse_log(key) is not None]
    assert len(read) == 5  # of 21 to 25; those after it are known to be later


def test_up_to_a_log_object_the_state_is_what_it_left() -> None:
    store = MemoryStore()
    keys = []
    for number in range(6):
        keys.append(put(store, [record("annotation", str(number))], START_MS + number))
        if number in (1, 4):
            snap(store)
    for number, key in enumerate(keys):
        with history.open_history(store, LAYOUT, up_to=key) as found:
            assert [id for id, _ in found.every("annotation")] == [str(one) for one in range(number + 1)]
            assert found.log_objects == number + 1


def damage(store: MemoryStore, manifest: Manifest, table: str, how: str) -> None:
    name = next(file.name for file in manifest.files if file.table == table)
    key = LAYOUT.snapshot(SnapshotKey(position=manifest.position, name=name))
    if how == "gone":
        store.delete(key)
    else:
        body = bytearray(store.get(key))
        body[len(body) // 2] ^= 1
        store.put(key, bytes(body))


@pytest.mark.parametrize("how", ["gone", "edited"])
@pytest.mark.parametrize("table", ["annotation", "folded"])
def test_a_damaged_snapshot_is_passed_over_for_an_older_one_and_said(
    how: str, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    put(store, [record("annotation", "1")], START_MS)
    first = snap(store)
    put(store, [record("annotation", "2")], START_MS + 1)
    second = snap(store)
    assert second is not None
    damage(store, second, table, how)
    with history.open_history(store, LAYOUT) as found:
        assert found.manifest == first
    assert f"passed over the snapshot {second.position}" in caplog.text
    same_everywhere(store)
    assert first is not None
    damage(store, first, table, how)
    with history.open_history(store, LAYOUT) as found:
        assert found.manifest is None
    same_everywhere(store)
    put(store, [record("annotation", "3")], START_MS + 2)
    again = snap(store)  # from the bare log
    assert again is not None
    assert (again.previous, again.log_objects) == (None, 3)
    same_everywhere(store)


def test_a_snapshot_of_a_newer_version_of_us_is_passed_over_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    put(store, [record("annotation", "1")], START_MS)
    made = snap(store)
    assert made is not None
    key = LAYOUT.snapshot(SnapshotKey(position=made.position, name=MANIFEST))
    store.put(key, json.dumps(json.loads(made.to_json()) | {"schema": SCHEMA + 1}).encode())
    same_everywhere(store)
    assert "a newer version of us wrote it" in caplog.text


def test_what_has_no_manifest_is_no_snapshot() -> None:
    store = MemoryStore()
    put(store, [record("annotation", "1")], START_MS)
    made = snap(store)
    assert made is not None
    store.delete(LAYOUT.snapshot(SnapshotKey(position=made.position, name=MANIFEST)))
    with history.open_history(store, LAYOUT) as found:
        assert found.manifest is None
    again = snap(store)
    assert again is not None
    assert again.position > made.position  # never into the files of the dead one
    same_everywhere(store)


def test_nothing_new_makes_no_snapshot() -> None:
    store = MemoryStore()
    assert snap(store) is None
    put(store, [record("annotation", "1")], START_MS)
    assert snap(store) is not None
    assert snap(store) is None


def test_an_object_that_cannot_be_read_is_tried_again_by_every_reader(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    key = put(store, [record("annotation", "1")], START_MS)
    whole = store.get(key)
    store.put(key, whole[:40])
    put(store, [record("annotation", "2")], START_MS + 3 * DAY_MS)
    made = snap(store)
    assert made is not None
    assert (made.log_objects, made.unreadable) == (1, 1)
    assert snap(store) is None  # it still cannot be read: nothing new
    with history.open_history(store, LAYOUT) as found:
        assert found.unreadable == [key]
    store.put(key, whole)  # a later version of us understands it
    same_everywhere(store)
    again = snap(store)
    assert again is not None
    assert (again.log_objects, again.unreadable) == (2, 0)
    same_everywhere(store)


def test_a_damaged_line_costs_itself_only_and_leaves_nothing_in_a_snapshot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    key = put(store, [record("annotation", id) for id in ("1", "2", "3")], START_MS)
    whole = store.get(key)
    first, second, third = whole.splitlines(keepends=True)
    store.put(key, first + second[:40] + b"\n" + third)
    put(store, [record("annotation", "4")], START_MS + 3 * DAY_MS)
    for _ in range(2):  # from the bare log, then beside a snapshot
        with history.open_history(store, LAYOUT) as found:
            assert [id for id, _ in found.every("annotation")] == ["1", "3", "4"]
            assert found.unreadable == [key]
        same_everywhere(store)
        snap(store)
    assert f"{key}, line 2" in caplog.text
    with history.open_history(store, LAYOUT) as found:
        assert found.manifest is not None
        assert found.manifest.rows() == {"annotation": 1, "region": 0}
    store.put(key, whole)
    assert len(list(read_records(store, LAYOUT))) == 4
    same_everywhere(store)


@pytest.mark.parametrize(
    "data",
    [
        {"score": 1.0, "x": [1e22, -0.0, 0.5], "word": "1.0"},
        {"whole": 10**30, "text": "\ud83d"},
        {"none": float("nan")},
    ],
)
def test_a_line_says_what_its_record_says(data: dict[str, Any]) -> None:
    one = record("inference", "7", **data)
    line = Line.read(one.to_json().encode())
    line.let_go()
    assert repr(line.data) == repr(one.data)
    assert (line.hash, line.to_json(), line.fingerprint) == (one.hash, one.to_json(), one.fingerprint)


def test_many_passes_make_the_same_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PASS_BYTES", 5000)
    monkeypatch.setattr(table_files, "GROUP_ROWS", 3)
    store = MemoryStore()
    for number in range(40):
        id = str(number * 7 % 40)
        rows = [{"type": "rectanglelabels", "value": {"x": n}} for n in range(number % 4)]
        put(
            store,
            [
                record("annotation", id, task=number % 5, result=rows),
                record("task", str(number % 5), data={}),
            ],
            START_MS + number,
        )
    put(store, [gone("task", "3", received=50), gone("annotation", "8", received=50)], START_MS + 99)
    assert snap(store) is not None
    same_everywhere(store)


def test_flags_of_rows_that_nobody_touched_follow_their_task() -> None:
    store = MemoryStore()
    put(
        store,
        [
            record("user", "5", email="old@example.com"),
            record("task", "1", data={}),
            record("annotation", "1", task=1, completed_by=5, result=[{"type": "labels", "value": {}}]),
        ],
        START_MS,
    )
    snap(store)
    put(
        store,
        [gone("task", "1", received=20), record("user", "5", version=3, email="new@example.com")],
        START_MS + 1,
    )
    same_everywhere(store)
    made = snap(store)
    assert made is not None
    for table in ("annotation", "region"):
        row = rows_of(store, made, table)[0]
        assert (row["alive"], row["hidden"], row["email"]) == (False, True, "new@example.com")
    same_everywhere(store)


def rows_of(store: MemoryStore, manifest: Manifest, table: str) -> list[dict[str, Any]]:
    import io

    import pyarrow.parquet as pq

    name = next(file.name for file in manifest.files if file.table == table)
    body = store.get(LAYOUT.snapshot(SnapshotKey(position=manifest.position, name=name)))
    found: list[dict[str, Any]] = pq.read_table(io.BytesIO(body)).to_pylist()
    return found


def test_known_says_of_each_thing_what_the_log_says() -> None:
    store = MemoryStore()
    put(
        store,
        [record("annotation", "1", result=["A"], unique_id="u"), record("task", "1", data={})],
        START_MS,
    )
    put(
        store, [record("annotation", "1", born=5, result=["B"]), gone("task", "1", received=30)], START_MS + 1
    )
    snap(store)
    put(store, [record("annotation", "1", version=9, born=5, result=["C"])], START_MS + 2)
    found, expected = history.load_known(store, LAYOUT), Known()
    for one in read_records(store, LAYOUT):
        expected.add(one)
    for one in read_records(store, LAYOUT):
        life, same = found.life(one), expected.life(one)
        assert (life is None) == (same is None)
        assert found.ended_at(one) == expected.ended_at(one)
        if life is not None and same is not None and life.newest is not None and same.newest is not None:
            assert life.newest.hash == same.newest.hash
            assert (life.newest.version, life.unique_id) == (same.newest.version, same.unique_id)


def test_without_pyarrow_the_bare_log_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    put(store, [record("annotation", "1")], START_MS)
    snap(store)
    monkeypatch.setattr(history, "_can_read_tables", lambda: False)
    with history.open_history(store, LAYOUT) as found:
        assert found.manifest is None
    same_everywhere(store)


def test_ids_that_are_no_utf_8_keep_their_own_rows() -> None:
    store = MemoryStore()
    half = json.loads(record("media", "7").to_json()) | {"id": "/data/upload/\ud83d.jpg"}
    put(store, [Record.from_json(json.dumps(half)), record("media", "8")], START_MS)
    snap(store)
    same_everywhere(store)
    put(store, [Record.from_json(json.dumps(half | {"event_id": "again"}))], START_MS + 1)
    same_everywhere(store)
    snap(store)
    same_everywhere(store)


def test_the_end_of_the_baseline_is_kept() -> None:
    store = MemoryStore()
    done = json.loads(record("project", "1").to_json()) | {"event": BASELINE_COMPLETED}
    put(store, [Record.from_json(json.dumps(done))], START_MS)
    snap(store)
    put(store, [record("annotation", "1")], START_MS + 1)
    snap(store)
    same_everywhere(store)
    assert snapshots.positions(store, LAYOUT)[0] == [START_MS, START_MS + 1]


def test_nothing_needs_pyarrow_to_start_or_to_read_the_log() -> None:
    code = """
import sys
sys.modules["pyarrow"] = None
import sidecar.cli, workers.scheduler, workers.export, workers.metrics, workers.current, workers.snapshot
from bridge.edges.log import read_state
from bridge.keys import Layout
from bridge.store import MemoryStore
from tests.fakes import record
LAYOUT = Layout("1.1795312801", "team")
store = MemoryStore()
key = "%s0000000000001/manifest.json" % LAYOUT.snapshots_prefix
store.put(key, b"{}")
store.put(LAYOUT.log_from(1) + "-" + "0" * 16 + ".jsonl", record("task", "1").to_json().encode())
assert read_state(store, LAYOUT).thing("task", "1").alive
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_lock_is_kept_while_tables_are_written(tmp_path: Path) -> None:
    beats: list[None] = []
    tables = Tables(tmp_path, {}, beat=lambda: beats.append(None))
    tables.fold_in(fold([record("annotation", str(id), task=1, result=[{}]) for id in range(1, 4)]))
    first = len(beats)
    assert first >= 2, "once for each table at least"
    tables.fold_in(fold([record("annotation", "2", task=1, result=[{}], version=5)]))
    assert len(beats) > first
