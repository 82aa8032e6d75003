"""What was asked for, how large a request, when to write, and what an answer means."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import prelabel as rules
from bridge.errors import SenderError
from bridge.prelabel import (
    LARGEST_BATCH,
    TARGET_S,
    Account,
    Later,
    Order,
    Pace,
    Predicted,
    View,
    Wrong,
    has_version,
    ids_of,
    ids_text,
    read_item,
    selection_of,
    uid_of_prelabel,
)
from bridge.progress import Progress
from sidecar.show_prelabel import bar_line, lines, list_lines
from workers.prelabel_tasks import older_of_ours, split_page

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
UID = "7.1795327200"


def test_an_id_names_its_project_and_sorts_by_time() -> None:
    first = rules.new_id(UID, NOW)
    assert uid_of_prelabel(first) == UID
    assert first < rules.new_id(UID, NOW.replace(hour=11))
    with pytest.raises(SenderError, match="no pre-labelling job"):
        uid_of_prelabel("../7.1795327200")


def test_an_order_survives_json() -> None:
    order = Order(id=rules.new_id(UID, NOW), uid=UID, filters=("all",), view=3, model="m", replace=True)
    assert Order.of_json(json.dumps(order.to_json())) == order


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (("all",), []),
        ((), []),
        (("unlabeled",), ["total_annotations"]),
        (("labeled", "unpredicted"), ["total_annotations", "total_predictions"]),
        (("created_after=2026-11-22",), ["created_at"]),
        (("created_before=2026-11-22T10:00:00+01:00",), ["created_at"]),
    ],
)
def test_filters_become_conditions_of_label_studio(filters: tuple[str, ...], names: list[str]) -> None:
    found = selection_of(filters)
    assert found.ids is None
    assert [one["filter"].rpartition(":")[2] for one in found.items] == names


def test_a_time_is_given_in_utc() -> None:
    (item,) = selection_of(("created_before=2026-11-22T10:00:00+01:00",)).items
    assert (item["operator"], item["value"]) == ("less", "2026-11-22T09:00:00.000000Z")


def test_all_filters_must_hold() -> None:
    assert selection_of(("ids=1-9", "ids=5,7-20")).ids == (5, 7, 8, 9)


@pytest.mark.parametrize(
    "text",
    ["", "unlabelled", "all=1", "ids=", "ids=5-1", "ids=a", "created_after=yesterday", "ids=1-9999999"],
)
def test_an_unknown_filter_is_refused(text: str) -> None:
    with pytest.raises(SenderError):
        selection_of((text,))


@given(st.sets(st.integers(0, 10_000), min_size=1))
def test_ids_survive_their_text(ids: set[int]) -> None:
    assert ids_of(ids_text(ids).partition("=")[2]) == tuple(sorted(ids))


@pytest.mark.parametrize(
    ("joined", "version", "there"),
    [
        ("v1", "v1", True),
        ("v10", "v1", False),  # the beginning of another one
        ("v2,v1", "v1", True),
        ("0.5.m1,v2,a.t0.3", "a.t0.3,0.5.m1", True),  # with a comma of its own, as 1.23.2 tells it
        ("0.5.m2,v2,a.t0.3", "a.t0.3,0.5.m1", False),
        ("v2, a.t0.3,0.5.m1", "a.t0.3,0.5.m1", True),  # on PostgreSQL
        (["v1", "v2"], "v2", True),
        ("", "v1", False),
        (None, "v1", False),
    ],
)
def test_a_version_is_told_from_others(joined: object, version: str, there: bool) -> None:
    assert has_version(joined, version) is there


def test_the_filters_of_a_tab_are_taken_when_all_must_hold() -> None:
    item = rules.condition("id", "greater", "Number", 1)
    tab = {"id": 3, "data": {"filters": {"conjunction": "and", "items": [item, item]}}}
    assert rules.view_items(tab) == (item, item)
    assert rules.view_items({"id": 3, "data": {}}) == ()
    tab["data"] = {"filters": {"conjunction": "or", "items": [item, item]}}
    with pytest.raises(SenderError, match="'or'"):
        rules.view_items(tab)


def test_a_page_is_parted_into_what_is_done_and_what_is_not() -> None:
    versions: dict[int, object] = {1: "v2", 2: "v1,v2", 3: "v1"}
    assert split_page([1, 2, 3, 4], versions, "v2") == ([3, 4], [1, 2], [2])
    assert split_page([1], {1: "0.5.m1,a.t0.3"}, "a.t0.3,0.5.m1") == ([], [1], [])


def test_only_older_ones_of_ours_may_go_and_only_where_the_new_one_is() -> None:
    def one(task: int, version: str) -> dict[str, Any]:
        return {"task": task, "model_version": version}

    there = [one(1, "old"), one(1, "new"), one(1, "theirs"), one(2, "old")]
    assert older_of_ours(there, ours={"old", "new"}, new=["new"]) == [one(1, "old")]


# --- the pace


def test_requests_grow_while_they_are_quick() -> None:
    pace, sizes = Pace(), []
    for _ in range(8):
        sizes.append(pace.size)
        pace = pace.after(pace.size, 0.01 * pace.size)
    assert sizes == [8, 16, 32, 64, 128, 128, 128, 128]
    assert pace.size == LARGEST_BATCH


@given(st.floats(0.001, 100), st.integers(1, 50))
def test_requests_come_to_stay_below_the_time_that_is_meant(seconds_each: float, rounds: int) -> None:
    pace = Pace()
    for _ in range(rounds + 8):
        pace = pace.after(pace.size, seconds_each * pace.size)
    assert pace.size == 1 or seconds_each * pace.size <= TARGET_S


def test_a_small_last_request_says_nothing_about_large_ones() -> None:
    assert Pace(size=32).after(3, 0.01).size == 32


def test_a_request_without_an_answer_is_asked_in_halves() -> None:
    sizes = [64]
    while sizes[-1] > 1:
        sizes.append(Pace(size=sizes[-1]).smaller(sizes[-1]).size)
    assert sizes == [64, 32, 16, 8, 4, 2, 1]
    assert Pace(size=64).smaller(10).size == 5


@pytest.mark.parametrize(
    ("waiting", "since", "last", "write"),
    [
        (0, 1e6, 0, False),  # nothing to write
        (1000, 0, 0, True),  # enough of it
        (10, 10, 0, False),  # too soon
        (10, 31, 1, True),  # people shall see it
        (10, 31, 30, False),  # Label Studio takes long: ten times as long lies between
        (10, 301, 30, True),
    ],
)
def test_label_studio_is_not_made_to_recount_all_the_time(
    waiting: int, since: float, last: float, write: bool
) -> None:
    assert rules.is_time_to_write(waiting=waiting, since_write_s=since, last_write_s=last) is write


# --- answers


def read(item: object, asked: str = "") -> Predicted | Later | Wrong:
    return read_item(item, version="v1", asked=asked)


def test_an_empty_result_is_a_prediction_and_one_with_an_error_is_not() -> None:
    assert read({"result": []}) == Predicted(rows=({"result": [], "score": None, "model_version": "v1"},))
    assert read({"result": [], "error": "no such image"}) == Wrong(reason="no such image")
    assert read({"error": "late"}) == Later(reason="late")


def test_a_task_may_have_several_predictions() -> None:
    found = read([{"result": [{}], "score": 1}, {"result": [], "model_version": "v2"}])
    assert isinstance(found, Predicted)
    assert [row["model_version"] for row in found.rows] == ["v1", "v2"]


@pytest.mark.parametrize("item", [None, "x", 3, [], {"result": "x"}, {"result": [1]}, [None]])
def test_what_is_no_prediction_is_wrong(item: object) -> None:
    assert isinstance(read(item), Wrong)


@pytest.mark.parametrize("score", [math.nan, math.inf, "0.5", None, True])
def test_a_score_that_label_studio_would_refuse_is_left_out(score: object) -> None:
    found = read({"result": [], "score": score})
    assert isinstance(found, Predicted)
    assert found.rows[0]["score"] is None


def test_another_version_than_the_one_asked_for_is_wrong() -> None:
    assert isinstance(read({"result": []}, asked="v1"), Predicted)
    found = read({"result": [], "model_version": "v2"}, asked="v1")
    assert found == Wrong(reason="the ML backend answered with model version v2, not v1")


def test_weights_alone_mean_the_version_that_they_give() -> None:
    listed = ["a.1.t0.5.m1", "ab.1.t0.5.m1", "b.2.t0.5.m1", "b.2.t0.9.m2"]
    assert rules.version_asked("b.2.t0.9.m2", listed) == "b.2.t0.9.m2"
    assert rules.version_asked("a.1", listed) == "a.1.t0.5.m1"
    for asked, said in [
        ("b.2", "may be several model versions of the ML backend (it lists b.2.t0.5.m1, b.2.t0.9.m2)"),
        ("a", "no model version 'a' (it lists a.1.t0.5.m1, ab.1.t0.5.m1"),
    ]:
        with pytest.raises(SenderError) as refused:
            rules.version_asked(asked, listed)
        assert said in str(refused.value)
    with pytest.raises(SenderError, match="it lists none"):
        rules.version_asked("a", [])


@pytest.mark.parametrize(
    ("project", "said"),
    [
        ({"model_version": "ours", "show_collab_predictions": True}, ""),
        ({"model_version": "v1"}, ""),  # chosen by hand
        ({"model_version": "ours", "show_collab_predictions": False}, "Use predictions to prelabel tasks"),
        ({"model_version": ""}, "`python -m sidecar connect` has them shown"),
        ({"model_version": None}, "`python -m sidecar connect` has them shown"),
        ({"model_version": "v0"}, "the predictions of v0, not of v1"),
        ({"model_version": "theirs"}, "the predictions of v9, not of v1"),
        ({"model_version": "away"}, ""),  # a backend that Label Studio knows no version of
    ],
)
def test_it_is_said_when_annotators_will_not_see_the_predictions(project: dict[str, Any], said: str) -> None:
    backends = [
        {"title": "ours", "model_version": "v1"},
        {"title": "theirs", "model_version": "v9"},
        {"title": "away", "model_version": None},
    ]
    found = rules.not_shown(project, backends, ["v1"])
    assert said in found
    assert bool(said) is bool(found)


# --- what people read


def view(**changes: Any) -> View:
    order = Order(id=rules.new_id(UID, NOW), uid=UID, filters=("unlabeled",))
    known = View(
        order=order,
        state="running",
        message="",
        model_version="v1",
        account=Account(selected=2000, already=100, written=400, failed=2),
        progress=None,
        began_at="",
        ended_at="",
        report_key="",
    )
    return replace(known, **changes)


def halfway(total: int | None = 2000) -> Progress:
    later = NOW.replace(minute=1)
    return Progress(done=500, total=total, unit="tasks", began_at=NOW, updated_at=later, done_at_start=100)


def test_the_bar_says_how_far_it_is_and_how_long_it_takes() -> None:
    assert bar_line(view(progress=halfway())) == (
        "[######..................]  25%  500 of 2000 tasks  2 failed  3:45 left"
    )


def test_the_bar_says_what_it_waits_for() -> None:
    assert "waits: no answer" in bar_line(view(progress=halfway(), message="waits: no answer"))
    assert bar_line(view(progress=halfway(None))).startswith("running: 500 tasks")


def test_the_report_names_each_failed_task_with_its_reason() -> None:
    failures = {7: "no such image", 3: "no such image", 9: "too large"}
    over = view(state="complete", message="3 tasks failed", failures=failures, report_key="a key")
    text = "\n".join(lines(over))
    assert "2 x no such image\n        tasks 3, 7" in text
    assert "1 x too large\n        task 9" in text
    assert "prelabel resume" in text
    body = [json.loads(line) for line in rules.report_lines(over, failures).splitlines()]
    assert body[0]["kind"] == "prelabel"
    assert body[0]["counts"]["written"] == 400
    assert [one["task"] for one in body[1:]] == [3, 7, 9]


def test_a_list_has_a_line_a_job() -> None:
    found = list(list_lines([view(), view(state="complete")]))
    assert len(found) == 2
    assert "400 written, 100 there, 2 failed of 2000  (complete)" in found[1]
    assert "prelabel PROJECT" in next(iter(list_lines([])))
