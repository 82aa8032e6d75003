"""Which field differs between the record and what was found: the same rules as the content hash, field by field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.compare import Difference, FieldDifference, differences, field_differences
from bridge.readings import of_items, of_tasks
from bridge.records import CONTENT_FIELDS, Record, Stamp, content_hash
from bridge.state import fold
from tests.conftest import sample
from tests.fakes import at, gone, record

values = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from([1.0, "", "a", [], {}, [1], [1.0]])


def fields_of(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from([*CONTENT_FIELDS[kind], "updated_at", "else"]), values, max_size=4)


@given(
    st.sampled_from(sorted(CONTENT_FIELDS)).flatmap(
        lambda k: st.tuples(st.just(k), fields_of(k), fields_of(k))
    )
)
def test_no_field_differs_exactly_when_the_content_is_the_same(case: tuple[str, Any, Any]) -> None:
    kind, one, other = case
    same = content_hash(kind, one) == content_hash(kind, other)
    assert (field_differences(kind, one, other) == []) is same


@pytest.mark.parametrize(
    ("recorded", "found"),
    [
        ({"lead_time": 1}, {"lead_time": 1.0}),
        ({"result": [{"value": {"x": 10.0}}]}, {"result": [{"value": {"x": 10}}]}),
        ({"ground_truth": None}, {}),  # absent and null are one
        ({"updated_at": "2026-11-22T06:00:00Z"}, {"updated_at": "2026-11-23T06:00:00Z"}),  # no content
    ],
)
def test_what_is_the_same_content_does_not_differ(recorded: dict[str, Any], found: dict[str, Any]) -> None:
    assert field_differences("annotation", recorded, found) == []


def test_a_difference_names_the_field_and_both_values() -> None:
    recorded, found = (
        {"result": ["A"], "completed_by": 1},
        {"result": ["B"], "completed_by": 1, "lead_time": 2},
    )
    assert field_differences("annotation", recorded, found) == [
        FieldDifference(field="result", recorded=["A"], found=["B"]),
        FieldDifference(field="lead_time", recorded=None, found=2),
    ]


def test_true_is_not_one_and_text_is_compared_as_it_is() -> None:
    assert field_differences("annotation", {"ground_truth": True}, {"ground_truth": 1})
    assert field_differences(
        "task", {"data": {"t": "2026-11-22T06:00:00Z"}}, {"data": {"t": "2026-11-22T06:00:00.0Z"}}
    )


def test_times_asked_for_are_compared_as_times() -> None:
    one, other = {"created_at": "2026-11-22T06:00:00Z"}, {"created_at": "2026-11-22T07:00:00.000000+01:00"}
    assert field_differences("annotation", one, other, also=["created_at"]) == []
    later = {"created_at": "2026-11-22T06:00:01Z"}
    assert [one.field for one in field_differences("annotation", one, later, also=["created_at"])] == [
        "created_at"
    ]


def test_a_field_that_is_ignored_may_differ() -> None:
    assert field_differences("annotation", {"task": 1}, {"task": 2}, ignore=frozenset({"task"})) == []


def test_of_a_kind_without_content_fields_all_fields_are_compared() -> None:
    assert [one.field for one in field_differences("inference", {"a": 1, "b": 2}, {"b": 3, "a": 1})] == ["b"]


# --- a state and a reading


def told(state: list[Record], readings: list[Record], **more: Any) -> list[tuple[str, str, str, str]]:
    found = differences(fold(state), readings, **more)
    return [(one.kind, one.id, one.what, one.field) for one in found]


def test_what_was_recorded_and_found_alike_is_no_difference() -> None:
    stamp = Stamp(event_id="e", received_at=at(1), source="baseline", event="T", observed_at=at(1))
    reading = of_tasks(sample("api_tasks")["tasks"], sample("api_export"), stamp)
    reading += of_items("user", sample("api_users"), stamp)
    assert reading.records
    assert told(reading.records, reading.records) == []


def test_what_is_missing_and_what_is_unexpected_is_named() -> None:
    state = [record("task", "1"), record("task", "2"), record("task", "3"), gone("task", "3", received=20)]
    assert told(state, [record("task", "2"), record("task", "3"), record("task", "4")]) == [
        ("task", "3", "unexpected", ""),
        ("task", "4", "unexpected", ""),
        ("task", "1", "missing", ""),
    ]


def test_another_thing_under_the_same_id_differs_in_its_birth() -> None:
    found = list(differences(fold([record(result=["A"])]), [record(born=5, result=["A"])]))
    assert found == [
        Difference(
            kind="annotation",
            id="1",
            what="field",
            field="created_at",
            recorded="2026-11-22T06:00:00.000000Z",
            found="2026-11-22T06:00:05.000000Z",
        )
    ]


def test_an_annotation_hidden_with_its_task_is_neither_missing_nor_expected() -> None:
    state = [record("task", "7"), record(task=7), gone("task", "7", received=20)]
    assert told(state, []) == []
    assert told(state, [record(task=7)]) == [("annotation", "1", "unexpected", "")]


def test_kinds_that_were_not_read_are_not_missing() -> None:
    state = [record("task", "1"), record("user", "1"), record("media", "1")]
    assert told(state, [record("task", "1")], kinds=["task"]) == []


def test_fields_are_ignored_by_kind() -> None:
    readings = [record(task=2), record("prediction", task=2)]
    found = told(
        [record(task=1), record("prediction", task=1)],
        readings,
        ignore={"annotation": frozenset({"task"})},
    )
    assert found == [("prediction", "1", "field", "task")]
