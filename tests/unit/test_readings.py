"""Readings of the API: what they become, and which of them say something new."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import readings
from bridge.readings import Known, Plan, of_items, of_storages, of_tasks, plan
from bridge.records import Record, Stamp, format_time
from bridge.state import fold
from tests.conftest import sample
from tests.fakes import at, gone, record

READ = Stamp(event_id="e", received_at=at(30), source="baseline", event="BASELINE", observed_at=at(30))


def known(*log: Record) -> Known:
    made = Known()
    for one in log:
        made.add(one)
    return made


def read(version: float = 5, observed: float = 30, **data: Any) -> Record:
    return record(version=version, received=observed, observed=observed, **data)


def verdict(reading: Record, *log: Record) -> str:
    decided = plan([reading], known(*log))
    return "write" if decided.write else "doubtful" if decided.doubtful else "nothing"


# --- what an answer becomes


def test_a_task_brings_everything_nested_in_it() -> None:
    reading = of_tasks(sample("api_tasks")["tasks"], sample("api_export"), READ)
    assert reading.unreadable == []
    found = sorted((one.kind, int(one.id)) for one in reading.records)
    assert found == [
        *[("annotation", id) for id in (7, 8, 9)],  # 9 was skipped by its annotator
        *[("draft", id) for id in (4, 5)],  # 5 is another annotator's: only the export shows it
        *[("prediction", id) for id in (5, 6)],
        *[("task", id) for id in (13, 14, 15)],
    ]
    for one in reading.records:
        assert (one.observed_at, one.source, one.event_id) == (at(30), "baseline", "e")
        if one.kind != "task":
            assert one.data["task_created_at"]


def test_the_export_adds_the_unique_id() -> None:
    reading = of_tasks(sample("api_tasks")["tasks"], sample("api_export"), READ)
    by_webhook = {
        str(body["annotation"]["id"]): body["annotation"]["unique_id"]
        for body in sample("api_received_webhooks")
        if "annotation" in body
    }
    found = {one.id: one.data["unique_id"] for one in reading.records if one.kind == "annotation"}
    assert by_webhook.items() <= found.items()


def test_an_annotation_that_was_replaced_between_the_two_answers_gets_no_foreign_unique_id() -> None:
    exported = sample("api_export")
    for task in exported:
        for annotation in task["annotations"]:
            annotation["created_at"] = "2030-01-01T00:00:00Z"
    reading = of_tasks(sample("api_tasks")["tasks"], exported, READ)
    assert not [one for one in reading.records if "unique_id" in one.data]


@pytest.mark.parametrize(
    "broken",
    [
        {"id": None},
        {"id": 99, "created_at": "soon"},
        {"id": 99, "annotations": [{"result": []}]},
        {"id": 99, "annotations": 5},
        {"id": 99, "predictions": [{"id": 1, "updated_at": 7}]},
        "no object",
    ],
)
def test_a_task_that_cannot_be_read_costs_itself_only(broken: Any) -> None:
    tasks = sample("api_tasks")["tasks"]
    reading = of_tasks([tasks[0], broken, tasks[1]], [], READ)
    assert [one.id for one in reading.records if one.kind == "task"] == ["13", "14"]
    assert len(reading.unreadable) == 1
    assert reading.unreadable[0].startswith("task ")


def test_storages_of_different_types_do_not_share_ids() -> None:
    answer = sample("api_storages")
    found = (
        of_storages("import", "s3", answer["import"], READ).records
        + of_storages("export", "s3", answer["export"], READ).records
    )
    assert [one.id for one in found] == ["import/s3/3", "export/s3/1"]
    assert found[0].data["bucket"] == "pictures"
    assert found[0].data["direction"] == "import"


def test_users_keep_their_addresses_for_a_restore() -> None:
    emails = [one.data["email"] for one in of_items("user", sample("api_users"), READ).records]
    assert emails == ["a@example.com", "b@example.com", "c@example.com"]


def test_the_export_is_asked_only_for_what_the_log_lacks() -> None:
    tasks, exported = sample("api_tasks")["tasks"], sample("api_export")
    assert readings.wanted_from_export(tasks, known(), READ) == [14, 15]
    everything = known(*of_tasks(tasks, exported, READ).records)
    # Task 15 has drafts: those of others are nowhere else.
    assert readings.wanted_from_export(tasks, everything, READ) == [15]


# --- what says something new


def test_an_unknown_thing_is_written() -> None:
    assert verdict(read()) == "write"
    assert verdict(read(), gone(received=20)) == "write"


def test_an_unknown_incarnation_is_written() -> None:
    assert verdict(read(born=2), record(born=0, received=10), gone(received=20)) == "write"


def test_a_known_thing_is_not_written_again() -> None:
    assert verdict(read(result=["A"]), record(version=5, received=10, result=["A"])) == "nothing"


def test_a_newer_version_is_written() -> None:
    assert verdict(read(version=6, result=["B"]), record(version=5, received=10, result=["A"])) == "write"


def test_a_newer_version_is_written_though_its_content_is_old() -> None:
    # A is in the log, B is still in the spool, A again is what we read: without it, B would win when it arrives.
    first, late = record(version=5, received=10, result=["A"]), record(version=6, received=20, result=["B"])
    reading = read(version=7, result=["A"])
    assert verdict(reading, first) == "write"
    thing = fold([first, reading, late]).thing("annotation", "1")
    assert thing is not None
    assert thing.data["result"] == ["A"]


def test_what_only_readings_bring_is_not_written_for_a_newer_version_alone() -> None:
    known_user = record("user", "1", version=5, received=10, email="a")
    assert (
        verdict(record("user", "1", version=9, received=30, observed=30, email="a"), known_user) == "nothing"
    )


def test_a_unique_id_that_the_log_lacks_is_written() -> None:
    told = record(version=5, received=10, result=["A"])
    assert verdict(read(result=["A"], unique_id="u"), told) == "write"
    assert verdict(read(result=["A"], unique_id="u"), told, read(result=["A"], unique_id="u")) == "nothing"


def test_a_reading_that_is_older_than_what_the_door_heard_is_dropped() -> None:
    # The annotator saved while our request was under way; the webhook is in the log already.
    told = record(version=6, received=31, result=["new"])
    assert verdict(read(version=5, observed=30, result=["old"]), told) == "nothing"


def test_other_content_under_the_same_version_is_doubtful() -> None:
    # remove_duplicates moves annotations without touching updated_at.
    assert verdict(read(version=5, task=2), record(version=5, received=10, task=1)) == "doubtful"


def test_a_deleted_thing_that_is_there_is_doubtful() -> None:
    assert verdict(read(observed=30), record(version=5, received=10), gone(received=20)) == "doubtful"


def test_a_thing_deleted_after_we_asked_is_left_alone() -> None:
    assert verdict(read(observed=30), record(version=5, received=10), gone(received=40)) == "nothing"


def test_an_unknown_version_of_a_deleted_thing_is_kept() -> None:
    log = (record(version=4, received=10, result=["A"]), gone(received=40))
    assert verdict(read(version=5, observed=30, result=["B"]), *log) == "write"


# --- what went back


def of_minute(minute: float, kind: str = "annotation", **more: Any) -> Record:
    """A sighting of content that stays the same, with Label Studio's time of the last change."""
    return record(kind, version=60 * minute, updated_at=format_time(at(60 * minute)), **more)


