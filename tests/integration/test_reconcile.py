"""Comparing the record with Label Studio: a real Redis, a bucket in memory, a Label Studio fed with recorded answers."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis

from bridge import events, jobs, reconcile
from bridge.edges import queue, repairs, stream
from bridge.edges import redis as names
from bridge.edges.log import log_keys, read_records, read_state
from bridge.edges.restore import read_state as state_to_restore
from bridge.edges.stream import Entry
from bridge.errors import Refused, Unavailable
from bridge.keys import project_uid
from bridge.reconcile import ACCEPT, DRY_RUN, FULL, INCREMENTAL, LIGHT, REPAIR
from bridge.records import Record, format_time, parse_time
from bridge.restore import MARK, source_of
from bridge.settings import WorkersSettings
from bridge.state import State
from bridge.store import MemoryStore
from tests.conftest import sample
from tests.fakes import GONE, Clock, FakeLabelStudio
from workers import archive, baseline, context, reading, reconcile_sweep, scheduler, snapshot
from workers import reconcile as job

BORN = parse_time(sample("api_project")["created_at"])
assert BORN is not None
UID = project_uid(sample("api_project")["id"], BORN)
SECRET = "a-webhook-secret"
OUR_URL = "http://sidecar.example:9100"


class Workplace:
    """A project whose baseline is complete, and what a test does and wants to know."""

    def __init__(self, here: context.Context, label_studio: FakeLabelStudio, clock: Clock) -> None:
        self.here, self.label_studio, self.clock = here, label_studio, clock

    def run(self, depth: str = FULL, mode: str = REPAIR, *, token: str = "asked") -> dict[str, Any]:
        job.run(UID, depth, mode, token)
        found = repairs.read_result(self.here.redis, token)
        assert found is not None
        return found

    def objects(self) -> list[str]:
        return [info.key for info in log_keys(self.here.store, self.here.layout(UID))]

    def records(self) -> list[Record]:
        return list(read_records(self.here.store, self.here.layout(UID)))

    def state(self) -> State:
        return read_state(self.here.store, self.here.layout(UID))

    def alive(self, kind: str) -> list[str]:
        return [one.record.id for one in self.state().alive(kind) if one.record]

    def told(self, body: dict[str, Any]) -> None:
        """A webhook that reached the log."""
        heard = Entry(
            event_id=f"e{self.here.now()}", received_at=self.here.now(), source="webhook",
            action=body["action"], body=json.dumps(body).encode(),
        )  # fmt: skip
        stream.append(self.here.redis, UID, heard)
        archive.drain(UID)

    def touch(self, task: dict[str, Any], seconds: float = 60) -> str:
        """Label Studio notes a change of a task, by its own clock."""
        newest = max(datetime.fromisoformat(one["updated_at"]) for one in self.label_studio.tasks)
        task["updated_at"] = format_time(newest + timedelta(seconds=seconds))
        return str(task["updated_at"])

    def grow(self, count: int) -> None:
        self.label_studio.add_tasks(count)
        self.run()


@pytest.fixture
def work(
    redis_client: redis.Redis,
    workers_settings: WorkersSettings,
    monkeypatch: pytest.MonkeyPatch,
    _no_context_left: None,
) -> Workplace:
    label_studio, clock = FakeLabelStudio(), Clock()
    label_studio.answer["webhooks"] = []
    here = context.Context(
        workers_settings,
        connection=redis_client,
        store=MemoryStore(),
        label_studio=label_studio,  # type: ignore[arg-type]
        now=clock,
    )
    context.install(here)
    redis_client.sadd(names.WANTED, UID)
    # Our clock goes on instead of the test waiting.
    monkeypatch.setattr(reading, "CONFIRM_AFTER_S", 0)
    baseline.run(UID, "connect")
    return Workplace(here, label_studio, clock)


def counts(result: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = result["counts"]
    return found


# --- what webhooks do not say


def test_where_nothing_differs_nothing_is_written(work: Workplace) -> None:
    before = work.objects()
    for depth in reconcile.DEPTHS:
        assert counts(work.run(depth)) == {}
    assert work.objects() == before


def imported(work: Workplace) -> None:
    """POST /import with annotations and predictions, or a storage sync: TASKS_CREATED at best, without them."""
    new = copy.deepcopy(work.label_studio.tasks[1])
    new |= {"id": 20, "created_at": work.touch(new), "draft_exists": False}
    new["annotations"][0] |= {"id": 70, "task": 20, "created_at": new["created_at"]}
    new["predictions"][0] |= {"id": 71, "task": 20, "created_at": new["created_at"]}
    work.label_studio.tasks.append(new)


def converted(work: Workplace) -> None:
    """convert-to-draft: the annotation is gone, the task touched."""
    work.label_studio.tasks[1]["annotations"].clear()
    work.touch(work.label_studio.tasks[1])


def patched(work: Workplace) -> None:
    work.label_studio.tasks[0]["meta"] = {"checked": True}
    work.touch(work.label_studio.tasks[0])


def configured(work: Workplace) -> None:
    work.label_studio.answer["project"]["title"] = "another title"


def predicted(work: Workplace) -> None:
    new = copy.deepcopy(work.label_studio.tasks[1]["predictions"][0])
    work.label_studio.tasks[0]["predictions"].append(new | {"id": 80, "task": 13})


def deleted(work: Workplace) -> None:
    """A task with its annotation and prediction, by DELETE /api/projects/ID/tasks/ or without its webhook."""
    del work.label_studio.tasks[1]


def moved(work: Workplace) -> None:
    """remove_duplicates: the annotation goes to another task, its own updated_at stays."""
    annotation = work.label_studio.tasks[1]["annotations"][0]
    work.label_studio.tasks[0]["annotations"].append(annotation | {"task": 13})
    del work.label_studio.tasks[1]


def view_removed(work: Workplace) -> None:
    work.label_studio.answer["views"].clear()


def user_added(work: Workplace) -> None:
    users = work.label_studio.answer["users"]
    users.append(copy.deepcopy(users[0]) | {"id": 99, "email": "new@example.com"})


def drafted(work: Workplace) -> None:
    """A draft touches nothing."""
    task, exported = work.label_studio.tasks[0], work.label_studio.answer["export"][0]
    draft = copy.deepcopy(work.label_studio.tasks[2]["drafts"][0]) | {"id": 90, "task": task["id"]}
    task["draft_exists"] = True
    exported["drafts"].append(draft)


GAPS: list[tuple[Callable[[Workplace], None], str, dict[str, int]]] = [
    (imported, INCREMENTAL, {"task missing": 1, "annotation missing": 1, "prediction missing": 1}),
    (converted, INCREMENTAL, {"annotation deleted": 1}),
    (patched, INCREMENTAL, {"task outdated": 1}),
    (configured, INCREMENTAL, {"project outdated": 1}),
    (predicted, LIGHT, {"prediction missing": 1}),
    (deleted, LIGHT, {"task deleted": 1}),
    (moved, LIGHT, {"annotation outdated": 1, "task deleted": 1}),
    (view_removed, LIGHT, {"view deleted": 1}),
    (user_added, LIGHT, {"user missing": 1}),
    (drafted, FULL, {"draft missing": 1}),
]


@pytest.mark.parametrize(("change", "depth", "expected"), GAPS, ids=[row[0].__name__ for row in GAPS])
def test_what_no_webhook_says_is_found(
    work: Workplace, change: Callable[[Workplace], None], depth: str, expected: dict[str, int]
) -> None:
    work.run(LIGHT)
    change(work)
    dry = work.run(depth, DRY_RUN)
    assert counts(dry) == expected, "a dry run shows the same"
    assert counts(work.run(depth)) == expected
    assert counts(work.run(FULL)) == {}, "the record says what Label Studio says"


@pytest.mark.parametrize("change", [converted, deleted, moved, predicted], ids=lambda one: str(one.__name__))
def test_what_a_snapshot_holds_is_compared_too(work: Workplace, change: Callable[[Workplace], None]) -> None:
    work.run(LIGHT)
    snapshot.make(UID)
    assert list(work.here.store.keys(f"{work.here.layout(UID).root}snapshots/"))
    change(work)
    (expected,) = (row[2] for row in GAPS if row[0] is change)
    assert counts(work.run(LIGHT)) == expected
    assert counts(work.run(FULL)) == {}


def test_a_moved_annotation_lives_on_its_new_task(work: Workplace) -> None:
    moved(work)
    work.run(LIGHT)
    thing = work.state().thing("annotation", "7")
    assert thing is not None
    assert thing.data["task"] == 13
    assert "7" in work.alive("annotation")


def test_a_dry_run_changes_nothing(work: Workplace) -> None:
    before = work.objects(), work.here.redis.hgetall(names.COUNTERS)
    imported(work)
    deleted(work)
    work.run(FULL, DRY_RUN)
    assert (work.objects(), work.here.redis.hgetall(names.COUNTERS)) == before
    assert repairs.listed(work.here.redis, UID) == []
    assert not work.here.redis.exists(names.reconcile(UID))


def test_what_webhooks_told_is_no_repair_and_costs_no_fold_of_the_log(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.run(LIGHT)
    task = work.label_studio.tasks[1]
    annotation = task["annotations"][0]
    annotation |= {"lead_time": 77, "updated_at": work.touch(task)}
    body = {"action": "ANNOTATION_UPDATED", "annotation": annotation, "task": task}
    work.told(body | {"project": work.label_studio.answer["project"]})
    with monkeypatch.context() as patched:
        patched.setattr(reading.Reader, "load", lambda _: pytest.fail("the log was folded"))
        assert counts(work.run(INCREMENTAL)) == {}


def a_b_a(work: Workplace) -> None:
    """A is told by webhook, B is found by a look, and then an older backup shows A as it was."""
    work.run(LIGHT)
    task = work.label_studio.tasks[1]
    annotation = task["annotations"][0]
    annotation |= {"lead_time": 77, "updated_at": work.touch(task)}
    project = work.label_studio.answer["project"]
    body = {"action": "ANNOTATION_UPDATED", "annotation": annotation, "task": task, "project": project}
    work.told(json.loads(json.dumps(body)))
    assert counts(work.run(INCREMENTAL)) == {}
    as_told = copy.deepcopy(task)
    annotation |= {"lead_time": 88, "updated_at": work.touch(task)}
    assert counts(work.run(INCREMENTAL)) == {"annotation outdated": 1}
    work.label_studio.tasks[1] = as_told


@pytest.mark.parametrize("depth", reconcile.DEPTHS)
def test_what_webhooks_told_before_a_look_found_something_else_is_not_taken_for_known(
    work: Workplace, depth: str
) -> None:
    a_b_a(work)
    assert counts(work.run(depth)) == {"annotation outdated": 1}
    thing = work.state().thing("annotation", "7")
    assert thing is not None
    assert thing.data["lead_time"] == 77
    assert counts(work.run(FULL)) == {}


def test_a_webhook_that_told_it_is_compared_again_once_a_look_has_ended_the_thing(work: Workplace) -> None:
    """Told by webhook, found gone by a look, and back as it was: an incremental look opens it again."""
    work.run(LIGHT)
    task = work.label_studio.tasks[1]
    annotation = task["annotations"][0]
    annotation |= {"lead_time": 77, "updated_at": work.touch(task)}
    project = work.label_studio.answer["project"]
    body = {"action": "ANNOTATION_UPDATED", "annotation": annotation, "task": task, "project": project}
    work.told(json.loads(json.dumps(body)))
    as_told = copy.deepcopy(task)
    converted(work)
    assert counts(work.run(INCREMENTAL)) == {"annotation deleted": 1}
    work.label_studio.tasks[1] = as_told
    assert counts(work.run(INCREMENTAL)) == {"annotation reopened": 1}


def test_a_webhook_on_its_way_is_waited_for(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    work.run(LIGHT)
    converted(work)

    def speaks(reader: reading.Reader) -> None:
        work.told({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 7}]})
        reader.catch_up()

    monkeypatch.setattr(reading.Reader, "let_webhooks_speak", speaks)
    assert counts(work.run(INCREMENTAL)) == {}
    assert "7" not in work.alive("annotation")


def test_a_wrong_delete_is_repaired(work: Workplace) -> None:
    work.told({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 7}]})
    assert "7" not in work.alive("annotation")
    assert counts(work.run(LIGHT)) == {"annotation reopened": 1}
    assert "7" in work.alive("annotation")


def test_content_that_changed_under_the_same_time_wins_by_a_tick(work: Workplace) -> None:
    work.label_studio.annotation(8)["result"] = []
    work.run(FULL)
    thing = work.state().thing("annotation", "8")
    assert thing is not None
    assert thing.data["result"] == []


# --- deletes


def test_a_thing_is_deleted_only_when_label_studio_says_so_itself(work: Workplace) -> None:
    """A listing that leaves something out (a page that shifted, a locked database) deletes nothing."""
    real = work.label_studio.task_counts_after

    def shifted(*args: Any, **more: Any) -> list[dict[str, Any]]:
        return [row for row in real(*args, **more) if row["id"] != 14]

    work.label_studio.task_counts_after = shifted  # type: ignore[method-assign]
    assert counts(work.run(LIGHT)) == {}
    assert "GET /api/tasks/14/" in work.label_studio.asked
    assert "14" in work.alive("task")


def test_an_id_that_was_given_out_again_ends_the_old_one_and_opens_the_new(work: Workplace) -> None:
    annotation = work.label_studio.annotation(7)
    annotation |= {"created_at": work.touch(work.label_studio.tasks[1]), "result": []}
    work.run(INCREMENTAL)
    work.run(LIGHT)
    thing = work.state().thing("annotation", "7")
    assert thing is not None
    assert thing.alive
    assert thing.data["result"] == []
    assert len(thing.incarnations) == 2


def test_what_came_after_the_reading_began_is_not_asked_for(work: Workplace) -> None:
    real = work.label_studio.task_counts_after

    def then_told(*args: Any, **more: Any) -> list[dict[str, Any]]:
        rows = real(*args, **more)
        new = work.label_studio.tasks[0] | {"id": 50, "annotations": [], "predictions": []}
        work.told({"action": "TASKS_CREATED", "tasks": [new], "project": work.label_studio.answer["project"]})
        return rows

    work.label_studio.task_counts_after = then_told  # type: ignore[method-assign]
    work.run(LIGHT)
    assert "50" in work.alive("task")


def test_many_deletions_are_held_until_a_person_accepts_them(work: Workplace) -> None:
    work.grow(60)
    del work.label_studio.tasks[3:]
    asked = len(work.label_studio.asked)
    result = work.run(FULL)
    assert result["held"]["counts"] == {"task": 60}
    assert len(work.label_studio.asked) - asked < 20, "no direct question for each of them"
    assert len(work.alive("task")) == 63
    assert repairs.held_of(work.here.redis, UID)["counts"] == {"task": 60}
    work.run(INCREMENTAL)
    assert repairs.held_of(work.here.redis, UID), "a look at some tasks says nothing of the others"
    assert counts(work.run(FULL, ACCEPT)) == {"task deleted": 60}
    assert len(work.alive("task")) == 3
    assert repairs.held_of(work.here.redis, UID) == {}


def test_fifty_deletions_are_carried_out(work: Workplace) -> None:
    work.grow(50)
    del work.label_studio.tasks[3:]
    assert counts(work.run(LIGHT)) == {"task deleted": 50}


def test_held_deletions_that_were_a_mistake_go_away_by_themselves(work: Workplace) -> None:
    work.grow(60)
    there = list(work.label_studio.tasks)
    del work.label_studio.tasks[3:]
    assert work.run(LIGHT)["held"]
    work.label_studio.answer["tasks"]["tasks"] = there
    assert not work.run(LIGHT)["held"]
    assert repairs.held_of(work.here.redis, UID) == {}


def test_nothing_is_deleted_when_the_project_goes_away_meanwhile(work: Workplace) -> None:
    del work.label_studio.tasks[1]
    real = work.label_studio.get

    def get(path: str) -> dict[str, Any]:
        work.label_studio.answer["project"]["id"] = GONE
        return real(path)

    work.label_studio.get = get  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="went away"):
        work.run(LIGHT)
    assert "14" in work.alive("task")


# --- the project itself


def fresh_label_studio(work: Workplace) -> None:
    """Another installation at the same address, counting from 1: another project has the id."""
    work.label_studio.answer["project"]["created_at"] = "2027-01-01T00:00:00Z"
    work.label_studio.tasks.clear()


def project_deleted(work: Workplace) -> None:
    """Or a token that does not see it: Label Studio says the same."""
    work.label_studio.answer["project"]["id"] = GONE


@pytest.mark.parametrize("change", [fresh_label_studio, project_deleted])
@pytest.mark.parametrize("depth", reconcile.DEPTHS)
def test_a_project_that_is_gone_is_absent_and_keeps_its_contents(
    work: Workplace, change: Callable[[Workplace], None], depth: str
) -> None:
    work.run(LIGHT)
    before = {kind: work.alive(kind) for kind in ("task", "annotation", "prediction", "draft", "user")}
    kept = copy.deepcopy(work.label_studio.answer)
    change(work)
    assert counts(work.run(depth)) == {"project absent": 1}
    for again in reconcile.DEPTHS:
        assert counts(work.run(again, ACCEPT)) == {}
    assert work.state().absent_since is not None
    assert [r.event for r in work.records() if r.op == "delete"] == [reconcile.PROJECT_ABSENT]
    assert {kind: work.alive(kind) for kind in before} == before
    work.label_studio.answer = kept
    assert counts(work.run(depth)) == {"project found_again": 1}
    assert work.state().absent_since is None
    assert repairs.absent_since(work.here.redis, UID) == ""


def test_a_project_that_is_listed_but_not_shown_is_not_absent(work: Workplace) -> None:
    work.label_studio.elsewhere = [copy.deepcopy(work.label_studio.answer["project"])]
    work.label_studio.answer["project"]["id"] = GONE
    with pytest.raises(Unavailable, match="lists the project"):
        work.run(LIGHT)
    assert work.state().absent_since is None


@pytest.mark.parametrize("depth", reconcile.DEPTHS)
def test_what_another_label_studio_answered_is_not_written(work: Workplace, depth: str) -> None:
    """It came up at the same address after the project was asked for: its tasks are not of this project."""
    work.run(LIGHT)
    imported(work)
    before, kept = work.objects(), work.label_studio.exported

    def exported(*arguments: Any) -> list[dict[str, Any]]:
        work.label_studio.answer["project"]["created_at"] = "2027-01-01T00:00:00Z"
        return kept(*arguments)

    work.label_studio.exported = exported  # type: ignore[method-assign]
    result = work.run(depth)
    assert work.objects() == before
    assert (result["state"], counts(result)) == ("failed", {})
    assert "another project has the id 4" in result["message"]
    assert counts(work.run(LIGHT)) == {"project absent": 1}


def test_a_token_that_is_refused_says_nothing_of_the_project(work: Workplace) -> None:
    work.label_studio.fail["project"] = [Refused("401")]
    assert work.run(FULL)["state"] == "failed"
    assert work.state().absent_since is None


class Backup:
    """A project after work that a backup does not have: annotation 7 changed, five tasks more."""

    def __init__(self, work: Workplace) -> None:
        self.work = work
        self.older = copy.deepcopy(work.label_studio.answer)
        annotation = work.label_studio.annotation(7)
        annotation |= {"lead_time": 77, "updated_at": work.touch(work.label_studio.tasks[1])}
        work.label_studio.add_tasks(5)
        work.run(FULL)
        self.newer = copy.deepcopy(work.label_studio.answer)

    def put_back(self, answer: dict[str, Any]) -> None:
        self.work.label_studio.answer = copy.deepcopy(answer)


@pytest.fixture
def backup(work: Workplace) -> Backup:
    return Backup(work)


def test_what_an_older_backup_lacks_is_held_however_little_it_is(work: Workplace, backup: Backup) -> None:
    """Content that went back is what is there; that something went back says why the rest is missing."""
    revisions = len(work.records())
    backup.put_back(backup.older)
    result = work.run(LIGHT)
    assert counts(result) == {"annotation outdated": 1}
    assert result["held"]["counts"] == {"task": 5}
    assert "older backup" in result["held"]["reason"]
    assert len(work.records()) > revisions
    assert {r.data.get("lead_time") for r in work.records() if r.id == "7" and r.kind == "annotation"} >= {77}


def test_much_that_an_older_backup_lacks_is_held_for_both_reasons(work: Workplace, backup: Backup) -> None:
    work.grow(60)
    backup.put_back(backup.older)
    reason = work.run(LIGHT)["held"]["reason"]
    assert "older backup before 2" in reason
    assert reason.endswith("65 of 68 of kind task are not in Label Studio any more")


@pytest.mark.parametrize("depth", reconcile.DEPTHS)
def test_what_an_older_backup_lacks_stays_held_though_the_record_has_followed_it(
    work: Workplace, backup: Backup, depth: str
) -> None:
    backup.put_back(backup.older)
    work.run(LIGHT)
    for _ in range(2):
        assert counts(work.run(depth)) == {}
        assert repairs.held_of(work.here.redis, UID)["counts"] == {"task": 5}
    converted(work)
    assert counts(work.run(INCREMENTAL)) == {}, "nor is anything else deleted before a person has looked"
    assert repairs.held_of(work.here.redis, UID)["counts"] == {"task": 5}, "and people still see all of it"
    assert work.run(LIGHT)["held"]["counts"] == {"task": 5, "annotation": 1}
    assert len(work.alive("task")) == 8


def test_a_baseline_that_meets_an_older_backup_first_has_its_deletions_held_too(
    work: Workplace, backup: Backup
) -> None:
    backup.put_back(backup.older)
    baseline.run(UID, "connect")
    assert work.run(LIGHT)["held"]["counts"] == {"task": 5}


def test_a_dry_run_says_that_an_older_backup_would_be_held(work: Workplace, backup: Backup) -> None:
    backup.put_back(backup.older)
    assert work.run(FULL, DRY_RUN)["held"]["counts"] == {"task": 5}
    assert repairs.held_of(work.here.redis, UID) == {}
    assert repairs.older(work.here.redis, UID) == ""


def test_an_older_backup_is_recognised_by_the_time_of_a_task_alone(work: Workplace) -> None:
    """The annotation that was made since is gone, and its task has the time before it: its content is the same."""
    older = copy.deepcopy(work.label_studio.answer)
    imported(work)
    work.touch(work.label_studio.tasks[0])
    work.run(FULL)
    work.label_studio.answer = older
    assert work.run(LIGHT)["held"]["counts"] == {"task": 1}


def test_deletions_of_an_older_backup_that_a_person_accepts_are_the_end_of_it(
    work: Workplace, backup: Backup
) -> None:
    backup.put_back(backup.older)
    work.run(LIGHT)
    assert counts(work.run(FULL, ACCEPT)) == {"task deleted": 5}
    after = work.run(LIGHT)
    assert (counts(after), after["tasks_compared"]) == ({}, 0), "what went back is not found anew each time"
    deleted(work)
    assert counts(work.run(LIGHT)) == {"task deleted": 1}, "later deletions are as before"


def test_a_newer_label_studio_put_back_while_they_were_held_lets_go(work: Workplace, backup: Backup) -> None:
    backup.put_back(backup.older)
    work.run(LIGHT)
    backup.put_back(backup.newer)
    result = work.run(LIGHT)
    assert (counts(result), result["held"]) == ({"annotation outdated": 1}, {})
    assert repairs.held_of(work.here.redis, UID) == {}
    assert len(work.alive("task")) == 8
    after = work.run(LIGHT)
    assert (counts(after), after["tasks_compared"]) == ({}, 0), (
        "what came forth again is not found anew each time"
    )
    deleted(work)
    assert counts(work.run(LIGHT)) == {"task deleted": 1}


def test_what_was_deleted_with_an_older_backup_comes_back_by_restore_or_by_the_newer_one(
    work: Workplace, backup: Backup
) -> None:
    backup.put_back(backup.older)
    reason = work.run(FULL)["held"]["reason"]
    assert counts(work.run(FULL, ACCEPT)) == {"task deleted": 5}
    assert len(work.alive("task")) == 3
    # What `restore --at` the time that people were told would send.
    told = re.search(r"before (\S+Z): ", reason)
    assert told is not None
    source = source_of(*state_to_restore(work.here.store, work.here.layout(UID), parse_time(told[1])))
    assert source is not None
    assert len(source.tasks) == 8
    assert 77 in [one.get("lead_time") for task in source.tasks for one in task.annotations]
    # And what reconcile does when the newer Label Studio is there again.
    backup.put_back(backup.newer)
    assert counts(work.run(LIGHT)) == {"annotation outdated": 1, "task reopened": 5}
    assert len(work.alive("task")) == 8
    assert counts(work.run(FULL)) == {}


# --- clocks


@pytest.mark.parametrize("skew", [timedelta(minutes=10), timedelta(minutes=-10)])
def test_our_clock_may_differ_from_label_studios(work: Workplace, skew: timedelta) -> None:
    work.run(LIGHT)
    work.clock.sleep(skew.total_seconds())
    patched(work)
    assert counts(work.run(INCREMENTAL)) == {"task outdated": 1}


def test_a_clock_of_label_studio_that_was_ahead_for_a_while_hides_nothing_later(work: Workplace) -> None:
    now = max(datetime.fromisoformat(task["updated_at"]) for task in work.label_studio.tasks)
    work.label_studio.now = now
    work.label_studio.tasks[0]["updated_at"] = format_time(now + timedelta(days=365))
    work.run(LIGHT)
    work.label_studio.tasks[1]["meta"] = {"later": 1}
    work.label_studio.tasks[1]["updated_at"] = format_time(now + timedelta(seconds=30))
    assert counts(work.run(INCREMENTAL)) == {"task outdated": 1}


def test_a_project_where_nobody_works_costs_three_requests_each_minute(work: Workplace) -> None:
    """As docs/reconcile.md says: the project, its webhooks, the tasks that were touched."""
    with_secret(work)
    work.grow(60)
    work.run(LIGHT)
    work.clock.sleep(600)
    listed = work.label_studio.tasks_updated_since
    rows: list[int] = []

    def counting(*args: Any, **more: Any) -> list[dict[str, Any]]:
        found = listed(*args, **more)
        rows.append(len(found))
        return found

    work.label_studio.tasks_updated_since = counting  # type: ignore[method-assign]
    work.label_studio.tasks[5]["updated_at"] = work.touch(work.label_studio.tasks[5], 300)
    work.run(INCREMENTAL)
    work.clock.sleep(600)
    work.run(INCREMENTAL)
    work.label_studio.asked.clear()
    assert work.run(INCREMENTAL)["requests"] == 3
    assert work.label_studio.asked == ["project", "webhooks", "tasks_updated_since"]
    assert rows[-1] == 1


def test_a_change_that_is_committed_late_is_found_within_the_overlap(work: Workplace) -> None:
    work.run(LIGHT)
    patched(work)
    work.run(INCREMENTAL)
    late = work.label_studio.tasks[1]
    late |= {"meta": {"late": 1}, "updated_at": format_time(
        datetime.fromisoformat(work.label_studio.tasks[0]["updated_at"]) - timedelta(seconds=30)
    )}  # fmt: skip
    assert counts(work.run(INCREMENTAL)) == {"task outdated": 1}


# --- the webhook


def with_secret(work: Workplace) -> None:
    work.here.settings = dataclasses.replace(work.here.settings, webhook_secret=SECRET, sidecar_url=OUR_URL)


def test_a_removed_webhook_is_registered_again_and_what_it_missed_is_looked_for(work: Workplace) -> None:
    work.run(LIGHT)
    with_secret(work)
    deleted(work)
    result = work.run(INCREMENTAL)
    assert counts(result) == {"webhook webhook": 1, "webhook missing": 1, "task deleted": 1}
    (hook,) = work.label_studio.answer["webhooks"]
    assert (hook["url"], hook["headers"]) == (f"{OUR_URL}/webhook", {events.SECRET_HEADER: SECRET})
    assert counts(work.run(INCREMENTAL)) == {}


@pytest.mark.parametrize(
    "damage", [{"is_active": False}, {"headers": {}}, {"send_payload": False}, {"actions": []}]
)
def test_a_webhook_that_was_switched_off_or_lost_its_secret_is_repaired(
    work: Workplace, damage: dict[str, Any]
) -> None:
    with_secret(work)
    work.run(LIGHT)
    whole = copy.deepcopy(work.label_studio.answer["webhooks"])
    work.label_studio.answer["webhooks"][0].update(damage)
    dry = work.run(INCREMENTAL, DRY_RUN)
    assert counts(dry)["webhook webhook"] == 1
    assert work.label_studio.answer["webhooks"] != whole
    assert counts(work.run(INCREMENTAL))["webhook webhook"] == 1
    assert work.label_studio.answer["webhooks"] == whole


def test_a_webhook_that_carries_our_secret_elsewhere_is_left_alone(work: Workplace) -> None:
    """A worker whose SIDECAR_URL is wrong must not take the events away from the sidecar."""
    with_secret(work)
    work.run(LIGHT)
    work.label_studio.answer["webhooks"][0]["url"] = "http://the-real-sidecar.example/webhook"
    changed = list(work.label_studio.changed)
    work.run(LIGHT)
    assert work.label_studio.changed == changed


def test_a_project_that_was_disconnected_gets_no_webhook(work: Workplace) -> None:
    with_secret(work)
    work.here.redis.srem(names.WANTED, UID)
    work.run(LIGHT)
    assert work.label_studio.changed == []


def test_a_webhook_that_cannot_be_repaired_costs_itself_only(work: Workplace) -> None:
    with_secret(work)
    imported(work)
    work.label_studio.fail["POST /api/webhooks/"] = [Refused("403 a reserved network address")]
    result = work.run(FULL)
    assert "reserved network address" in result["message"]
    assert counts(result)["task missing"] == 1


# --- dying and coming again


class Killed(BaseException):
    """As SIGKILL ends a process."""


def test_a_full_run_that_was_killed_goes_on_where_it_stopped_and_forgets_no_deletion(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.here.settings = dataclasses.replace(work.here.settings, baseline_page_size=1)
    work.label_studio.answer["tasks"]["tasks"] = work.label_studio.tasks[1:]  # 13 is gone
    real = work.label_studio.tasks_after

    def dying(project_id: int, after_id: int, *, page_size: int) -> list[dict[str, Any]]:
        if after_id >= 14:
            raise Killed
        return real(project_id, after_id, page_size=page_size)

    with monkeypatch.context() as patched:
        patched.setattr(work.label_studio, "tasks_after", dying)
        with pytest.raises(Killed):
            work.run(FULL)
    work.here.redis.delete(names.reconcile_lock(UID))  # as its time to live does
    work.label_studio.asked.clear()
    assert counts(work.run(FULL)) == {"task deleted": 1}
    assert work.label_studio.asked.count("tasks_after") == 2  # 15, nothing more
    assert not work.here.redis.exists(names.reconcile_missing(UID))


@pytest.mark.parametrize("number", range(1, 5))
def test_a_run_that_is_killed_at_any_object_is_finished_by_the_next(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    imported(work)
    user_added(work)
    del work.label_studio.tasks[0]
    real, puts = work.here.store.put, 0

    def dying(key: str, body: bytes, *, content_type: str = "") -> None:
        nonlocal puts
        puts += 1
        if puts == number:
            raise Killed
        real(key, body, content_type=content_type)

    with monkeypatch.context() as patched:
        patched.setattr(work.here.store, "put", dying)
        try:
            work.run(FULL)
        except Killed:
            pass
    work.here.redis.delete(names.reconcile_lock(UID), names.log_lock(UID))
    work.run(FULL)
    assert sorted(work.alive("task")) == ["14", "15", "20"]
    assert counts(work.run(FULL)) == {}


def test_label_studio_down_is_tried_again_by_a_person_and_left_to_the_schedule(work: Workplace) -> None:
    work.label_studio.fail["project"] = [Unavailable("no answer"), Unavailable("no answer")]
    with pytest.raises(Unavailable):
        work.run(FULL)
    job.run(UID, INCREMENTAL)
    assert not work.here.redis.exists(names.reconcile_lock(UID))


def test_two_runs_at_once_are_one(work: Workplace) -> None:
    lock = work.here.redis.lock(names.reconcile_lock(UID), timeout=60)
    assert lock.acquire(blocking=False)
    asked = len(work.label_studio.asked)
    job.run(UID, LIGHT)
    assert len(work.label_studio.asked) == asked
    assert work.here.redis.sismember(names.REREAD, UID), "what it was for is looked at afterwards"


# --- what an operator sees, and what the scheduler asks for


def test_every_repair_is_counted_and_listed(work: Workplace) -> None:
    imported(work)
    deleted(work)
    work.run(FULL)
    counters = work.here.redis.hgetall(names.COUNTERS)
    assert (counters[b"reconcile_missing"], counters[b"reconcile_deleted"]) == (b"3", b"1")
    listed = repairs.listed(work.here.redis, UID)
    assert {(one["kind"], one["id"], one["what"]) for one in listed} == {
        ("task", "20", "missing"), ("annotation", "70", "missing"), ("prediction", "71", "missing"),
        ("task", "14", "deleted"),
    }  # fmt: skip
    assert all(one["at"] and one["why"] for one in listed)


def queued(work: Workplace, name: str = jobs.RECONCILE) -> list[tuple[str, list[Any]]]:
    found = queue.open_queue(work.here.redis, name).jobs
    return [(one.func_name, list(one.args)) for one in found]


def test_the_scheduler_asks_once_until_the_look_was_taken(work: Workplace) -> None:
    assert reconcile_sweep.tick(work.here) == [(UID, LIGHT)]
    assert reconcile_sweep.tick(work.here) == []
    assert ("workers.reconcile.run", [UID, LIGHT, REPAIR, ""]) in queued(work)
    job.run(UID, LIGHT)
    assert reconcile_sweep.tick(work.here) == []
    work.clock.sleep(61)
    assert reconcile_sweep.tick(work.here) == [(UID, INCREMENTAL)]


def test_while_the_baseline_reads_nothing_is_compared(work: Workplace) -> None:
    work.here.redis.hset(names.baseline(UID), "state", "running")
    assert reconcile_sweep.tick(work.here) == []


def test_an_event_without_a_payload_has_the_project_compared(work: Workplace) -> None:
    work.here.redis.sadd(names.REREAD, UID)
    assert scheduler.sweep_rereads(work.here.redis) == [UID]
    assert queued(work) == [("workers.reconcile.run", [UID, LIGHT, REPAIR, ""])]
    work.here.redis.sadd(names.REREAD, UID)
    assert scheduler.sweep_rereads(work.here.redis) == [], "many such events in a row are one look"


def test_deleted_tasks_have_the_project_looked_at_soon(work: Workplace) -> None:
    """Label Studio's remove_duplicates sends TASKS_DELETED, and no word of the annotations that it moved."""
    project = work.label_studio.answer["project"]
    moved(work)
    work.told({"action": "TASKS_DELETED", "tasks": [{"id": 14}], "project": project})
    assert "7" not in work.alive("annotation")
    assert scheduler.sweep_rereads(work.here.redis) == [UID]
    (found,) = queued(work)
    job.run(*found[1])
    assert "7" in work.alive("annotation")


