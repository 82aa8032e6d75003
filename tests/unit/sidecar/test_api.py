"""The API: a bearer token for every call, JSON for every answer, errors that say what to do."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, jsonify
from flask.testing import FlaskClient

from bridge.edges import redis as names
from bridge.errors import BridgeError
from sidecar.api import make_blueprint
from tests.unit.sidecar.fakes import UID, World
from tests.unit.sidecar.test_status import entry_fields

TOKEN = {"Authorization": "Bearer secret-api-token"}


def client(world: World) -> FlaskClient:
    app = Flask("test")
    app.register_blueprint(make_blueprint(world.settings, world.clients))
    app.register_error_handler(BridgeError, lambda error: (jsonify(error=str(error)), error.status))
    return app.test_client()


ROUTES = [
    ("GET", "/api/status"),
    ("GET", "/api/projects"),
    ("GET", "/api/projects/3"),
    ("POST", "/api/projects/3/connect"),
    ("POST", "/api/projects/3/disconnect"),
    ("GET", "/api/quarantine"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer wrong", "Basic secret-api-token", "secret-api-token", "Bearer né"]
)
def test_without_the_token_nothing_is_answered_or_done(method: str, path: str, given: str) -> None:
    world = World()
    answer = client(world).open(path, method=method, headers={"Authorization": given} if given else {})
    assert answer.status_code == 401
    assert "API_TOKEN" in answer.get_json()["error"]
    assert world.studio.changes == []


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_answers_json_without_secrets(method: str, path: str) -> None:
    answer = client(World()).open(path, method=method, headers=TOKEN)
    assert answer.status_code == 200
    assert answer.is_json
    assert "secret-" not in answer.text


def test_the_routes_above_are_all_there_are() -> None:
    app = Flask("test")
    world = World()
    app.register_blueprint(make_blueprint(world.settings, world.clients))
    rules = {
        (method, rule.rule.replace("<int:project_id>", "3"))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) & {"GET", "POST"}
        if rule.rule.startswith("/api")
    }
    assert rules == set(ROUTES)


def test_a_project_is_connected_and_then_shown_so() -> None:
    world = World()
    here = client(world)
    assert here.get("/api/projects/3", headers=TOKEN).get_json()["connected"] is False
    answer = here.post("/api/projects/3/connect", headers=TOKEN).get_json()
    assert answer["ok"] is True
    assert {step["result"] for step in answer["steps"]} == {"done"}
    (project,) = here.get("/api/projects", headers=TOKEN).get_json()["projects"]
    assert (project["uid"], project["connected"]) == (UID, True)
    assert here.post("/api/projects/3/disconnect", headers=TOKEN).status_code == 200
    assert world.studio.rows["webhooks"] == {}


@pytest.mark.parametrize("verb", ["connect", "disconnect"])
def test_a_dry_run_changes_nothing(verb: str) -> None:
    world = World()
    answer = client(world).post(f"/api/projects/3/{verb}", headers=TOKEN, json={"dry_run": True})
    assert answer.get_json()["dry_run"] is True
    assert (world.studio.changes, world.enqueued) == ([], [])


def test_a_failed_step_is_a_502_that_names_it() -> None:
    world = World()
    world.studio.ml_password = "another"
    answer = client(world).post("/api/projects/3/connect", headers=TOKEN)
    assert answer.status_code == 502
    (bad,) = [step for step in answer.get_json()["steps"] if step["result"] == "failed"]
    assert "BASIC_AUTH_PASS" in bad["detail"]


@pytest.mark.parametrize("body", ["nonsense", "[]", '{"dry_run": "yes"}', '{"baseline": 1}'])
def test_a_wrong_body_is_a_400(body: str) -> None:
    world = World()
    answer = client(world).post("/api/projects/3/connect", headers=TOKEN, data=body)
    assert answer.status_code == 400
    assert world.studio.changes == []


def test_an_unknown_project_is_a_404_also_when_a_title_is_that_number() -> None:
    world = World()
    world.studio.add_project(4, "77")
    answer = client(world).post("/api/projects/77/connect", headers=TOKEN)
    assert answer.status_code == 404
    assert "77" in answer.get_json()["error"]


def test_without_label_studio_projects_are_an_error_and_status_is_not() -> None:
    world = World()
    world.studio.down = True
    here = client(world)
    assert here.get("/api/projects", headers=TOKEN).status_code == 502
    assert here.get("/api/projects/3", headers=TOKEN).status_code == 503
    found: Any = here.get("/api/status", headers=TOKEN).get_json()
    assert found["ok"] is False


def test_the_quarantine_is_listed_without_bodies() -> None:
    world = World()
    fields = entry_fields(b'{"token": "abc"', reason=b"not JSON")
    world.redis.data[names.QUARANTINE] = [(b"1-0", fields)]
    (entry,) = client(world).get("/api/quarantine", headers=TOKEN).get_json()["entries"]
    assert (entry["id"], entry["reason"], entry["size_bytes"]) == ("1-0", "not JSON", 15)
    assert "body" not in entry
    world.redis.down = True
    assert client(world).get("/api/quarantine", headers=TOKEN).status_code == 503
