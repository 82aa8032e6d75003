"""The rules of the state, each with the story that asks for it, and the law over all of them: order never matters."""

from __future__ import annotations

import json
from datetime import UTC, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.records import Record
from bridge.state import BASELINE_COMPLETED, State, Thing, fold, state_at
from tests.fakes import at, gone, record


def result_of(state: State, id: str = "1") -> Any:
    thing = state.thing("annotation", id)
    return None if thing is None else thing.data.get("result")


def alive_ids(state: State, kind: str = "annotation") -> list[str]:
    return [thing.record.id for thing in state.alive(kind) if thing.record is not None]


# --- any order, any repetition, any split


seconds = st.integers(min_value=0, max_value=6).map(float)


def newer(kind: str, id: str, op: str = "link") -> Record:
    """A record as a version of us writes it that does not exist yet."""
    fields = json.loads(record("annotation", id, received=20).to_json())
    return Record.from_json(json.dumps(fields | {"kind": kind, "op": op, "ends": [1, 2]}))


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Records that collide as often as possible: few ids, few times, few contents."""
    kind = draw(st.sampled_from(["annotation", "task"]))
    op = draw(st.sampled_from(["put", "put", "put", "delete", "newer"]))
    observed = draw(st.none() | seconds)
    born = draw(st.none() | st.sampled_from([0.0, 1.0, 2.0]))
    data: dict[str, Any] = {}
    if op == "put":
        data["result"] = draw(st.sampled_from([[], ["A"], ["B"], [1], [1.0]]))
        data["task"] = draw(st.sampled_from([1, 2]))
        if draw(st.booleans()):
            data["task_created_at"] = draw(st.sampled_from(["2026-11-22T06:00:00Z", "2026-11-22T06:00:01Z"]))
        if draw(st.booleans()):
            data["unique_id"] = draw(st.sampled_from(["u", "v"]))
    if op == "newer":
        return newer(draw(st.sampled_from(["relation", "annotation"])), draw(st.sampled_from(["1", "2"])))
    return record(
        kind,
        draw(st.sampled_from(["1", "2"])),
        op=op,  # type: ignore[arg-type]
        born=born,
        version=draw(st.none() | seconds) if op == "put" else None,
        received=draw(seconds),
        observed=observed,
        source=draw(st.sampled_from(["webhook", "baseline", "reconcile"])),
        event_id=draw(st.sampled_from(["e", "f"])),
        **data,
    )


logs = st.lists(records(), max_size=12)


def shown(state: State) -> Any:
    """Everything a reader can see of a state, texts included."""
    return {
        kind: {
            id: (thing.to_json(), thing.alive, state.hidden(thing), thing.data)
            for id, thing in of_kind.items()
        }
        for kind, of_kind in state.things.items()
    } | {f"alive {kind}": [t.to_json() for t in state.alive(kind)] for kind in ("annotation", "task")}


@given(logs, st.randoms(use_true_random=False))
def test_the_order_of_records_changes_nothing(log: list[Record], random: Any) -> None:
    mixed = list(log)
    random.shuffle(mixed)
    assert shown(fold(mixed)) == shown(fold(log))


@given(logs, st.lists(st.integers(min_value=0, max_value=11)))
def test_a_repeated_record_changes_nothing(log: list[Record], again: list[int]) -> None:
    repeated = log + [log[i] for i in again if i < len(log)]
    assert shown(fold(repeated)) == shown(fold(log))


@given(logs, st.lists(st.integers(min_value=0, max_value=2), min_size=12, max_size=12))
def test_parts_of_a_log_folded_apart_and_merged_are_the_whole(log: list[Record], part: list[int]) -> None:
    parts = [fold(r for r, p in zip(log, part, strict=False) if p == number) for number in range(3)]
    for first, second, third in ((0, 1, 2), (2, 0, 1)):
        merged = State()
        for number in (first, second, third, first):
            merged.merge(parts[number])
        assert shown(merged) == shown(fold(log))


@given(logs, logs)
def test_a_state_written_as_json_folds_on_as_if_it_had_never_been_written(
    before: list[Record], after: list[Record]
) -> None:
    folded = fold(before)
    read_back = State(
        things={
            kind: {id: Thing.from_json(thing.to_json()) for id, thing in things.items()}
            for kind, things in folded.things.items()
        }
    )
    for one in after:
        read_back.add(one)
    assert shown(read_back) == shown(fold(before + after))


@given(logs, seconds)
def test_the_state_at_a_time_is_that_of_what_had_been_received(log: list[Record], moment: float) -> None:
    assert shown(state_at(log, at(moment))) == shown(fold(r for r in log if r.received_at <= at(moment)))


# --- one incarnation


def test_the_highest_version_wins_however_late_it_is_received() -> None:
    new = record(version=5, received=11, result=["new"])
    old = record(version=4, received=90, result=["old"])
    assert result_of(fold([new, old])) == ["new"]


def test_old_content_that_comes_back_is_the_newest_content() -> None:
    # A, B, A arriving as A, A, B.
    first = record(version=1, received=10, result=["A"])
    second = record(version=2, received=30, result=["B"])
    third = record(version=3, received=20, result=["A"])
    assert result_of(fold([first, third, second])) == ["A"]


def test_of_equal_versions_the_one_received_last_wins() -> None:
    one = record(version=1, received=10, result=["one"])
    two = record(version=1, received=11, result=["two"])
    assert result_of(fold([two, one])) == ["two"]


def test_the_unique_id_of_any_sighting_stays() -> None:
    by_webhook = record(version=1, received=10, result=["A"], unique_id="u-1")
    by_reading = record(version=2, received=20, observed=20, result=["B"])
    thing = fold([by_webhook, by_reading]).thing("annotation", "1")
    assert thing is not None
    assert thing.data["unique_id"] == "u-1"
    assert thing.data["result"] == ["B"]


# --- deletes


def test_a_delete_ends_what_was_received_before_it() -> None:
    assert alive_ids(fold([record(received=10), gone(received=20)])) == []


def test_a_create_that_arrives_after_its_delete_stays_hidden() -> None:
    # It was received first, and waited in the spool.
    assert alive_ids(fold([gone(received=20), record(received=10)])) == []


def test_a_late_version_of_an_ended_incarnation_stays_hidden() -> None:
    log = [record(received=10), gone(received=20), record(version=9, received=30, result=["late"])]
    state = fold(log)
    assert alive_ids(state) == []
    assert result_of(state) == ["late"]


def test_a_new_thing_under_an_old_id_lives_though_the_old_one_was_deleted() -> None:
    old, new = record(born=0, received=10, result=["old"]), record(born=25, received=26, result=["new"])
    state = fold([old, gone(received=20), new])
    assert alive_ids(state) == ["1"]
    assert result_of(state) == ["new"]


def test_a_late_version_of_the_old_thing_does_not_show_through_the_new_one() -> None:
    old, new = record(born=0, received=10), record(born=25, received=26, result=["new"])
    late = record(born=0, version=99, received=40, result=["late"])
    assert result_of(fold([old, gone(received=20), new, late])) == ["new"]


def test_the_old_thing_does_not_come_back_when_the_new_one_is_deleted() -> None:
    old, new = record(born=0, received=10), record(born=25, received=26)
    assert alive_ids(fold([old, gone(received=20), new, gone(received=30)])) == []


def test_the_second_delete_of_an_id_ends_the_second_thing_only_when_it_was_received_before() -> None:
    old, new = record(born=0, received=10), record(born=25, received=26)
    again = gone(received=20, event_id="the same delete again")
    assert alive_ids(fold([old, gone(received=20), again, new])) == ["1"]


def test_a_delete_alone_is_no_thing() -> None:
    state = fold([gone(received=20)])
    assert alive_ids(state) == []
    thing = state.thing("annotation", "1")
    assert thing is not None
    assert thing.record is None
    assert thing.data == {}


def test_a_delete_that_names_an_incarnation_ends_that_one_only() -> None:
    old, new = record(born=0, received=10), record(born=25, received=26)
    confirmed = gone(born=0, received=40, observed=39, source="reconcile")
    assert alive_ids(fold([old, new, confirmed])) == ["1"]
    assert alive_ids(fold([old, confirmed])) == []


def test_an_absence_observed_before_the_thing_was_first_received_does_not_end_it() -> None:
    confirmed = gone(born=0, received=40, observed=9, source="reconcile")
    assert alive_ids(fold([record(received=10), confirmed])) == ["1"]


# --- readings


def test_a_reading_made_before_a_delete_and_written_after_it_stays_deleted() -> None:
    read = record(received=30, observed=15)
    assert alive_ids(fold([gone(received=20), read])) == []
    assert alive_ids(fold([record(received=10), gone(received=20), read])) == []


def test_a_reading_made_after_a_delete_opens_the_thing_again() -> None:
    log = [record(received=10), gone(received=20), record(received=31, observed=30)]
    assert alive_ids(fold(log)) == ["1"]


def test_a_thing_opened_again_can_be_deleted_again() -> None:
    log = [record(received=10), gone(received=20), record(received=31, observed=30), gone(received=40)]
    assert alive_ids(fold(log)) == []


def test_a_webhook_never_opens_what_was_deleted() -> None:
    log = [record(received=10), gone(received=20), record(version=5, received=30)]
    assert alive_ids(fold(log)) == []


def test_a_superseding_reading_wins_over_the_version_it_corrects() -> None:
    told = record(version=50, received=10, task=1)
    moved = record(version=50.000001, received=20, observed=19, task=2)
    thing = fold([moved, told]).thing("annotation", "1")
    assert thing is not None
    assert thing.data["task"] == 2


# --- tasks hide their annotations, and end none


def of_task(task: int, *, task_born: float | None = 0, **more: Any) -> Record:
    owner = None if task_born is None else at(task_born).isoformat()
    return record(task=task, task_created_at=owner, **more)


def test_a_deleted_task_hides_its_annotations() -> None:
    state = fold([record("task", "7"), of_task(7), gone("task", "7", received=20)])
    assert alive_ids(state) == []
    assert result_of(state) is None
    assert state.things["annotation"]["1"].alive


def test_annotations_show_again_when_they_were_moved_to_another_task() -> None:
    log = [record("task", "7"), record("task", "8"), of_task(7), gone("task", "7", received=20)]
    moved = of_task(8, version=1, received=31, observed=30)
    assert alive_ids(fold([*log, moved])) == ["1"]


def test_annotations_show_again_when_their_task_was_deleted_by_mistake() -> None:
    log = [record("task", "7"), of_task(7), gone("task", "7", received=20)]
    found = record("task", "7", received=31, observed=30)
    assert alive_ids(fold([*log, found])) == ["1"]


def test_a_new_task_under_an_old_id_does_not_show_the_old_ones_annotations() -> None:
    log = [record("task", "7"), of_task(7), gone("task", "7", received=20)]
    new = record("task", "7", born=25, received=26)
    assert alive_ids(fold([*log, new])) == []


def test_an_annotation_of_a_new_task_under_an_old_id_shows() -> None:
    log = [record("task", "7"), gone("task", "7", received=20), record("task", "7", born=25, received=26)]
    assert alive_ids(fold([*log, of_task(7, task_born=25, received=27)])) == ["1"]


def test_an_annotation_whose_task_was_never_seen_shows() -> None:
    assert alive_ids(fold([of_task(7)])) == ["1"]


@pytest.mark.parametrize("owner", ["yesterday", 5, None, ""])
def test_an_owner_that_is_no_time_hides_nothing_and_raises_nothing(owner: Any) -> None:
    state = fold([record("task", "7"), record(task=7, task_created_at=owner)])
    assert alive_ids(state) == ["1"]


# --- the rest


def test_things_come_in_the_order_of_their_ids_as_numbers() -> None:
    assert alive_ids(fold([record(id=id) for id in ("10", "9", "1")])) == ["1", "9", "10"]


def test_the_newest_completed_baseline_is_remembered() -> None:
    def completed(received: float) -> Record:
        made = record("project", "3", born=0, version=received, received=received, observed=received)
        return Record(
            **{name: getattr(made, name) for name in made.__dataclass_fields__}
            | {"event": BASELINE_COMPLETED}
        )

    assert fold([]).baseline_completed_at is None
    assert fold([completed(50), completed(40)]).baseline_completed_at == at(50)


def test_times_in_other_zones_are_the_same_times() -> None:
    berlin = timezone(timedelta(hours=1))
    one = record(version=5)
    other = Record(
        **{name: getattr(one, name) for name in one.__dataclass_fields__}
        | {"created_at": at(0).astimezone(berlin), "version": at(5).astimezone(berlin)}
    )
    assert at(0).tzinfo is UTC
    assert shown(fold([one, other])) == shown(fold([one]))


# --- a newer version of us


def test_a_record_from_a_newer_version_is_passed_over_and_kept() -> None:
    state = fold([record(result=["A"]), newer("annotation", "1"), newer("relation", "7", "put")])
    assert result_of(state) == ["A"]
    assert state.passed_over == 2
    assert alive_ids(state, "relation") == []
    kept = Thing.from_json(state.things["relation"]["7"].to_json())
    assert [json.loads(line)["ends"] for line in kept.passed_over] == [[1, 2]]


def test_a_state_without_such_records_is_written_as_before() -> None:
    assert "passed_over" not in fold([record()]).things["annotation"]["1"].to_json()


def test_what_an_older_version_passed_over_is_folded_by_the_version_that_knows_it() -> None:
    """A state that was written by an older version, of a kind that is ours by now."""
    line = record(result=["A"]).to_json()
    empty = Thing().to_json()
    assert Thing.from_json(empty | {"passed_over": [line]}).data["result"] == ["A"]
