"""Reading a project whole: into a real Redis and a bucket over HTTP, from recorded answers of Label Studio."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from bridge import events, jobs
from bridge.edges import queue, stream
from bridge.edges import redis as names
from bridge.edges.log import log_keys, read_object, read_records, read_state
from bridge.edges.s3 import S3Store
from bridge.errors import Refused, Unavailable
from bridge.keys import project_uid
from bridge.records import Record, Stamp, delete, parse_time
from bridge.settings import WorkersSettings
from bridge.state import BASELINE_COMPLETED, State
from tests.conftest import sample
from tests.fakes import Clock, FakeLabelStudio
from tests.integration.test_kept_lock import wait_until_extended
from workers import baseline, context, reading
from workers.archive import forget

BORN = parse_time(sample("api_project")["created_at"])
assert BORN is not None
UID = project_uid(sample("api_project")["id"], BORN)


class Workplace:
    """One worker with its surroundings, and what a test wants to know of them."""

    def __init__(self, here: context.Context, label_studio: FakeLabelStudio, clock: Clock) -> None:
        self.here, self.label_studio, self.clock = here, label_studio, clock

    def run(self, reason: str = "connect") -> None:
        baseline.run(UID, reason)

    def objects(self) -> list[str]:
        return [info.key for info in log_keys(self.here.store, self.here.layout(UID))]

    def records(self) -> list[Record]:
        return list(read_records(self.here.store, self.here.layout(UID)))

    def state(self) -> State:
        return read_state(self.here.store, self.here.layout(UID))

    def annotation(self, id: int) -> dict[str, Any]:
        thing = self.state().thing("annotation", str(id))
        assert thing is not None
        return thing.data

    def progress(self) -> dict[str, str]:
        found = self.here.redis.hgetall(names.baseline(UID))
        return {name.decode(): value.decode() for name, value in found.items()}

    def append(self, *records: Record) -> None:
        self.here.log_writer(UID).append(list(records))

    def jobs(self, queue_name: str) -> list[tuple[str, list[Any]]]:
        found = queue.open_queue(self.here.redis, queue_name).jobs
        return [(job.func_name, list(job.args)) for job in found]


@pytest.fixture
def work(
    redis_client: redis.Redis,
    store: S3Store,
    workers_settings: WorkersSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Workplace]:
    label_studio, clock = FakeLabelStudio(), Clock()
    here = context.Context(
        workers_settings,
        connection=redis_client,
        store=store,
        label_studio=label_studio,  # type: ignore[arg-type]
        now=clock,
    )
    context.install(here)
    redis_client.sadd(names.WANTED, UID)
    # Our clock goes on instead of the test waiting.
    monkeypatch.setattr(reading, "CONFIRM_AFTER_S", 0)
    yield Workplace(here, label_studio, clock)
    context._installed.clear()


def with_pages_of(work: Workplace, size: int) -> None:
    work.here.settings = dataclasses.replace(work.here.settings, baseline_page_size=size)


def counted(state: State) -> dict[str, int]:
    return {kind: len(list(state.alive(kind))) for kind in state.things}


EVERYTHING = {
    "project": 1,
    "user": 3,
    "storage": 2,
    "webhook": 2,
    "ml_backend": 1,
    "view": 1,
    "task": 3,
    "annotation": 3,
    "prediction": 2,
    "draft": 2,
}


def test_everything_in_the_project_lands_in_the_log(work: Workplace) -> None:
    work.run()
    assert counted(work.state()) == EVERYTHING
    assert work.annotation(9)["was_cancelled"] is True
    assert work.annotation(8)["unique_id"]
    progress = work.progress()
    assert (progress["state"], progress["done"], progress["total"]) == ("complete", "3", "3")
    assert progress["message"] == ""
    assert "cursor" not in progress


def test_no_secret_reaches_the_log(work: Workplace) -> None:
    work.run()
    text = "".join(work.here.store.get(key).decode() for key in work.objects())
    assert "a-webhook-secret" not in text
    assert "0" * 40 not in text


def test_the_log_itself_says_that_the_baseline_is_complete(work: Workplace) -> None:
    assert work.state().baseline_completed_at is None
    work.run()
    assert work.state().baseline_completed_at is not None
    assert [one.kind for one in work.records() if one.event == BASELINE_COMPLETED] == ["project"]


def test_followers_are_enqueued(work: Workplace) -> None:
    work.run()
    assert work.jobs(jobs.CURRENT) == [("workers.current.refresh", [UID])]
    upload = work.label_studio.tasks[0]["data"]["image"]
    assert work.jobs(jobs.MEDIA) == [("workers.media.copy", [UID, [upload]])]


def test_a_second_run_writes_only_that_it_was_complete(work: Workplace) -> None:
    work.run()
    before = work.objects()
    work.run()
    (added,) = set(work.objects()) - set(before)
    assert [one.event for one in read_object(work.here.store, added)] == [BASELINE_COMPLETED]
    assert counted(work.state()) == EVERYTHING


def test_each_page_is_one_object(work: Workplace) -> None:
    with_pages_of(work, 2)
    work.label_studio.add_tasks(4)
    work.run()
    pages = [read_object(work.here.store, key) for key in work.objects()]
    tasks = [[int(one.id) for one in page if one.kind == "task"] for page in pages]
    assert [ids for ids in tasks if ids] == [[13, 14], [15, 16], [17, 18], [19]]
    assert len({one.event_id for one in pages[1]}) == 1


def test_what_webhooks_told_already_is_not_written_again(work: Workplace) -> None:
    for number, body in enumerate(sample("api_received_webhooks")):
        work.append(
            *events.records_of(json.dumps(body).encode(), event_id=f"e{number}", received_at=work.here.now())
        )
    work.run()
    again = [(one.kind, one.id) for one in work.records() if one.source == "baseline"]
    # Task 15 was touched after its last webhook (a draft and a prediction send none); annotation 8 is as told.
    assert [id for kind, id in again if kind == "task"] == ["15"]
    assert [id for kind, id in again if kind == "annotation"] == ["7"]
    assert counted(work.state()) == EVERYTHING


# --- what differs from the record


def test_an_annotation_that_was_moved_silently_is_moved_in_the_record(work: Workplace) -> None:
    work.run()
    annotation = work.label_studio.annotation(8)
    annotation["task"] = 14
    work.label_studio.tasks[1]["annotations"].append(annotation)
    work.label_studio.tasks[2]["annotations"].remove(annotation)
    work.run("an event without a payload")
    assert work.annotation(8)["task"] == 14
    newest = work.state().thing("annotation", "8")
    assert newest is not None
    assert newest.record is not None
    before = parse_time(annotation["updated_at"])
    assert newest.record.version is not None
    assert before is not None
    assert (newest.record.version - before).microseconds == 1


def test_a_thing_that_the_record_believes_deleted_is_opened_again(work: Workplace) -> None:
    work.run()
    stamp = Stamp(
        event_id="forged", received_at=work.here.now(), source="webhook", event="ANNOTATIONS_DELETED"
    )
    work.append(delete("annotation", "8", stamp))
    assert "8" not in [one.record.id for one in work.state().alive("annotation") if one.record]
    work.run()
    assert "8" in [one.record.id for one in work.state().alive("annotation") if one.record]


def test_a_delete_that_arrives_while_a_page_is_read_stands(work: Workplace) -> None:
    real = work.label_studio.exported

    def exported(project_id: int, task_ids: list[int]) -> list[dict[str, Any]]:
        answer = real(project_id, task_ids)
        stamp = Stamp(
            event_id="d", received_at=work.here.now(), source="webhook", event="ANNOTATIONS_DELETED"
        )
        work.append(delete("annotation", "8", stamp))
        return answer

    work.label_studio.exported = exported  # type: ignore[method-assign]
    work.run()
    assert "8" not in [one.record.id for one in work.state().alive("annotation") if one.record]
    assert "9" in [one.record.id for one in work.state().alive("annotation") if one.record]


def test_a_doubt_that_passes_by_itself_is_not_written(work: Workplace) -> None:
    work.run()
    real = work.label_studio.tasks_after
    seen: list[int] = []

    def tasks_after(project_id: int, after_id: int, *, page_size: int) -> list[dict[str, Any]]:
        answer = real(project_id, after_id, page_size=page_size)
        for task in answer:
            for annotation in task["annotations"]:
                if annotation["id"] == 8 and not seen:
                    seen.append(8)
                    annotation["result"] = ["read in the middle of something"]
        return answer

    work.label_studio.tasks_after = tasks_after  # type: ignore[method-assign]
    work.run()
    assert seen
    assert work.annotation(8)["result"][0]["id"] == "r2"


# --- dying and coming again


def test_a_run_that_is_cut_off_goes_on_after_the_last_page(work: Workplace) -> None:
    with_pages_of(work, 1)
    work.label_studio.fail["exported"] = [Unavailable("Label Studio restarts")]
    with pytest.raises(Unavailable):
        work.run()
    progress = work.progress()
    assert (progress["state"], progress["cursor"], progress["done"]) == ("queued", "13", "1")
    assert "Label Studio restarts" in progress["message"]
    work.label_studio.asked.clear()
    work.run(jobs.NOT_FINISHED)
    assert work.label_studio.asked.count("tasks_after") == 3  # 14, 15, nothing more
    assert counted(work.state()) == EVERYTHING
    assert (work.progress()["state"], work.progress()["done"]) == ("complete", "3")


def test_another_wish_begins_from_the_first_task(work: Workplace) -> None:
    with_pages_of(work, 1)
    work.label_studio.fail["exported"] = [Unavailable("Label Studio restarts")]
    with pytest.raises(Unavailable):
        work.run()
    work.label_studio.asked.clear()
    work.run("an event without a payload")
    assert work.label_studio.asked.count("tasks_after") == 4


def test_a_run_that_was_cut_off_long_ago_begins_again(work: Workplace) -> None:
    with_pages_of(work, 1)
    work.label_studio.fail["exported"] = [Unavailable("Label Studio restarts")]
    with pytest.raises(Unavailable):
        work.run()
    work.clock.sleep(3 * 24 * 3600)
    work.label_studio.asked.clear()
    work.run(jobs.NOT_FINISHED)
    assert work.label_studio.asked.count("tasks_after") == 4


class Killed(BaseException):
    """As SIGKILL ends a process: nothing of ours runs afterwards, least of all a handler of ours."""


@pytest.mark.parametrize("step", ["hset", "hdel"])
@pytest.mark.parametrize("number", range(1, 7))
def test_a_run_that_is_killed_between_any_two_writes_is_finished_by_the_next(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    with_pages_of(work, 1)
    calls = 0
    real: Callable[..., Any] = getattr(work.here.redis, step)

    def dying(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise Killed
        return real(*args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(work.here.redis, step, dying)
        try:
            work.run()
        except Killed:
            pass
    work.here.redis.delete(names.baseline_lock(UID))  # as its time to live does
    work.run(jobs.NOT_FINISHED)
    assert counted(work.state()) == EVERYTHING
    assert work.progress()["state"] == "complete"


def test_a_run_that_is_killed_between_two_objects_is_finished_by_the_next(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_pages_of(work, 1)
    for number in range(1, 6):
        puts = 0
        real = work.here.store.put

        def dying(
            key: str, body: bytes, *, content_type: str = "", last: int = number, real: Any = real
        ) -> None:
            nonlocal puts
            puts += 1
            if puts == last:
                raise Killed
            real(key, body, content_type=content_type)

        with monkeypatch.context() as patched:
            patched.setattr(work.here.store, "put", dying)
            try:
                work.run()
            except Killed:
                pass
        work.here.redis.delete(names.baseline_lock(UID), names.log_lock(UID))
    work.run(jobs.NOT_FINISHED)
    assert counted(work.state()) == EVERYTHING


def test_a_request_during_a_run_has_it_repeated_afterwards(work: Workplace) -> None:
    real = work.label_studio.users

    def users() -> list[dict[str, Any]]:
        work.run("the webhook was repaired")  # what another worker would do now
        return real()

    work.label_studio.users = users  # type: ignore[method-assign]
    work.run()
    assert work.progress()["state"] == "complete"
    assert work.jobs(jobs.BASELINE) == [("workers.baseline.run", [UID, "the webhook was repaired"])]
    assert "again" not in work.progress()


def test_the_sweep_during_a_run_has_nothing_repeated(work: Workplace) -> None:
    real = work.label_studio.users

    def users() -> list[dict[str, Any]]:
        work.run(jobs.NOT_FINISHED)
        return real()

    work.label_studio.users = users  # type: ignore[method-assign]
    work.run()
    assert work.jobs(jobs.BASELINE) == []


def test_a_run_whose_bucket_was_lost_meanwhile_does_not_call_itself_complete(work: Workplace) -> None:
    with_pages_of(work, 1)
    real = work.label_studio.exported

    def exported(project_id: int, task_ids: list[int]) -> list[dict[str, Any]]:
        if task_ids == [15]:
            for key in work.objects():
                work.here.store.delete(key)
            forget(work.here.redis, UID)
        return real(project_id, task_ids)

    work.label_studio.exported = exported  # type: ignore[method-assign]
    work.run()
    assert work.progress().get("state") != "complete"
    ((_, (uid, reason)),) = work.jobs(jobs.BASELINE)
    work.label_studio.exported = real  # type: ignore[method-assign]
    baseline.run(uid, reason)
    assert counted(work.state()) == EVERYTHING


# --- what ends a run


def test_label_studio_down_has_the_queue_try_again(work: Workplace) -> None:
    work.label_studio.fail["project"] = [Unavailable("no answer from Label Studio")]
    with pytest.raises(Unavailable):
        work.run()
    assert work.progress()["state"] == "queued"
    assert not work.here.redis.exists(names.baseline_lock(UID))


def test_a_project_that_is_gone_is_said_once(work: Workplace) -> None:
    work.label_studio.answer["project"]["id"] = 99
    work.run()
    assert work.progress()["state"] == "failed"
    assert "no project 4" in work.progress()["message"]
    assert work.objects() == []


def test_another_project_under_the_same_id_is_never_written_into_this_record(work: Workplace) -> None:
    work.label_studio.answer["project"]["created_at"] = "2027-01-01T00:00:00Z"
    work.run()
    assert work.progress()["state"] == "failed"
    assert "another project has the id 4" in work.progress()["message"]
    assert "sidecar connect 4" in work.progress()["message"]
    assert work.objects() == []


def test_a_project_that_is_replaced_meanwhile_is_not_called_complete(work: Workplace) -> None:
    real = work.label_studio.views

    def views(project_id: int) -> list[dict[str, Any]]:
        answer = real(project_id)
        work.label_studio.answer["project"]["created_at"] = "2027-01-01T00:00:00Z"
        return answer

    work.label_studio.views = views  # type: ignore[method-assign]
    work.run()
    assert work.progress()["state"] == "failed"
    assert work.state().baseline_completed_at is None


def test_a_page_that_another_label_studio_answered_is_not_written(work: Workplace) -> None:
    """One came up at the same address after the first page, with another project under the id."""
    with_pages_of(work, 1)
    real = work.label_studio.tasks_after

    def tasks_after(project_id: int, after_id: int, *, page_size: int) -> list[dict[str, Any]]:
        if after_id == 13:
            work.label_studio.answer["project"]["created_at"] = "2027-01-01T00:00:00Z"
        return real(project_id, after_id, page_size=page_size)

    work.label_studio.tasks_after = tasks_after  # type: ignore[method-assign]
    work.run()
    assert [one.record.id for one in work.state().alive("task") if one.record] == ["13"]
    assert work.progress()["state"] == "failed"
    assert "another project has the id 4" in work.progress()["message"]


def test_each_page_with_something_new_costs_one_look_at_the_project(work: Workplace) -> None:
    with_pages_of(work, 1)
    work.run()
    pages, at_both_ends, surroundings = (
        3,
        2,
        2,
    )  # the surroundings hold the project, and are asked for like a page
    assert work.label_studio.asked.count("project") == pages + at_both_ends + surroundings
    work.label_studio.asked.clear()
    work.run()
    assert work.label_studio.asked.count("project") == at_both_ends + 1


def test_the_lock_is_kept_while_an_export_takes_longer_than_it_lives(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline, "LOCK_TTL_S", 4)
    real = work.label_studio.exported

    def exported(project_id: int, task_ids: list[int]) -> list[dict[str, Any]]:
        wait_until_extended(work.here.redis, names.baseline_lock(UID))
        return real(project_id, task_ids)

    work.label_studio.exported = exported  # type: ignore[method-assign]
    work.run()
    assert work.progress()["state"] == "complete"
    assert counted(work.state()) == EVERYTHING


def test_a_refused_token_is_said_once(work: Workplace) -> None:
    work.label_studio.fail["users"] = [Refused("401: the token is not accepted")]
    work.run()
    assert work.progress()["state"] == "failed"
    assert "401" in work.progress()["message"]


def test_a_disconnected_project_is_read_no_further(work: Workplace) -> None:
    with_pages_of(work, 1)
    real = work.label_studio.tasks_after

    def tasks_after(project_id: int, after_id: int, *, page_size: int) -> list[dict[str, Any]]:
        work.here.redis.srem(names.WANTED, UID)
        return real(project_id, after_id, page_size=page_size)

    work.label_studio.tasks_after = tasks_after  # type: ignore[method-assign]
    work.run()
    assert work.label_studio.asked.count("tasks_after") == 1
    assert work.progress()["state"] != "complete"
    work.run()
    assert work.label_studio.asked.count("tasks_after") == 1


def test_a_missing_bucket_is_said_with_what_to_do(work: Workplace) -> None:
    for info in list(work.here.store.keys()):
        work.here.store.delete(info.key)
    assert isinstance(work.here.store, S3Store)
    work.here.store._client.delete_bucket(Bucket=work.here.store.bucket)
    work.run()
    assert work.progress()["state"] == "failed"
    assert "correct BUCKET" in work.progress()["message"]


def test_a_task_that_cannot_be_read_costs_itself_only_and_is_named(work: Workplace) -> None:
    work.label_studio.tasks[1]["created_at"] = "soon"
    work.run()
    progress = work.progress()
    assert progress["state"] == "complete"
    assert progress["message"].startswith("1 things could not be read: task 14")
    assert counted(work.state())["task"] == 2
    assert work.here.redis.hget(names.COUNTERS, "baseline_unreadable") == b"1"


def test_live_events_that_met_our_lock_are_drained_at_once(work: Workplace) -> None:
    entry = stream.Entry(event_id="e", received_at=work.here.now(), source="webhook", action="X", body=b"{}")
    stream.append(work.here.redis, UID, entry)
    queue.open_queue(work.here.redis, jobs.LIVE).empty()  # a drain came, found the log locked, and went
    work.run()
    assert ("workers.archive.drain", [UID]) in work.jobs(jobs.LIVE)
