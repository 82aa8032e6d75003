"""From the state to the numbers: the example of docs/metrics.md, and which prediction a person had before them."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from bridge.keys import Layout, MetricsRowsKey
from bridge.metrics import Row, Summing, inferences_of, rows_of
from bridge.records import Record
from bridge.state import fold
from tests.fakes import gone, record, seconds_text

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
ANN, BOB = 1, 2


def box(label: str, x: float, y: float, size: float = 20, *, id: str = "") -> dict[str, Any]:
    value = {"x": x, "y": y, "width": size, "height": size, "rotation": 0, "rectanglelabels": [label]}
    return {
        "id": id,
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": 100,
        "original_height": 100,
        "value": value,
    }


def task(id: int, born: float = 0) -> Record:
    return record("task", str(id), born=born, data={"image": f"{id}.png"})


def annotation(id: int, task: int, by: int, result: list[Any], *, at: float = 100, **more: Any) -> Record:
    fields = {"task": task, "completed_by": by, "result": result, "updated_by": by, "lead_time": None}
    fields |= {"was_cancelled": False, "ground_truth": False, "parent_prediction": None}
    return record("annotation", str(id), born=at, received=at, **(fields | more))


def prediction(id: int, task: int, result: list[Any], *, at: float = 50, version: str = "v1") -> Record:
    return record(
        "prediction",
        str(id),
        born=at,
        observed=at,
        task=task,
        result=result,
        model_version=version,
        created_at=seconds_text(at),
    )


def inference(
    number: int, task: int, regions: list[Any], *, at: float = 50, version: str = "v1", **more: Any
) -> Record:
    """As the ML backend writes it (ml_backend/inference_log.py)."""
    id = f"request-{number}"
    data = {
        "id": id,
        "created_at": seconds_text(at),
        "task": task,
        "model_version": version,
        "request_seconds": 0.6,
        "request_tasks": 3,
        "labels": {},
        "scores": [0.5 for _ in regions],
        "regions": regions,
    }
    made = record("inference", "0", born=at, received=at, source="ml_backend")
    return Record(
        kind="inference",
        op="put",
        id=id,
        created_at=made.created_at,
        version=made.version,
        event_id=id,
        received_at=made.received_at,
        source="ml_backend",
        event="INFERENCE",
        data=data | more,
    )


def example() -> list[Record]:
    """The story of docs/metrics.md."""
    one = [
        box("Cat", 10, 10, id="a"),
        box("Cat", 50, 10, id="b"),
        box("Dog", 10, 50, id="c"),
        box("Dog", 50, 50, id="d"),
    ]
    done = [
        box("Cat", 10, 10, id="a"),
        box("Cat", 55, 10, id="b"),
        box("Cat", 10, 50, id="c"),
        box("Dog", 80, 80, 10, id="e"),
    ]
    two = [box("Dog", 0, 0, 40, id="f")]
    return [
        *[task(id) for id in (1, 2, 3, 4)],
        inference(0, 1, one, labels={"Cat": 2, "Dog": 2}),
        inference(1, 2, two, labels={"Dog": 1}),
        inference(2, 3, []),
        annotation(1, 1, ANN, done, lead_time=10),
        annotation(2, 2, ANN, two, lead_time=4.0),
        annotation(3, 2, BOB, [], lead_time=6),
        annotation(4, 3, BOB, [], was_cancelled=True, lead_time=99),
        annotation(5, 4, BOB, [box("Cat", 5, 5)], lead_time=30),
    ]


def summary_of(records: list[Record]) -> dict[str, Any]:
    state, summing = fold(records), Summing()
    for row in rows_of(state):
        summing.add(row)
    return summing.to_json(inferences_of(state))


def rows(records: list[Record]) -> dict[int, Row]:
    return {row.annotation: row for row in rows_of(fold(records))}


def table_of_the_page() -> dict[str, list[str]]:
    """The last table of the page: the first word of a row -> its other cells, with what stands after a last `=` only."""
    found = {}
    for line in DOCS.read_text().rpartition("| | predicted |")[2].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.match(r"\| (Cat|Dog|all) \|", line):
            found[cells[0]] = [cell.rpartition("= ")[2] for cell in cells[1:]]
    return found


NUMBERS = (
    *("predicted", "annotated", "kept", "moved", "relabelled", "removed", "added"),
    *("precision", "recall", "mean_iou"),
)


def test_the_example_gives_the_numbers_worked_out_by_hand() -> None:
    found = summary_of(example())
    [version] = found["versions"]
    labels = {label["label"]: label for label in version["labels"]}
    hand = {
        "Cat": (2, 3, 1, 1, 1, 0, 0, 1.0, 0.6667, 0.8),
        "Dog": (4, 2, 1, 0, 1, 2, 1, 0.25, 0.5, 1.0),
        "all": (6, 5, 2, 1, 1, 2, 1, 0.5, 0.6, 0.8667),
    }
    for name, numbers in hand.items():
        one = version if name == "all" else labels[name]
        assert tuple(one[number] for number in NUMBERS) == numbers, name
    assert (version["annotations"], version["tasks"], version["annotators"], version["skipped"]) == (
        3,
        2,
        2,
        1,
    )
    assert found["annotations"] == {"all": 5, "compared": 3, "no_prediction": 1, "skipped": 1, "copied": 0}
    assert found["human_seconds"]["with_prelabel"] == {"count": 3, "median": 6, "mean": 6.6667}
    assert found["human_seconds"]["without_prelabel"] == {"count": 1, "median": 30, "mean": 30}
    model = version["model"]
    assert (model["requests"], model["tasks"], model["failed"], model["regions"]) == (1, 3, 0, 5)
    assert model["labels"] == {"Cat": 2, "Dog": 3}
    assert model["request_seconds"]["median"] == 0.6
    assert model["seconds_a_task"] == 0.2


def test_where_the_models_time_goes_is_told_by_step_and_percentile() -> None:
    timings = [
        {
            "decode_s": 0.01 * n,
            "queue_s": 0.0,
            "inference_s": 0.1,
            "encode_s": 0.001,
            "batch": n,
            "engines": ["onnx"],
        }
        for n in range(1, 21)
    ]
    records = [inference(n, n, [], timing=timing, scores=[0.05, 1.0]) for n, timing in enumerate(timings)]
    [version] = summary_of([*records, inference(99, 99, [])])["versions"]
    model = version["model"]
    assert model["steps"]["decode_s"] == {
        "count": 20,
        "median": 0.105,
        "mean": 0.105,
        "p95": 0.19,
        "p99": 0.2,
    }
    assert model["steps"]["inference_s"]["p95"] == 0.1
    assert model["batch"] == {"mean": 10.5, "most": 20}
    assert model["engines"] == {"onnx": 20}
    assert model["score_tenths"] == [20, 0, 0, 0, 0, 0, 0, 0, 0, 20]


def test_an_answer_to_what_somebody_drew_is_no_prediction_they_had_before_them() -> None:
    usual = [box("Cat", 10, 10, id="a"), box("Cat", 50, 10, id="b")]
    drawn = inference(2, 1, usual[:1], at=60, interactive=True)
    made = annotation(1, 1, ANN, usual, at=100, lead_time=4)
    found = summary_of([task(1), inference(1, 1, usual, at=50), drawn, made])
    [version] = found["versions"]
    assert (version["predicted"], version["kept"]) == (2, 2)
    assert (version["model"]["tasks"], version["model"]["interactive"]) == (1, 1)


def test_the_page_shows_the_same_numbers() -> None:
    [version] = summary_of(example())["versions"]
    labels = {label["label"]: label for label in version["labels"]}
    table = table_of_the_page()
    assert set(table) == {"Cat", "Dog", "all"}
    for name, cells in table.items():
        one = version if name == "all" else labels[name]
        assert [float(cell) for cell in cells] == [one[number] for number in NUMBERS], name


def test_order_and_repetition_of_the_records_change_nothing() -> None:
    records = example() * 2
    random.Random(1).shuffle(records)
    assert summary_of(records) == summary_of(example())


def test_a_row_names_each_region_and_what_became_of_it() -> None:
    row = rows(example())[1].to_json()
    assert row["prediction"]["source"] == "inference"
    assert row["prediction"]["chosen_by"] == "region ids"
    assert [(r["outcome"], r["predicted_id"], r["annotated_id"]) for r in row["regions"]] == [
        ("kept", "a", "a"),
        ("moved", "b", "b"),
        ("relabelled", "c", "c"),
        ("removed", "d", None),
        ("added", None, "e"),
    ]
    assert row["counts"] == {"kept": 1, "moved": 1, "relabelled": 1, "removed": 1, "added": 1}


# --- which prediction


def chosen(records: list[Record], annotation: int = 1) -> tuple[str | None, str]:
    row = rows(records)[annotation]
    return (None if row.prediction is None else row.prediction.model_version), row.chosen_by


def test_the_parent_wins_over_newer_ones_and_over_ids() -> None:
    here = [
        task(1),
        prediction(7, 1, [], at=20, version="old"),
        prediction(8, 1, [box("Cat", 1, 1, id="a")], at=30),
    ]
    of_old = annotation(1, 1, ANN, [box("Cat", 1, 1, id="a")], parent_prediction=7)
    assert chosen([*here, of_old]) == ("old", "parent")


def test_a_parent_that_nobody_told_us_of_is_found_by_its_region_ids() -> None:
    told = [
        inference(1, 1, [box("Cat", 1, 1, id="a")], at=20, version="seen"),
        inference(2, 1, [box("Cat", 1, 1, id="z")], at=30, version="only tested"),
    ]
    work = annotation(1, 1, ANN, [box("Cat", 1, 1, id="a")], parent_prediction=7)
    assert chosen([task(1), *told, work]) == ("seen", "region ids")


def test_without_parent_and_ids_it_is_the_newest_before_the_annotation() -> None:
    told = [
        prediction(1, 1, [], at=20, version="first"),
        inference(1, 1, [], at=60, version="second"),
        prediction(2, 1, [], at=101, version="too late"),
    ]
    assert chosen([task(1), *told, annotation(1, 1, ANN, [], at=100)]) == ("second", "time")
    assert chosen([task(1), told[2], annotation(1, 1, ANN, [], at=100)]) == (None, "")


def test_label_studios_own_copy_in_the_annotation_counts() -> None:
    copy = {"id": 7, "created_at": seconds_text(40), "model_version": "copy", "result": [box("Cat", 1, 1)]}
    work = annotation(1, 1, ANN, [box("Cat", 1, 1)], prediction=copy)
    assert chosen([task(1), work]) == ("copy", "time")
    assert rows([task(1), work])[1].comparison is not None
    assert chosen([task(1), annotation(1, 1, ANN, [], prediction={})]) == (None, "")


def test_a_prediction_deleted_since_was_there_when_the_person_looked() -> None:
    deleted = gone("prediction", "7", received=200, born=20, observed=200)
    assert chosen([task(1), prediction(7, 1, [], at=20), deleted, annotation(1, 1, ANN, [])]) == (
        "v1",
        "time",
    )


def test_a_prediction_of_an_earlier_task_of_the_same_id_is_not_taken() -> None:
    assert chosen([task(1, born=500), prediction(7, 1, [], at=20), annotation(1, 1, ANN, [], at=600)]) == (
        None,
        "",
    )


def test_a_failed_inference_and_one_without_regions_are_no_predictions() -> None:
    failed = inference(1, 1, [], problem="undecodable")
    older = inference(2, 1, [])
    del older.data["regions"]
    found = [task(1), failed, older, annotation(1, 1, ANN, [])]
    assert chosen(found) == (None, "")
    [version] = summary_of(found)["versions"]
    assert (version["model"]["tasks"], version["model"]["failed"], version["precision"]) == (2, 1, None)


# --- what counts


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({}, "compared"),
        ({"ground_truth": True}, "compared"),
        ({"was_cancelled": True}, "skipped"),
        ({"updated_by": None, "parent_prediction": 7}, "copied"),  # "create annotations from predictions"
        ({"updated_by": ANN, "parent_prediction": 7}, "compared"),  # … and then looked at by Ann
        ({"updated_by": None}, "compared"),  # imported
    ],
)
def test_what_is_compared_and_what_is_only_counted(fields: dict[str, Any], outcome: str) -> None:
    found = rows([task(1), prediction(7, 1, []), annotation(1, 1, ANN, [], **fields)])[1]
    assert found.outcome == outcome
    assert (found.comparison is not None) == (outcome == "compared")


def test_the_newest_version_of_an_annotation_is_compared() -> None:
    before = annotation(1, 1, ANN, [])
    after = record(
        "annotation",
        "1",
        born=100,
        version=150,
        received=150,
        task=1,
        result=[box("Cat", 1, 1)],
        updated_by=ANN,
    )
    found = rows([task(1), prediction(7, 1, [box("Cat", 1, 1)]), before, after])[1]
    assert found.comparison is not None
    assert found.comparison.counts()["kept"] == 1


def test_a_deleted_annotation_and_those_of_a_deleted_task_are_left_out() -> None:
    here = [task(1), task(2), annotation(1, 1, ANN, []), annotation(2, 2, ANN, [])]
    assert rows([*here, gone("annotation", "1", received=200), gone("task", "2", received=200)]) == {}


def test_a_project_without_anything_has_a_summary() -> None:
    found = summary_of([])
    assert found["versions"] == []
    assert found["human_seconds"]["with_prelabel"] == {"count": 0, "median": None, "mean": None}


def test_the_key_of_the_rows_is_read_back() -> None:
    layout = Layout("3.1795312966", "team-a")
    key = MetricsRowsKey(sha="0123456789abcdef")
    assert layout.parse_metrics_rows(layout.metrics_rows(key)) == key
    assert layout.parse_metrics_rows(layout.metrics_summary) is None
    assert layout.metrics_summary == "team-a/projects/3.1795312966/metrics/summary.json"
