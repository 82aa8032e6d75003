"""What people ask of a snapshot: the queries of docs/tables.md, run with DuckDB over a snapshot made here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bridge.records import format_time
from bridge.state import fold
from bridge.store import MemoryStore
from bridge.tables import columns_of, id_order, region_rows, row_of, thing_of
from tests.fakes import at, gone, record
from tests.unit.test_history import LAYOUT, START_MS, put, snap

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()


def box(label: str, *, width: float = 50.0, height: float = 50.0) -> dict[str, Any]:
    return {
        "id": f"{label}-{width}",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 200,
        "original_height": 100,
        "value": {
            "x": 10,
            "y": 20,
            "width": width,
            "height": height,
            "rotation": 0,
            "rectanglelabels": [label],
        },
        "origin": "manual",
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a snapshot, downloaded: three annotations of two people, one deleted, a prediction for task 1."""
    store = MemoryStore()
    put(
        store,
        [
            record("user", "1", email="ann@example.com"),
            record("user", "2", email="bob@example.com"),
            *(record("task", id, data={"image": "a.jpg"}) for id in ("1", "2", "3")),
            record("prediction", "7", born=1, task=1, model_version="m1", score=0.9, result=[box("Cat")]),
            annotation("1", 1, task=1, lead_time=4.0, result=[box("Cat"), box("Dog", width=3.0)]),
            annotation("2", 2, task=2, lead_time=10.0, result=[box("Cat")]),
        ],
        START_MS,
    )
    snap(store)
    put(store, [annotation("3", 2, task=3, lead_time=20.0, result=[box("Fox")])], START_MS + 1)
    put(store, [gone("task", "3", received=60)], START_MS + 2)
    made = snap(store)
    assert made is not None
    for info in store.keys(f"{LAYOUT.snapshots_prefix}{made.position:013d}/"):
        (tmp_path / info.key.rpartition("/")[2]).write_bytes(store.get(info.key))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def annotation(id: str, who: int, **data: Any) -> Any:
    return record("annotation", id, born=5, completed_by=who, was_cancelled=False, **data)


def test_the_queries_of_the_page_answer(folder: Path) -> None:
    queries = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    labels, seconds, small = (duckdb.sql(query).fetchall() for query in queries)
    assert labels == [
        ("ann@example.com", "Cat", 1),
        ("ann@example.com", "Dog", 1),
        ("bob@example.com", "Cat", 1),
    ]
    assert seconds == [(False, 1, 10.0), (True, 1, 4.0)]
    assert small == [(1, "1", "Dog", 6.0, 50.0)]


def test_the_exact_json_is_in_the_column_record(folder: Path) -> None:
    said = duckdb.sql(
        """SELECT record->>'$.data.result[1].value.rectanglelabels[0]' FROM 'annotation.parquet'"""
    )
    assert said.fetchall()[0] == ("Dog",)


@pytest.mark.parametrize(
    "table", ["annotation", "prediction", "draft", "inference", "user", "media", "region"]
)
def test_every_column_is_on_the_page(table: str) -> None:
    assert not [name for name in columns_of(table) if f"`{name}`" not in PAGE]


def test_a_box_has_its_place_in_percent_and_in_pixels() -> None:
    state = fold([annotation("1", 1, task=1, result=[box("Cat", width=25)])])
    (row,) = region_rows("annotation", "1", state.things["annotation"]["1"])
    assert (row["x"], row["y"], row["width"], row["height"]) == (10, 20, 25, 50)
    assert (row["x_px"], row["y_px"], row["width_px"], row["height_px"]) == (20, 20, 50, 50)
    assert (row["label"], row["labels"], row["origin"]) == ("Cat", ["Cat"], "manual")


@pytest.mark.parametrize(
    "result",
    [
        None,
        "text",
        [1, None, "x"],
        [{"type": 5, "value": None}],
        [{"type": "choices", "value": {"choices": "Cat"}}],
        [{"type": "rectanglelabels", "value": {"x": "1", "width": True, "rectanglelabels": [1, "\ud83d"]}}],
        [{"original_width": 10**30, "value": {"x": 10**400}}],
    ],
)
def test_a_result_that_is_not_what_we_know_still_has_rows(result: Any) -> None:
    thing = fold([record("annotation", "1", task=10**30, result=result)]).things["annotation"]["1"]
    list(region_rows("annotation", "1", thing))
    row = row_of("annotation", "1", thing)
    assert thing_of(row["record"], row["fold"]).to_json() == thing.to_json()


def test_rows_are_in_the_order_of_numbers() -> None:
    ids = ["import/s3/1", "10", "9", "²", "100"]
    assert sorted(ids, key=id_order) == ["9", "10", "100", "import/s3/1", "²"]


def test_an_earlier_life_of_the_id_stays_in_the_row() -> None:
    thing = fold([record("annotation", "1", born=0), record("annotation", "1", born=3)]).things["annotation"][
        "1"
    ]
    row = row_of("annotation", "1", thing)
    assert row["created_at"] == at(3)
    assert format_time(at(0)) in row["fold"]
    assert thing_of(row["record"], row["fold"]).to_json() == thing.to_json()
