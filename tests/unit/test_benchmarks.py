"""What the benchmarks count with: bodies that differ, percentiles, ratios."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from benchmarks.bodies import UID, AnnotationBodies, import_body
from benchmarks.row import less_is_better, more_is_better
from benchmarks.sender import percentile
from bridge import events
from bridge.records import Record
from tests.conftest import sample


def records(body: bytes) -> list[Record]:
    return events.records_of(body, event_id="e", received_at=datetime(2026, 11, 22, tzinfo=UTC))


def test_every_body_is_of_another_annotation_on_another_task_of_one_project() -> None:
    bodies = [AnnotationBodies().body(id) for id in (7, 8)]
    assert {events.read_envelope(body).uid for body in bodies} == {UID}
    named = [[(r.kind, r.id) for r in records(body)] for body in bodies]
    assert named[0] == [("project", "1"), ("task", "7"), ("annotation", "7")]
    assert named[1] == [("project", "1"), ("task", "8"), ("annotation", "8")]
    assert len({json.loads(body)["annotation"]["unique_id"] for body in bodies}) == 2


def test_a_body_is_as_recorded_but_for_its_ids() -> None:
    recorded, made = sample("ANNOTATION_CREATED"), json.loads(AnnotationBodies().body(7))
    for payload in (recorded, made):
        del payload["task"]["id"], payload["task"]["inner_id"]
        del payload["annotation"]["id"], payload["annotation"]["task"], payload["annotation"]["unique_id"]
    assert made == recorded


def test_an_import_has_as_many_tasks_as_asked_for() -> None:
    found = [record.id for record in records(import_body(5, first_id=10)) if record.kind == "task"]
    assert found == ["10", "11", "12", "13", "14"]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.5, 50),
        (0.99, 99),
        (1.0, 100),
    ],
)
def test_a_percentile_is_one_of_the_values(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_the_99th_of_a_few_values_is_the_worst() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_a_ratio_above_one_means_that_ours_is_better() -> None:
    assert less_is_better("a", "s", 1, 2, "b").ratio == 2
    assert more_is_better("a", "1/s", 4, 2, "b").ratio == 2


def test_there_is_no_ratio_to_nothing() -> None:
    row = more_is_better("a", "%", 100, 0, "b")
    assert row.ratio is None
    assert str(row).endswith(" -")