def another_project(work: Workplace) -> str:
    other = copy.deepcopy(work.label_studio.answer["project"]) | {"id": 9, "title": "new"}
    work.label_studio.elsewhere = [other]
    assert BORN is not None
    return project_uid(9, BORN)


def test_a_project_that_nobody_connected_is_listed_and_left_alone(work: Workplace) -> None:
    uid = another_project(work)
    with_secret(work)
    reconcile_sweep.find_projects()
    assert work.here.redis.hgetall(names.UNCONNECTED) == {uid.encode(): b"new"}
    assert work.label_studio.changed == []


def test_a_new_project_is_connected_where_the_settings_say_so(work: Workplace) -> None:
    uid = another_project(work)
    with_secret(work)
    work.here.settings = dataclasses.replace(work.here.settings, connect_new_projects=True)
    reconcile_sweep.find_projects()
    assert work.here.redis.sismember(names.WANTED, uid)
    assert ("POST", "/api/webhooks/") in work.label_studio.changed
    assert queued(work, jobs.BASELINE)[-1] == ("workers.baseline.run", [uid, "a new project"])
    assert not work.here.redis.exists(names.UNCONNECTED)


def test_a_project_that_a_restore_is_at_is_not_connected_before_it_is_whole(work: Workplace) -> None:
    uid = another_project(work)
    with_secret(work)
    work.here.settings = dataclasses.replace(work.here.settings, connect_new_projects=True)
    work.label_studio.elsewhere[-1]["description"] = f"not complete yet. {MARK}0123456789abcdef]"
    reconcile_sweep.find_projects()
    assert not work.here.redis.sismember(names.WANTED, uid)
    assert work.label_studio.changed == []


def test_a_project_that_a_person_disconnected_is_not_connected_again(work: Workplace) -> None:
    with_secret(work)
    work.here.settings = dataclasses.replace(work.here.settings, connect_new_projects=True)
    work.here.redis.srem(names.WANTED, UID)
    reconcile_sweep.find_projects()
    assert work.label_studio.changed == []
    assert work.here.redis.hexists(names.UNCONNECTED, UID)


def test_a_project_without_a_record_is_not_begun_by_comparing(work: Workplace) -> None:
    work.here.redis.srem(names.WANTED, UID)
    for key in work.objects():
        work.here.store.delete(key)
    work.here.redis.delete(names.last_key(UID))
    result = work.run(FULL)
    assert (result["state"], work.objects()) == ("stopped", [])
    assert "connect 4" in result["message"]
