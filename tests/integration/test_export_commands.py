"""Asking for exports by command line and API, and fetching their files: a real Redis and a bucket over HTTP."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from bridge import jobs
from bridge.edges import exports as registry
from bridge.edges import queue
from bridge.edges.s3 import S3Store
from bridge.settings import WorkersSettings
from sidecar.api_export import make_blueprint
from sidecar.cli import cli
from sidecar.clients import Clients
from tests.desks import api_of, settings_on
from tests.integration.test_export import PROJECT, RECORDS, UID, Workplace
from tests.unit.sidecar.fakes import ENVIRON, FakeLabelStudio
from workers import context

TOKEN = {"Authorization": f"Bearer {ENVIRON['API_TOKEN']}"}
PROJECT_ID = int(PROJECT.id)
JUNK = '<View><Image name="i" value="$x"/><Choices name="c" toName="i"><Choice value="a"/></Choices></View>'


class Desk:
    """Where an operator sits, with a worker next door."""

    def __init__(self, clients: Clients, studio: FakeLabelStudio, worker: Workplace) -> None:
        self.clients, self.studio, self.worker = clients, studio, worker

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments, obj=self.clients)

    @property
    def api(self) -> FlaskClient:
        return api_of(make_blueprint(self.clients.settings, self.clients))


@pytest.fixture
def desk(
    redis_client: redis.Redis, store: S3Store, workers_settings: WorkersSettings, _no_context_left: None
) -> Desk:
    here = context.Context(workers_settings, connection=redis_client, store=store)
    context.install(here)
    worker = Workplace(here)
    worker.append(*RECORDS)
    studio = FakeLabelStudio()
    studio.add_project(
        PROJECT_ID,
        "Everything",
        created_at=PROJECT.data["created_at"],
        label_config=PROJECT.data["label_config"],
    )
    clients = Clients(
        settings=settings_on(workers_settings.s3),
        label_studio=studio,  # type: ignore[arg-type]
        redis=redis_client,
        store=store,
        check_bucket=store.check,
    )
    return Desk(clients, studio, worker)


def test_the_command_asks_waits_shows_lists_and_downloads(desk: Desk, tmp_path: Path) -> None:
    asked = desk.run("export", "Everything", "--format", "coco")
    assert asked.exit_code == 0, asked.output
    assert ": queued" in asked.output
    desk.worker.work()
    waited = desk.run("export", "create", "Everything", "--format", "COCO", "--wait", "--json")
    export_id = json.loads(waited.stdout)["id"]
    assert export_id in asked.output
    shown = desk.run("export", "show", export_id).output
    assert "12 of 20 regions" in shown
    assert "left out    2 regions: COCO does not hold a choice" in shown
    assert export_id in desk.run("export", "list", UID).output
    fetched = desk.run("export", "download", export_id, "--to", str(tmp_path))
    assert fetched.exit_code == 0, fetched.output
    assert {path.name for path in (tmp_path / export_id).iterdir()} == {"coco.zip", "left_out.jsonl"}


def test_waiting_ends_with_what_went_wrong(desk: Desk) -> None:
    late = desk.run("export", UID, "--format", "JSON", "--wait", "--wait-seconds", "0")
    assert late.exit_code == 1
    assert "is a worker of the queue `exports` running?" in late.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("Everything", "--format", "YOLO"), "the formats are JSON, CSV, COCO, VOC"),
        (("Nothing", "--format", "JSON"), "no project with the id or title 'Nothing'"),
        (("9.1795312966", "--format", "JSON"), "the bucket holds nothing of the project 9.1795312966 yet"),
    ],
)
def test_a_wrong_request_is_one_line_that_says_what_to_do(
    desk: Desk, arguments: tuple[str, ...], told: str
) -> None:
    result = desk.run("export", *arguments)
    assert result.exit_code == 1
    assert told in result.output
    assert desk.worker.queued() == []


def test_a_format_that_does_not_fit_is_refused_at_once_when_label_studio_can_be_asked(desk: Desk) -> None:
    desk.studio.rows["projects"][PROJECT_ID]["label_config"] = JUNK
    result = desk.run("export", "Everything", "--format", "VOC")
    assert "needs <RectangleLabels>" in result.output
    assert desk.worker.queued() == []


def test_without_label_studio_an_id_is_found_in_the_bucket(desk: Desk) -> None:
    desk.studio.down = True
    assert desk.run("export", str(PROJECT_ID), "--format", "COCO").exit_code == 0
    assert desk.worker.queued() == ["workers.export.run"]


def test_the_api_asks_once_tells_how_it_is_and_hands_out_the_files(desk: Desk) -> None:
    body = {"project": PROJECT_ID, "format": "CSV"}
    first = desk.api.post("/api/exports", json=body, headers=TOKEN)
    second = desk.api.post("/api/exports", json=body, headers=TOKEN)
    assert (first.status_code, second.status_code) == (202, 202)
    export_id = first.get_json()["id"]
    assert second.get_json()["id"] == export_id
    assert desk.worker.queued() == ["workers.export.run"]
    early = desk.api.get(f"/api/exports/{export_id}/files/result.csv", headers=TOKEN)
    assert early.status_code == 400
    assert "queued" in early.get_json()["error"]
    desk.worker.work()
    assert desk.api.post("/api/exports", json=body, headers=TOKEN).status_code == 200
    view = desk.api.get(f"/api/exports/{export_id}", headers=TOKEN).get_json()
    assert (view["state"], view["counts"]["objects"]) == ("complete", 8)
    (listed,) = desk.api.get(f"/api/exports?project={UID}", headers=TOKEN).get_json()["exports"]
    assert listed == view
    for file in view["files"]:
        answer = desk.api.get(file["path"], headers=TOKEN)
        assert answer.status_code == 200
        assert hashlib.sha256(answer.data).hexdigest() == file["sha256"]
        assert file["name"] in answer.headers["Content-Disposition"]
        answer.close()
    missing = desk.api.get(f"/api/exports/{export_id}/files/manifest.json", headers=TOKEN)
    assert missing.status_code == 404
    assert "result.csv" in missing.get_json()["error"]


def test_a_file_that_is_not_what_the_manifest_says_is_not_handed_out(desk: Desk) -> None:
    manifest = desk.worker.made("JSON")
    desk.worker.here.store.put(manifest.files[0].key, b"[]")
    answer = desk.api.get(f"/api/exports/{manifest.export_id}/files/result.json", headers=TOKEN)
    assert answer.status_code == 502
    assert "not what the manifest says" in answer.get_json()["error"]


@pytest.mark.parametrize("body", [None, [], {}, {"project": True, "format": "CSV"}, {"project": {}}])
def test_a_body_that_names_no_project_is_refused(desk: Desk, body: Any) -> None:
    answer = desk.api.post("/api/exports", json=body, headers=TOKEN)
    assert answer.status_code == 400
    assert '"project": 3' in answer.get_json()["error"]


@pytest.mark.parametrize("path", ["/api/exports?project=1", "/api/exports/x", "/api/exports/x/files/y"])
def test_without_the_token_nothing_is_answered(desk: Desk, path: str) -> None:
    assert desk.api.get(path).status_code == 401
    assert desk.api.post("/api/exports", json={}).status_code == 401


def test_an_unknown_export_is_said_so(desk: Desk) -> None:
    order = registry.order_of(
        desk.worker.layout,
        "JSON",
        "annotated",
        registry.newest_source(desk.clients.store, None, desk.worker.layout),
    )
    assert desk.api.get(f"/api/exports/{order.id}", headers=TOKEN).status_code == 404
    assert desk.api.get("/api/exports/nonsense", headers=TOKEN).status_code == 400
    assert queue.open_queue(desk.worker.here.redis, jobs.EXPORTS).count == 0
