"""Comparing by command line and API, with a worker next door: a real Redis, a bucket in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.errors import Refused
from bridge.jobs import Job
from bridge.reconcile import LIGHT
from bridge.settings import SidecarSettings, WorkersSettings
from bridge.store import MemoryStore
from sidecar.api_reconcile import make_blueprint
from sidecar.cli import cli
from sidecar.clients import Clients
from tests.desks import api_of
from tests.fakes import Clock, FakeLabelStudio
from tests.integration.test_reconcile import GONE, UID, Workplace, deleted, imported
from tests.unit.sidecar.fakes import ENVIRON
from workers import baseline, context, reading

TOKEN = {"Authorization": f"Bearer {ENVIRON['API_TOKEN']}"}


class Desk:
    """Where an operator sits. `works`: whether a worker takes jobs."""

    def __init__(self, connection: redis.Redis, work: Workplace) -> None:
        self.connection, self.work, self.works = connection, work, True
        self.clients = Clients(
            settings=SidecarSettings.from_env(ENVIRON),
            label_studio=work.label_studio,  # type: ignore[arg-type]
            redis=connection,
            store=work.here.store,
            check_bucket=lambda: None,
            enqueue=self._enqueue,
        )

    def _enqueue(self, connection: redis.Redis, job: Job) -> str:
        id = queue.enqueue(connection, job)
        if self.works:
            SimpleWorker(
                [queue.open_queue(connection, jobs.RECONCILE)],
                connection=connection,
                serializer=JSONSerializer,
            ).work(burst=True, logging_level="ERROR")
        return id

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments, obj=self.clients)

    @property
    def api(self) -> FlaskClient:
        return api_of(make_blueprint(self.clients.settings, self.clients))


@pytest.fixture
def desk(
    redis_client: redis.Redis,
    workers_settings: WorkersSettings,
    monkeypatch: pytest.MonkeyPatch,
    _no_context_left: None,
) -> Desk:
    label_studio, clock = FakeLabelStudio(), Clock()
    here = context.Context(
        workers_settings,
        connection=redis_client,
        store=MemoryStore(),
        label_studio=label_studio,  # type: ignore[arg-type]
        now=clock,
    )
    context.install(here)
    redis_client.sadd(names.WANTED, UID)
    monkeypatch.setattr(reading, "CONFIRM_AFTER_S", 0)
    baseline.run(UID, "connect")
    return Desk(redis_client, Workplace(here, label_studio, clock))


def test_a_dry_run_shows_what_a_run_then_repairs(desk: Desk) -> None:
    imported(desk.work)
    before = desk.work.objects()
    dry = desk.run("reconcile", UID, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "3 would be repaired" in dry.output
    assert "annotation 70: was missing in the record (no webhook brought it)" in dry.output
    assert desk.work.objects() == before
    done = desk.run("reconcile", UID)
    assert "3 repaired" in done.output
    assert "the record says what Label Studio says" in desk.run("reconcile", UID).output


def test_held_deletions_say_how_to_accept_them_and_fail(desk: Desk) -> None:
    desk.work.grow(60)
    del desk.work.label_studio.tasks[3:]
    held = desk.run("reconcile", UID)
    assert held.exit_code == 1
    assert f"python -m sidecar reconcile {UID} --accept-deletions" in held.output
    assert "HELD: 60 of 63 of kind task" in desk.run("reconcile", "--list").output
    accepted = desk.run("reconcile", UID, "--accept-deletions", "--json")
    assert accepted.exit_code == 0
    assert json.loads(accepted.stdout)["counts"] == {"task deleted": 60}


def test_a_project_that_is_gone_is_named_by_its_uid(desk: Desk) -> None:
    desk.work.label_studio.answer["project"]["id"] = GONE
    said = desk.run("reconcile", UID)
    assert said.exit_code == 0
    assert "does not have the project since" in said.output


def test_all_connected_projects_one_after_the_other(desk: Desk) -> None:
    deleted(desk.work)
    found = json.loads(desk.run("reconcile", "--all", "--json", "--depth", "light").stdout)
    assert [(one["project"], one["depth"], one["counts"]) for one in found] == [
        (UID, "light", {"task deleted": 1})
    ]


@pytest.mark.parametrize("arguments", [[], [UID, "--all"], [UID, "--dry-run", "--accept-deletions"]])
def test_what_cannot_be_meant_is_said(desk: Desk, arguments: list[str]) -> None:
    assert desk.run("reconcile", *arguments).exit_code != 0
    assert len(queue.open_queue(desk.connection, jobs.RECONCILE)) == 0


def test_without_a_worker_the_command_says_so(desk: Desk) -> None:
    desk.works = False
    said = desk.run("reconcile", UID, "--wait-seconds", "0.5")
    assert said.exit_code == 1
    assert "is a worker of the queue `reconcile` running?" in said.output
    assert "queued" in desk.run("reconcile", UID, "--no-wait", "--json").stdout


def test_label_studio_down_is_said_in_one_line(desk: Desk) -> None:
    desk.work.label_studio.fail["project"] = [Refused("the token is not accepted")]
    said = desk.run("reconcile", UID)
    assert said.exit_code == 1
    assert "the token is not accepted" in said.output


def test_the_api_lists_repairs_newest_first(desk: Desk) -> None:
    imported(desk.work)
    desk.run("reconcile", UID)
    deleted(desk.work)
    desk.run("reconcile", UID)
    assert desk.api.get("/api/repairs").status_code == 401
    found: dict[str, Any] = desk.api.get(f"/api/repairs?project={UID}", headers=TOKEN).get_json()
    assert (found["repairs"][0]["kind"], found["repairs"][0]["what"]) == ("task", "deleted")
    assert {one["project"] for one in found["repairs"]} == {UID}
    assert len(desk.api.get("/api/repairs?count=1", headers=TOKEN).get_json()["repairs"]) == 1
    assert desk.api.get("/api/repairs?count=many", headers=TOKEN).status_code == 400


def test_of_several_scheduled_looks_that_waited_the_first_serves_all(desk: Desk) -> None:
    desk.works = False
    for _ in range(3):
        desk._enqueue(desk.connection, jobs.reconcile(UID, LIGHT))
    desk._enqueue(desk.connection, jobs.reconcile(UID, LIGHT, "repair", "a-person"))
    waiting = queue.open_queue(desk.connection, jobs.RECONCILE)
    assert [job.args[3] for job in waiting.jobs] == [
        "a-person",
        "",
        "",
        "",
    ]  # who waits at the screen comes first
    desk.work.clock.sleep(5)
    desk.works = True
    waiting.pop_job_id()  # the person's look is not what this test is about
    requests = []
    for _ in range(3):
        before = desk.work.label_studio.requests
        SimpleWorker([waiting], connection=desk.connection, serializer=JSONSerializer).work(
            burst=True, max_jobs=1, logging_level="ERROR"
        )
        requests.append(desk.work.label_studio.requests - before)
    assert requests[0] > 0
    assert requests[1:] == [0, 0]
