"""What reconcile decides, without Label Studio and without a bucket."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from bridge import hooks, reconcile
from bridge.readings import Known
from bridge.reconcile import FULL, INCREMENTAL, LIGHT, Candidate
from bridge.records import Record, format_time
from bridge.settings import LabelStudioSettings, S3Settings, WorkersSettings
from tests.fakes import at, gone, record
from workers.reconcile_sweep import due

URL, SECRET = "http://sidecar.example", "a-secret-of-the-tests"


def known(*records: Record) -> Known:
    made = Known()
    for one in records:
        made.add(one)
    return made


def task(id: str = "1", **more: Any) -> Record:
    return record("task", id, **({"updated_at": format_time(at(0)), "data": {}} | more))


def on_task(kind: str = "annotation", id: str = "1", of: int = 1, **more: Any) -> Record:
    return record(kind, id, task=of, task_created_at=format_time(at(0)), **more)


def line(**more: Any) -> dict[str, Any]:
    """A line of the light listing that fits `task()` with one annotation."""
    whole = {"id": 1, "created_at": format_time(at(0)), "updated_at": format_time(at(0))}
    return whole | {"total_annotations": 1, "cancelled_annotations": 0, "total_predictions": 0} | more


@pytest.mark.parametrize(
    ("said", "row", "expected"),
    [
        ((task(), on_task()), line(), False),
        # a skipped annotation is counted apart
        ((task(), on_task()), line(total_annotations=0, cancelled_annotations=1), False),
        # nobody told of the task
        ((), line(), True),
        # an annotation more, one less
        ((task(), on_task()), line(total_annotations=2), True),
        ((task(), on_task()), line(total_annotations=0), True),
        # predictions were imported
        ((task(), on_task()), line(total_predictions=1), True),
        # touched, forwards or backwards
        ((task(), on_task()), line(updated_at=format_time(at(1))), True),
        ((task(updated_at=format_time(at(5))), on_task()), line(), True),
        # the id was given to another task
        ((task(), on_task()), line(created_at=format_time(at(9))), True),
        # the record believes it deleted
        ((task(), on_task(), gone("task", "1", received=20)), line(), True),
        # the annotation was deleted, and the webhook said so
        ((task(), on_task(), gone("annotation", "1", received=20)), line(total_annotations=0), False),
        # the annotation was moved to another task, and we know
        ((task(), task("2"), on_task(), on_task(of=2, version=5)), line(total_annotations=0), False),
    ],
)
def test_a_line_of_the_listing_fits_the_record_or_not(
    said: tuple[Record, ...], row: dict[str, Any], expected: bool
) -> None:
    assert reconcile.looks_different(row, known(*said)) is expected


@pytest.mark.parametrize(
    ("before", "now", "what"),
    [
        ([], on_task(), "missing"),
        ([on_task()], on_task(lead_time=3), "outdated"),
        ([on_task(), gone(received=20)], on_task(received=30, observed=30), "reopened"),
        ([on_task()], on_task(), None),
        # only the time is new: an empty PATCH, or a count that changed
        ([task()], task(version=9), None),
        ([record("project"), gone("project", received=20, born=0, observed=20)],
         record("project", received=30, observed=30), "found_again"),
    ],
)  # fmt: skip
def test_a_difference_has_a_name(before: list[Record], now: Record, what: str | None) -> None:
    repair = reconcile.repair_of(now, known(*before), at(40))
    assert (repair.what if repair else None) == what


def test_what_the_record_shows_on_a_task_and_a_reading_does_not_is_a_candidate() -> None:
    log = known(task(), on_task(), on_task(id="2"), on_task("draft", "3"), on_task(id="4", received=60))
    found = reconcile.unseen_on_tasks([1], [on_task()], log, at(50))
    assert [(one.kind, one.id) for one in found] == [("annotation", "2"), ("draft", "3")]
    assert all(reconcile.still_alive(one, log) for one in found)
    log.add(gone("annotation", "2", received=55))
    assert [reconcile.still_alive(one, log) for one in found] == [False, True]


def test_annotations_of_a_deleted_task_are_hidden_and_no_candidates() -> None:
    log = known(task(), on_task(), gone("task", "1", received=20))
    assert reconcile.unseen_on_tasks([1], [], log, at(50)) == []


def test_gaps_in_a_listing_are_found_page_by_page() -> None:
    log = known(*(task(str(id)) for id in (1, 2, 3, 7, 9)), task("5", received=60))
    ids = reconcile.TaskIds(log)
    first = ids.unseen(0, 3, [1, 3], at(50))
    rest = ids.unseen(3, None, [7], at(50))
    assert [one.id for one in first + rest] == ["2", "9"]


@pytest.mark.parametrize(
    ("alive", "missing", "held"),
    [(40, 40, False), (60, 50, False), (60, 51, True), (2000, 100, False), (2000, 101, True)],
)
def test_more_than_fifty_or_five_percent_are_held(alive: int, missing: int, held: bool) -> None:
    log = known(*(task(str(id)) for id in range(alive)))
    asked = [Candidate(kind="task", id=str(id), created_at=format_time(at(0))) for id in range(missing)]
    assert bool(reconcile.too_many(asked, log)) is held


def test_a_few_of_each_kind_are_many_together() -> None:
    log = known(*(task(str(id)) for id in range(40)), *(on_task(id=str(id)) for id in range(40)))
    asked = [Candidate(kind=kind, id=str(id)) for kind in ("task", "annotation") for id in range(30)]
    assert reconcile.too_many(asked, log) == "60 of 80 things are not in Label Studio any more"


def test_an_older_backup_is_named_with_the_last_time_before_it_and_what_shows_it() -> None:
    log = known(task(updated_at=format_time(at(500)), received=501), task("2", received=501))
    old = task(updated_at=format_time(at(100)), received=900, observed=900)
    told = reconcile.older_backup([task("2", received=900, observed=900), old], log)
    before, shown, known_as = (format_time(at(seconds)) for seconds in (899.999999, 100, 500))
    assert f"before {before}: it shows task 1 as of {shown}, the record has it as of {known_as}" in told
    assert reconcile.older_backup([task("2", received=900, observed=900)], log) == ""


@pytest.mark.parametrize(
    ("answer", "is_gone", "is_moved"),
    [
        (None, True, False),
        ({"id": 1, "created_at": format_time(at(0)), "task": 1}, False, False),
        # the id was given to another
        ({"id": 1, "created_at": format_time(at(9)), "task": 1}, True, False),
        ({"id": 1, "created_at": format_time(at(0)), "task": 2}, False, True),
    ],
)
def test_a_direct_answer_decides(answer: dict[str, Any] | None, is_gone: bool, is_moved: bool) -> None:
    asked = Candidate(kind="annotation", id="1", created_at=format_time(at(0)))
    verdict = reconcile.judge(asked, answer, known(task(), on_task()))
    assert (verdict.gone, verdict.moved) == (is_gone, is_moved)


@pytest.mark.parametrize("id", ["7", "export/s3/1", "a|b"])
def test_a_candidate_comes_back_from_its_text(id: str) -> None:
    one = Candidate(kind="storage", id=id, created_at=format_time(at(0)))
    assert Candidate.from_text(one.to_text()) == one


@pytest.mark.parametrize(
    ("kind", "id", "path"),
    [
        ("annotation", "7", "/api/annotations/7/"),
        ("storage", "import/s3/1", "/api/storages/s3/1"),
        ("storage", "export/gcs/2", "/api/storages/export/gcs/2"),
    ],
)
def test_every_thing_has_an_address(kind: str, id: str, path: str) -> None:
    assert reconcile.path_of(Candidate(kind=kind, id=id)) == path


@pytest.mark.parametrize(
    ("updated", "now", "expected"),
    [
        ([], at(9), None),
        ([at(1), at(5)], at(9), at(5)),
        ([at(1), at(5)], None, at(5)),
        # Label Studio's clock was a day ahead when a task was touched
        ([at(1), at(86400)], at(9), at(9)),
    ],
)
def test_the_watermark_is_label_studios_own_time(
    updated: list[datetime], now: datetime | None, expected: datetime | None
) -> None:
    assert reconcile.next_watermark(updated, now) == expected


@pytest.mark.parametrize(
    ("unmoved", "overlap"),
    [
        (timedelta(), timedelta(minutes=5)),
        (timedelta(minutes=4), timedelta(minutes=1)),
        (timedelta(days=1), timedelta(seconds=1)),
        # our clock jumped back
        (timedelta(days=-1), timedelta(minutes=5)),
    ],
)
def test_the_overlap_shrinks_while_nobody_works(unmoved: timedelta, overlap: timedelta) -> None:
    assert at(0) - reconcile.look_since(at(0), unmoved) == overlap


# --- when


def settings(**more: Any) -> WorkersSettings:
    return WorkersSettings(
        label_studio=LabelStudioSettings(url="http://127.0.0.1:9", api_key="0" * 40),
        s3=S3Settings(endpoint_url="http://127.0.0.1:9", access_key_id="key", secret_access_key="key", bucket="labels"),
        redis_url="redis://127.0.0.1:9/0",
        **more,
    )  # fmt: skip


def done(ago: dict[str, timedelta]) -> dict[str, str]:
    return {f"{depth}_done_at": format_time(at(0) - since) for depth, since in ago.items()}


MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ALL_DONE = {INCREMENTAL: MINUTE / 2, LIGHT: HOUR / 2, FULL: HOUR / 2}


@pytest.mark.parametrize(
    ("ago", "more", "expected"),
    [
        (ALL_DONE, {}, None),
        (ALL_DONE | {INCREMENTAL: MINUTE}, {}, INCREMENTAL),
        (ALL_DONE | {INCREMENTAL: MINUTE, LIGHT: HOUR}, {}, LIGHT),
        (ALL_DONE | {FULL: 2 * DAY}, {}, FULL),
        ({}, {}, LIGHT),
        # 0 switches one off
        (ALL_DONE | {INCREMENTAL: DAY}, {"reconcile_seconds": 0}, None),
        (ALL_DONE | {LIGHT: DAY}, {"reconcile_light_minutes": 0}, None),
        (ALL_DONE | {FULL: 2 * DAY}, {"reconcile_full_cron": ""}, None),
        # our clock was ahead when they were noted
        (ALL_DONE | {INCREMENTAL: -HOUR}, {}, INCREMENTAL),
    ],
)
def test_the_deepest_look_that_is_due_is_taken(
    ago: dict[str, timedelta], more: dict[str, Any], expected: str | None
) -> None:
    assert due(settings(**more), done(ago), at(0)) == expected


def test_what_failed_a_moment_ago_waits() -> None:
    saved = done({LIGHT: DAY}) | {"tried_at": format_time(at(-10))}
    assert due(settings(), saved, at(0)) is None
    assert due(settings(), saved, at(60)) == LIGHT


# --- the webhook


def hook(**more: Any) -> dict[str, Any]:
    return hooks.wanted_hook(1, URL, SECRET) | {"id": 5} | more


@pytest.mark.parametrize(
    ("found", "method", "why"),
    [
        ([], "POST", "it was missing"),
        ([hook()], None, None),
        ([hook(is_active=False)], "PATCH", "switched off"),
        ([hook(headers={})], "PATCH", "secret"),
        ([hook(send_payload=False, actions=[])], "PATCH", "payload off, actions"),
        # with our secret at another address: a worker whose SIDECAR_URL is wrong must not take it over
        ([hook(url="http://elsewhere.example/webhook")], None, None),
        # another sidecar's
        ([hook(url="http://elsewhere.example/webhook", headers={"X-Webhook-Secret": "other"})], "POST", "it was missing"),
    ],
)  # fmt: skip
def test_a_webhook_is_repaired_or_left_alone(
    found: list[dict[str, Any]], method: str | None, why: str | None
) -> None:
    repair = hooks.repair_of(hooks.wanted_hook(1, URL, SECRET), found)
    assert (repair.method if repair else None, repair.why if repair else None) == (method, why)
    assert SECRET not in repr(repair)


def test_a_repair_keeps_headers_that_others_added_and_names_the_actions() -> None:
    repair = hooks.repair_of(
        hooks.wanted_hook(1, URL, SECRET), [hook(is_active=False, headers={"X-Other": "1"})]
    )
    assert repair is not None
    assert repair.body["headers"] == {"X-Other": "1", "X-Webhook-Secret": SECRET}
    assert repair.body["actions"]
