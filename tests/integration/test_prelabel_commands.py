"""Asking for pre-labelling by command line and API: a real Redis, a bucket over HTTP, an ML backend over HTTP."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import redis
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from rq import SimpleWorker, Worker
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges import prelabel as registry
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.edges.s3 import S3Store
from bridge.settings import WorkersSettings
from ml_backend.handover import Handover, give_by_redis
from sidecar.api_prelabel import make_blueprint
from sidecar.cli import cli
from sidecar.clients import Clients
from tests.desks import api_of, settings_on
from tests.integration.conftest import free_port
from tests.prelabelling import UID, Backend, Studio, serving
from tests.unit.sidecar.fakes import ENVIRON
from workers import context, prelabel

TOKEN = {"Authorization": f"Bearer {ENVIRON['API_TOKEN']}"}


class Desk:
    """Where an operator sits, with a worker next door."""

    def __init__(self, clients: Clients, studio: Studio, backend: Backend) -> None:
        self.clients, self.studio, self.backend = clients, studio, backend

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["prelabel", *arguments], obj=self.clients)

    def work(self) -> None:
        SimpleWorker(
            [queue.open_queue(self.clients.redis, jobs.PRELABEL)],
            connection=context.current().redis,
            serializer=JSONSerializer,
        ).work(burst=True, logging_level="CRITICAL")

    @property
    def api(self) -> FlaskClient:
        return api_of(make_blueprint(self.clients.settings, self.clients))


@pytest.fixture
def desk(
    redis_client: redis.Redis, store: S3Store, workers_settings: WorkersSettings, _no_context_left: None
) -> Iterator[Desk]:
    studio, backend = Studio(12), Backend()
    with serving(backend) as url:
        context.install(
            context.Context(
                dataclasses.replace(workers_settings, ml_backend_url=url),
                connection=redis_client,
                store=store,
                label_studio=studio,  # type: ignore[arg-type]
            )
        )
        clients = Clients(
            settings=settings_on(workers_settings.s3, ML_BACKEND_URL=url),
            label_studio=studio,  # type: ignore[arg-type]
            redis=redis_client,
            store=store,
            check_bucket=store.check,
        )
        yield Desk(clients, studio, backend)


def test_the_command_begins_waits_and_reports(desk: Desk) -> None:
    good = desk.backend.item
    desk.backend.item = lambda task: (
        {"result": [], "error": "no such image"} if task["id"] == 5 else good(task)
    )
    begun = desk.run("7", "--no-wait")
    assert begun.exit_code == 0, begun.output
    id = begun.output.split()[0]
    assert "queued" in begun.output
    desk.work()
    shown = desk.run("show", id).output
    assert "written     11" in shown
    assert "1 x no such image" in shown
    assert "12 selected (unlabeled)" in shown
    assert f"prelabels/{id}/report.jsonl" in shown
    assert "11 written, 0 there, 1 failed of 12  (complete)" in desk.run("list", UID).output
    desk.backend.item = good
    desk.run("resume", id, "--no-wait")
    desk.work()
    assert json.loads(desk.run("show", id, "--json").output)["counts"]["failed"] == 0


def test_waiting_for_a_job_ends_with_it_and_says_that_a_task_failed(desk: Desk) -> None:
    good = desk.backend.item
    desk.backend.item = lambda task: {"result": [], "error": "broken"} if task["id"] == 5 else good(task)
    id = desk.run("7", "--no-wait").output.split()[0]
    desk.work()
    worker = threading.Thread(target=lambda: _when_asked(desk))
    worker.start()
    waited = desk.run("resume", id)
    worker.join()
    assert waited.exit_code == 1
    assert "queued" in waited.stderr
    assert "complete: 1 task failed" in waited.stdout
    assert "1 task failed" in waited.stderr


def _when_asked(desk: Desk) -> None:
    """Do the job's parts as they come, on a thread beside the one that waits (SimpleWorker wants the first)."""
    deadline = time.monotonic() + 60
    here = context.current()
    while time.monotonic() < deadline:
        (id,) = registry.newest(here.redis)
        if not registry.Ledger(here.redis, id).is_running:
            time.sleep(0.05)
            continue
        prelabel.run(UID, id)
        for name in registry.Ledger(here.redis, id).chunks():
            prelabel.chunk(UID, id, name)
        prelabel.finish(UID, id)
        return


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["7", "--filter", "unlabelled"], "unknown filter 'unlabelled'"),
        (["7", "--model", "shapes.9"], "no model version 'shapes.9' (it lists shapes.t0.3,0.5.m1)"),
        (["7", "--model", "shape"], "no model version 'shape' (it lists shapes.t0.3,0.5.m1)"),
        (["show", "7"], "'7' is no pre-labelling job"),
        (["show", f"{UID}-0123456789ab"], "there is no pre-labelling job"),
        (["stop", f"{UID}-0123456789ab"], "there is no pre-labelling job"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(desk: Desk, arguments: list[str], said: str) -> None:
    found = desk.run(*arguments)
    assert found.exit_code == 1
    assert said in found.output
    assert not registry.newest(desk.clients.redis)


def test_weights_alone_mean_their_version_for_the_config_of_now(desk: Desk) -> None:
    desk.backend.listed = ["discs.12345678.t0.9.m9", "discs.12345678.t0.5.m1", "shapes.t0.3,0.5.m1"]
    refused = desk.run("7", "--model", "discs.12345678")
    assert (refused.exit_code, "may be several" in refused.output) == (1, True)
    assert "discs.12345678.t0.9.m9, discs.12345678.t0.5.m1" in refused.output
    desk.backend.possible = desk.backend.listed[1:]
    refused = desk.run("7", "--model", desk.backend.listed[0])  # of a config there is no more
    assert (refused.exit_code, "no model version" in refused.output) == (1, True)
    assert not registry.newest(desk.clients.redis)
    assert desk.run("7", "--model", "discs.12345678", "--no-wait").exit_code == 0
    desk.backend.version = "discs.12345678.t0.5.m1"
    desk.work()
    assert {version for _, version in desk.studio.made()} == {"discs.12345678.t0.5.m1"}
    assert {one["model_version"] for one in desk.backend.params} == {"discs.12345678.t0.5.m1"}


def test_without_an_ml_backend_the_setting_is_named(desk: Desk) -> None:
    settings = dataclasses.replace(desk.clients.settings, ml_backend_url=None)
    desk.clients = dataclasses.replace(desk.clients, settings=settings)
    assert "ML_BACKEND_URL" in desk.run("7").output


def test_a_job_can_be_stopped_and_resumed_by_command(desk: Desk) -> None:
    id = desk.run("7", "--no-wait", "--json")
    id = json.loads(id.stdout)["id"]
    assert "is being pre-labelled already" in desk.run("7").output
    assert "stopped by a person" in desk.run("stop", id).output
    desk.work()
    assert not desk.studio.predictions
    assert desk.run("resume", id, "--no-wait").exit_code == 0
    desk.work()
    assert "complete" in desk.run("show", id).output
    assert len(desk.studio.predictions) == 12


def test_whoever_waits_for_a_job_that_is_stopped_is_told_so(desk: Desk) -> None:
    def stop_when_begun() -> None:
        deadline = time.monotonic() + 60
        while not (found := registry.newest(desk.clients.redis)) and time.monotonic() < deadline:
            time.sleep(0.02)
        registry.stop(desk.clients.redis, found[0], datetime.now(UTC))

    stopping = threading.Thread(target=stop_when_begun)
    stopping.start()
    waited = desk.run("7")
    stopping.join()
    (id,) = registry.newest(desk.clients.redis)
    assert (waited.exit_code, f"prelabel resume {id}" in waited.stdout) == (1, True)
    assert "stopped by a person" in waited.stderr


def test_a_job_that_nobody_takes_says_which_worker_is_missing(desk: Desk) -> None:
    shown = desk.run("7", "--no-wait").output
    assert "nobody listens to the queue `prelabel`: start `python -m workers prelabel`" in shown


def test_a_selection_of_nothing_says_so(desk: Desk) -> None:
    id = desk.run("7", "--no-wait", "--filter", "ids=900-950").output.split()[0]
    desk.work()
    assert "no task was selected" in desk.run("show", id).output


def test_the_api_begins_shows_lists_stops_and_resumes(desk: Desk) -> None:
    body = {"project": 7, "filter": ["ids=1-4", "unlabeled"], "replace": True}
    begun = desk.api.post("/api/prelabel", json=body, headers=TOKEN)
    assert begun.status_code == 202
    id = begun.json["id"]
    stopped = desk.api.post(f"/api/prelabel/{id}/stop", headers=TOKEN)
    assert (stopped.status_code, stopped.json["state"]) == (200, "stopped")
    assert desk.api.post(f"/api/prelabel/{id}/resume", headers=TOKEN).status_code == 202
    desk.work()
    shown = desk.api.get(f"/api/prelabel/{id}", headers=TOKEN).json
    assert (shown["state"], shown["counts"]["written"]) == ("complete", 4)
    (one,) = desk.api.get(f"/api/prelabel?project={UID}", headers=TOKEN).json["jobs"]
    assert one["id"] == id


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"project": True},
        {"project": 7, "filters": "all"},
        {"project": 7, "filter": 3},
        {"project": 7, "view": "3"},
        {"project": 7, "replace": "yes"},
        {"project": 7, "model": 1},
    ],
)
def test_the_api_refuses_what_it_does_not_understand(desk: Desk, body: object) -> None:
    answer = desk.api.post("/api/prelabel", json=body, headers=TOKEN)
    assert answer.status_code == 400, answer.json
    assert not registry.newest(desk.clients.redis)