@pytest.mark.parametrize(
    ("told", "shown", "expected"),
    [
        (of_minute(5, received=301), of_minute(2, received=900, observed=900), True),
        # clocks of two servers of one installation
        (of_minute(5, received=301), of_minute(4.9, received=900, observed=900), False),
        # changed, or the same
        (of_minute(5, received=301), of_minute(7, received=900, observed=900), False),
        (of_minute(5, received=301), of_minute(5, received=900, observed=900), False),
        # the annotator saved while our request was under way
        (of_minute(5, received=901), of_minute(2, received=900, observed=900), False),
        # another one under the id
        (of_minute(5, received=301, born=200), of_minute(2, received=900, observed=900), False),
        # nobody tells us of these
        (of_minute(5, "prediction", received=301), of_minute(2, "prediction", received=900, observed=900), False),
        (of_minute(5, "task", received=301), of_minute(2, "task", received=900, observed=900), True),
    ],
)  # fmt: skip
def test_a_thing_went_back_by_label_studios_own_time(told: Record, shown: Record, expected: bool) -> None:
    assert readings.went_back(shown, known(told)) is expected


def test_what_went_back_is_written_once_though_its_content_is_the_same() -> None:
    told = of_minute(5, received=301)
    found = settled(
        of_minute(2, received=900, observed=900), [of_minute(2, received=903, observed=903)], told
    )
    thing = fold([told, *found]).thing("annotation", "1")
    assert thing is not None
    assert thing.data["updated_at"] == format_time(at(120)), "the record says what Label Studio shows"
    assert verdict(of_minute(2, received=950, observed=950), told, *found) == "nothing"
    assert verdict(of_minute(16, received=990, observed=990), told, *found) == "write"
    # and forth again, to what was there before
    log = [told, *found]
    log += settled(of_minute(5, received=960, observed=960), [of_minute(5, received=963, observed=963)], *log)
    assert verdict(of_minute(5, received=990, observed=990), *log) == "nothing"
    assert not readings.went_back(of_minute(5, received=990, observed=990), known(*log))


# --- doubts


def settled(first: Record, second: list[Record], *log: Record) -> list[Record]:
    index = known(*log)
    return readings.confirmed(plan([first], index).doubtful, second, index)


def test_a_repeated_doubt_wins_over_the_state() -> None:
    told = record(version=5, received=10, task=1)
    found = settled(read(task=2, observed=30), [read(task=2, observed=33)], told)
    thing = fold([told, *found]).thing("annotation", "1")
    assert thing is not None
    assert thing.data["task"] == 2
    assert found[0].observed_at == at(33)


def test_a_repeated_sight_of_a_deleted_thing_opens_it_again() -> None:
    log = [record(version=5, received=10), gone(received=20)]
    found = settled(read(observed=30), [read(observed=33)], *log)
    assert [thing.record.id for thing in fold([*log, *found]).alive("annotation") if thing.record] == ["1"]


def test_a_doubt_that_is_not_repeated_is_dropped() -> None:
    told = record(version=5, received=10, task=1)
    assert settled(read(task=2), [], told) == []
    assert settled(read(task=2), [read(task=1, observed=33)], told) == []
    assert settled(read(task=2), [read(version=6, task=3, observed=33)], told) == []


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(10, 29), st.sampled_from("ABC")), max_size=6),
    st.integers(0, 5),
)
def test_once_written_a_reading_is_what_the_state_says_and_says_nothing_new(
    told: list[tuple[int, int, str]], version: int
) -> None:
    log = [record(version=v, received=r, result=[c]) for v, r, c in told]
    first, second = read(version, 30, result=["A"]), read(version, 33, result=["A"])
    decided: Plan = plan([first], known(*log))
    log += decided.write + readings.confirmed(decided.doubtful, [second], known(*log))
    thing = fold(log).thing("annotation", "1")
    assert thing is not None
    assert thing.data["result"] == ["A"]
    assert plan([read(version, 40, result=["A"])], known(*log)) == Plan()
