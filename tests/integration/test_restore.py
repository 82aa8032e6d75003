"""Bringing a project back: from a real log, under a real Redis, into a Label Studio in memory that can fail at any call."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from bridge.edges import restore as kept
from bridge.edges.log import LogWriter, read_state
from bridge.errors import NotFound, SenderError, Unavailable
from bridge.keys import Layout, LogKey, MediaKey
from bridge.records import Record
from bridge.restore import Order, restore_id
from bridge.settings import WorkersSettings
from bridge.state import BASELINE_COMPLETED
from bridge.store import MemoryStore
from tests.fakes import at, gone, record, seconds_text
from tests.restoring import FakeTarget, Killed
from workers import context, restore

UID = "4.1795328815"
PATH = "/data/upload/4/cea5609f-%C3%89toile_1.PNG"
PICTURE = b"a drawn star"
REGION = {"id": "r", "from_name": "label", "to_name": "image", "type": "rectanglelabels", "value": {"x": 1.5}}
OWN = "5e05452a-91ca-452a-a21c-1caec0cb9c3"


def story(layout: Layout) -> list[Record]:
    """A project with everything: gaps in inner_id, an upload, a skip, two ground truths, links, drafts, a deletion."""
    sha = hashlib.sha256(PICTURE).hexdigest()
    key = layout.media(MediaKey(sha256=sha, ext=".png"))

    def annotation(id: int, task: int, **more: Any) -> Record:
        data = {
            "result": [REGION],
            "was_cancelled": False,
            "ground_truth": False,
            "lead_time": 2.5,
            "completed_by": 7,
        }
        data |= {"unique_id": f"{OWN}{id}", "created_at": seconds_text(5), "updated_at": seconds_text(6)}
        return record("annotation", str(id), task=task, **data | more)

    def task(id: int, inner_id: int, **data: Any) -> Record:
        more = {"created_at": seconds_text(0), "meta": {"src": id} if id % 2 else {}}
        return record("task", str(id), inner_id=inner_id, data={"n": id} | data, **more)

    return [
        dataclasses.replace(
            record(
                "project",
                "4",
                title="Animals",
                label_config="<View/>",
                description="cats",
                model_version="v1",
            ),
            event=BASELINE_COMPLETED,
        ),
        record("user", "7", email="ann@example.com", username="ann", first_name="Ann", last_name="A"),
        record("user", "8", email="us@example.com", username="us"),
        task(11, 1, image=f"{PATH}?x=1"),
        task(12, 2),
        task(13, 5),
        task(14, 6),
        task(15, 3),
        task(16, 8),
        gone("task", "16", received=20, born=0),
        record("prediction", "1", task=11, result=[REGION], score=0.5, model_version="v1"),
        record("prediction", "2", task=11, result=[REGION], score=0.5, model_version="v1"),
        record(
            "prediction",
            "3",
            task=12,
            result=[{**REGION, "from_name": "old"}],
            score=None,
            model_version="v0",
        ),
        annotation(1, 11, parent_prediction=2),
        annotation(2, 11, completed_by=8, parent_annotation=1),
        annotation(3, 12, was_cancelled=True, result=[]),
        annotation(4, 14, ground_truth=True),
        annotation(5, 15, ground_truth=True),
        annotation(6, 15, ground_truth=True, completed_by=8),
        annotation(7, 16),
        record("draft", "1", task=13, user="us@example.com", result=[REGION], lead_time=1.0),
        record("draft", "2", task=13, user="ann@example.com", result=[REGION], lead_time=1.0),
        record("view", "1", data={"title": "Mine"}, order=1, user=1, project=4),
        dataclasses.replace(
            record("media", "1"),
            id=PATH,
            data={"id": PATH, "path": PATH, "key": key, "sha256": sha, "size_bytes": len(PICTURE)},
        ),
    ]


class DyingStore(MemoryStore):
    """Dies at one of its writes, before or after it is done."""

    fail_at, afterwards, puts = 0, False, 0

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        self.puts += 1
        now = self.puts == self.fail_at
        if not now or self.afterwards:
            super().put(key, body, content_type=content_type)
        if now:
            raise Killed


class World:
    """A bucket with the record, and an empty Label Studio."""

    def __init__(
        self, settings: WorkersSettings, connection: redis.Redis, records: Callable[[Layout], list[Record]]
    ):
        self.store, self.target = DyingStore(), FakeTarget()
        self.here = context.Context(
            settings,
            connection=connection,
            store=self.store,
            label_studio=self.target,  # type: ignore[arg-type]
        )
        self.layout = self.here.layout(UID)
        connection.flushall()
        sha = hashlib.sha256(PICTURE).hexdigest()
        self.store.put(self.layout.media(MediaKey(sha256=sha, ext=".png")), PICTURE)
        LogWriter(self.store, connection, self.layout).append(records(self.layout))
        self.order = self.ordered()
        self.store.puts = 0

    def ordered(self, **more: Any) -> Order:
        moment = datetime.now(UTC)
        given = {"id": restore_id(UID, moment, "here"), "uid": UID, "at": moment, "title": "Animals again"}
        given |= {"to": self.here.settings.label_studio.url, "asked_at": moment} | more
        return Order(**given)

    def run(self) -> dict[str, Any]:
        restore.Restore(self.here, self.order, beat=lambda: None, sleep=lambda _: None).run()
        uid = kept.made_uid(self.store, self.layout, self.order.id)
        assert uid is not None
        found = kept.read_json(self.store, self.here.layout(uid).restore_report)
        assert found is not None
        return found

    @property
    def project(self) -> int:
        (id,) = self.target.projects_by_id
        return id

    def annotation(self, import_id: int) -> dict[str, Any]:
        (one,) = [one for one in self.target.annotations.values() if one["import_id"] == import_id]
        return one

    def task(self, n: int) -> dict[str, Any]:
        (one,) = [one for one in self.target.tasks.values() if one["data"]["n"] == n]
        return one


@pytest.fixture
def make(workers_settings: WorkersSettings, redis_client: redis.Redis) -> Callable[..., World]:
    return lambda records=story: World(workers_settings, redis_client, records)


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()


def test_everything_comes_back_as_the_record_says(world: World) -> None:
    report = world.run()
    assert (report["differences"], report["ok"], report["complete"]) == ([], True, True)
    assert report["counts"] == {"tasks": 5, "annotations": 6, "predictions": 3, "drafts": 1, "views": 1}
    assert report["unique_ids"] == {"kept": 6, "derived": 0, "new": 0}
    project = world.target.projects_by_id[world.project]
    assert (project["title"], project["description"], project["model_version"]) == (
        "Animals again",
        "cats",
        "v1",
    )


def test_tasks_keep_their_inner_ids_where_others_were_deleted(world: World) -> None:
    world.run()
    assert {n: world.task(n)["inner_id"] for n in (11, 12, 13, 14, 15)} == {11: 1, 12: 2, 13: 5, 14: 6, 15: 3}


def test_an_upload_is_sent_again_and_the_task_leads_to_it(world: World) -> None:
    world.run()
    (file,) = world.target.files
    assert file["bytes"] == PICTURE
    image = world.task(11)["data"]["image"]
    assert image.startswith(f"/data/upload/{world.project}/")
    assert image.endswith(".PNG?x=1")


def test_authors_are_matched_by_address_and_made_where_unknown(world: World) -> None:
    world.run()
    ann = next(user for user in world.target.people if user["email"] == "ann@example.com")
    assert (ann["first_name"], ann["username"]) == ("Ann", "ann")
    assert world.annotation(1)["completed_by"] == ann["id"]
    assert world.annotation(2)["completed_by"] == 1


def test_two_ground_truths_of_one_task_both_come_back(world: World) -> None:
    world.run()
    assert [world.annotation(id)["ground_truth"] for id in (3, 4, 5, 6)] == [False, True, True, True]
    assert world.annotation(5)["unique_id"] == f"{OWN}5"


def test_what_an_annotation_was_made_from_is_named_again(world: World) -> None:
    world.run()
    assert world.annotation(2)["parent_annotation"] == world.annotation(1)["id"]
    assert world.annotation(1)["parent_prediction"] in world.target.predictions


def test_another_persons_draft_stays_in_the_record_and_is_named(world: World) -> None:
    report = world.run()
    assert [(one["kind"], one["id"], one["lost"]) for one in report["left_out"]] == [("draft", "2", False)]


def test_a_prediction_that_the_bulk_import_drops_is_sent_alone(world: World) -> None:
    world.target.refused_labels = {"old"}
    assert world.run()["ok"]


def test_original_ids_and_times_stay_in_meta_and_in_the_map(world: World) -> None:
    report = world.run()
    meta = world.task(11)["meta"]
    assert meta["src"] == 11
    assert meta["restored_from"]["task"] == 11
    assert meta["restored_from"]["annotations"][0]["unique_id"] == f"{OWN}1"
    lines = world.store.get(world.here.layout(report["project"]["uid"]).restore_ids).splitlines()
    rows = [json.loads(line) for line in lines]
    (row,) = [row for row in rows if row["kind"] == "annotation" and row["recorded"] == 4]
    assert (row["now"], row["unique_id_now"]) == (world.annotation(4)["id"], f"{OWN}4")


def test_the_new_projects_record_begins_with_where_it_comes_from(world: World) -> None:
    uid = world.run()["project"]["uid"]
    thing = read_state(world.store, world.here.layout(uid), None).thing("restore", world.order.id)
    assert thing is not None
    assert thing.data["restored_from"] == UID


def test_a_unique_id_that_is_taken_elsewhere_is_replaced_by_the_same_other_one_each_time(
    world: World,
) -> None:
    world.target.unique = {f"{OWN}1", f"{OWN}2"}
    report = world.run()
    assert report["ok"]
    assert report["unique_ids"] == {"kept": 4, "derived": 2, "new": 0}


def test_in_bulk_annotations_come_with_their_tasks(world: World) -> None:
    world.order = dataclasses.replace(world.order, bulk=True)
    report = world.run()
    assert (report["differences"], report["unique_ids"]["new"]) == ([], 6)


def test_one_bad_task_costs_itself_alone(make: Callable[..., World]) -> None:
    def records(layout: Layout) -> list[Record]:
        bad = record("task", "17", inner_id=9, data={"n": 17, "refused": True}, created_at=seconds_text(0))
        return [*story(layout), bad]

    world = make(records)
    report = world.run()
    assert report["counts"]["tasks"] == 5
    assert [one["id"] for one in report["left_out"] if one["kind"] == "task"] == ["17"]
    assert [(one["kind"], one["what"]) for one in report["differences"]] == [("task", "missing")]
    assert not report["ok"]


def test_an_author_who_cannot_be_named_stops_it_before_anything_is_made(make: Callable[..., World]) -> None:
    def records(layout: Layout) -> list[Record]:
        return [*story(layout), record("annotation", "9", task=12, result=[], completed_by=99)]

    world = make(records)
    with pytest.raises(SenderError, match="user 99"):
        world.run()
    assert world.target.projects_by_id == {}
    world.order = dataclasses.replace(world.order, users={"99": "us@example.com"})
    assert world.run()["ok"]
    assert world.annotation(9)["completed_by"] == 1


def test_a_second_run_of_a_finished_one_compares_and_changes_nothing(world: World) -> None:
    world.run()
    world.annotation(4)["lead_time"] = 99.0
    before = world.target.everything(world.project)
    report = world.run()
    assert report["compared_only"]
    assert [(one["id"], one["field"]) for one in report["differences"]] == [("4", "lead_time")]
    assert world.target.everything(world.project) == before


def test_a_project_that_the_note_forgot_is_found_by_its_tasks(world: World) -> None:
    world.run()
    world.store.delete(world.layout.restore_project(world.order.id))
    assert world.run()["ok"]
    assert len(world.target.projects_by_id) == 1


def test_it_never_writes_into_a_project_that_it_did_not_make(world: World) -> None:
    world.target.projects_by_id[4] = {"id": 4, "title": "Animals again", "created_at": "2026-11-22T05:00:00Z"}
    world.target.tasks[1] = {"id": 1, "project": 4, "inner_id": 1, "data": {"n": 1}, "meta": {}}
    world.run()
    assert [task["id"] for task in world.target.tasks.values() if task["project"] == 4] == [1]


@pytest.mark.parametrize(
    ("afterwards", "error", "bulk", "step"),
    [
        (True, Killed(), False, 1),  # done, and nobody noted it: the worst, so at every call
        (False, Killed(), False, 3),
        (True, Unavailable("no answer"), False, 3),
        (True, Killed(), True, 3),
    ],
    ids=["killed after", "killed before", "answer lost", "killed after, in bulk"],
)
def test_a_run_cut_off_at_any_call_is_finished_by_the_next_without_doubles(
    make: Callable[..., World], afterwards: bool, error: BaseException, bulk: bool, step: int
) -> None:
    whole = make()
    whole.target.unique = {f"{OWN}1"}
    whole.order = dataclasses.replace(whole.order, bulk=bulk)
    whole.run()
    for number in range(1, whole.target.calls + 1, step):
        world = make()
        # The record is written anew, a moment later than the first order was made.
        world.order = dataclasses.replace(whole.order, at=world.ordered().at)
        world.target.unique = {f"{OWN}1"}
        world.target.fail_at, world.target.afterwards, world.target.error = number, afterwards, error
        try:
            world.run()
        except (Killed, Unavailable):
            pass
        report = world.run()
        assert (report["differences"], report["ok"]) == ([], True), number
        assert len(world.target.projects_by_id) == 1, number
        assert len(world.target.people) == 2, number
        if not bulk:
            assert world.target.everything(world.project) == whole.target.everything(whole.project), number
        assert report["counts"] == {
            "tasks": 5,
            "annotations": 6,
            "predictions": 3,
            "drafts": 1,
            "views": 1,
        }, number


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
def test_a_run_killed_at_any_write_to_the_bucket_is_finished_by_the_next(
    make: Callable[..., World], afterwards: bool
) -> None:
    whole = make()
    whole.run()
    assert whole.store.puts >= 4
    for number in range(1, whole.store.puts + 1):
        world = make()
        world.store.fail_at, world.store.afterwards = number, afterwards
        with pytest.raises(Killed):
            world.run()
        assert world.run()["ok"], number
        assert len(world.target.projects_by_id) == 1, number


def test_a_task_that_was_imported_twice_is_removed_again(world: World) -> None:
    """A killed run's import that Label Studio finishes after the next run has looked."""
    world.run()
    world.store.delete(
        world.here.layout(kept.made_uid(world.store, world.layout, world.order.id) or "").restore_report
    )
    twin = dict(world.task(12))
    world.target.tasks[999] = twin | {"id": 999}
    assert world.run()["ok"]
    assert 999 not in world.target.tasks