def test_the_api_asks_for_the_token(desk: Desk) -> None:
    for method, path in (
        ("POST", ""),
        ("GET", ""),
        ("GET", "/x"),
        ("POST", "/x/stop"),
        ("POST", "/x/resume"),
    ):
        assert desk.api.open(f"/api/prelabel{path}", method=method).status_code == 401


def test_a_request_too_large_is_handed_over_where_a_worker_listens(
    desk: Desk, workers_settings: WorkersSettings
) -> None:
    handover = Handover(give_by_redis(workers_settings.redis_url), budget_s=1)
    assert not handover.take(UID, [1, 2])
    listening = Worker(
        [queue.open_queue(desk.clients.redis, jobs.PRELABEL)], connection=desk.clients.redis, name="listening"
    )
    listening.register_birth()
    assert handover.take(UID, [1, 2])
    assert handover.take(UID, [2, 3])
    assert len(queue.open_queue(desk.clients.redis, jobs.PRELABEL).jobs) == 1, "one job for both"
    listening.register_death()
    desk.work()
    assert sorted(one["task"] for one in desk.studio.predictions) == [1, 2, 3]
    assert not desk.clients.redis.exists(names.prelabel_active(UID))


def test_a_backend_whose_redis_is_away_predicts_what_it_can() -> None:
    handover = Handover(give_by_redis(f"redis://127.0.0.1:{free_port()}/0"), budget_s=1)
    assert not handover.take(UID, [1])