def test_the_default_moment_is_the_last_at_which_the_project_was_there(world: World) -> None:
    present = kept.moment(world.store, world.layout, None)
    assert present.absent_since is None
    LogWriter(world.store, world.here.redis, world.layout).append(
        [
            gone("project", "4", received=31, born=0, observed=30),
            record("inference", "20", received=40, source="ml_backend"),
        ]
    )
    moment = kept.moment(world.store, world.layout, None)
    assert moment.absent_since == at(30)
    assert moment.at < at(30)
    assert moment.state.thing("inference", "20") is None


def test_a_project_that_still_sends_webhooks_is_there_whatever_our_token_was_shown(world: World) -> None:
    """A token that lost sight of it; or a door whose clock is ahead of the worker's who found the project gone."""
    LogWriter(world.store, world.here.redis, world.layout).append(
        [
            gone("project", "4", received=31, born=0, observed=30),
            record("task", "20", received=40, data={"n": 20}),
            record("inference", "21", received=50, source="ml_backend"),
        ]
    )
    moment = kept.moment(world.store, world.layout, None)
    assert (moment.absent_since, moment.at) == (at(30), at(40))
    assert moment.state.thing("task", "20") is not None


def test_the_default_moment_takes_in_what_a_door_with_a_clock_ahead_received(world: World) -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=5)
    late = dataclasses.replace(record("task", "20", data={"n": 20}), received_at=ahead)
    LogWriter(world.store, world.here.redis, world.layout).append([late])
    moment = kept.moment(world.store, world.layout, None)
    assert moment.at == ahead
    assert read_state(world.store, world.layout, moment.at).thing("task", "20") is not None


def test_a_log_object_that_is_damaged_is_named_and_costs_itself_only(world: World) -> None:
    key = world.layout.log(LogKey(position=1_795_312_999_000, sha="0" * 16))
    world.store.put(key, (record("task", "20", data={"n": 20}).to_json() + "\n").encode() + b'{"kind": "ta')
    report = world.run()
    assert not report["ok"]
    assert report["complete"], "no further run can bring back what the record itself lacks"
    assert ("log", key) in [(one["kind"], one["id"]) for one in report["left_out"]]


def test_a_time_before_the_record_is_refused_with_its_beginning_and_end(world: World) -> None:
    with pytest.raises(SenderError, match=f"goes from {seconds_text(10)} to "):
        kept.moment(world.store, world.layout, at(9))
    with pytest.raises(NotFound, match="no record of project"):
        kept.moment(world.store, world.here.layout("99.1"), None)
