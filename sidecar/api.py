"""The operators' API. Every call needs `Authorization: Bearer <API_TOKEN>`; errors are JSON that says what to do."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from bridge.errors import OutsideError, SenderError, Unauthorized
from bridge.settings import SidecarSettings
from sidecar import quarantine
from sidecar.apply import carry_out, failed
from sidecar.clients import Clients, open_clients
from sidecar.connect import connect_steps, disconnect_steps
from sidecar.gather import gather, project_by_id
from sidecar.plan import Project, Step, wanted
from sidecar.status import project_status, status


def guard(bp: Blueprint, settings: SidecarSettings) -> None:
    """Every route of this blueprint asks for the token before it does anything."""

    @bp.before_request
    def check_token() -> None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(
            token.strip().encode(), settings.api_token.encode()
        ):
            raise Unauthorized(
                "the API needs the header `Authorization: Bearer …` with the sidecar's API_TOKEN"
            )


def make_blueprint(settings: SidecarSettings, clients: Clients | None = None) -> Blueprint:
    """The routes under /api. The app answers the errors that they raise."""
    bp = Blueprint("api", __name__, url_prefix="/api")
    clients = clients or open_clients(settings)
    guard(bp, settings)

    @bp.get("/status")
    def get_status() -> ResponseReturnValue:
        return jsonify(status(clients).to_json())

    @bp.get("/projects")
    def get_projects() -> ResponseReturnValue:
        found = status(clients)
        if not found.neighbours[0].ok:
            raise OutsideError(found.neighbours[0].detail)
        return jsonify(projects=[dataclasses.asdict(project) for project in found.projects])

    @bp.get("/projects/<int:project_id>")
    def get_project(project_id: int) -> ResponseReturnValue:
        project = project_by_id(clients.label_studio, project_id)
        return jsonify(dataclasses.asdict(project_status(clients, project)))

    @bp.post("/projects/<int:project_id>/connect")
    def connect(project_id: int) -> ResponseReturnValue:
        dry_run, baseline = _flag("dry_run", False), _flag("baseline", None)
        project = project_by_id(clients.label_studio, project_id)
        want = wanted(settings, project.id)
        found = gather(clients, project, want, check=True, dry_run=bool(dry_run))
        return _do(project, connect_steps(want, found, project, baseline=baseline), bool(dry_run))

    @bp.post("/projects/<int:project_id>/disconnect")
    def disconnect(project_id: int) -> ResponseReturnValue:
        dry_run, remove_storage = _flag("dry_run", False), _flag("remove_storage", False)
        project = project_by_id(clients.label_studio, project_id)
        want = wanted(settings, project.id)
        found = gather(clients, project, want, check=False)
        steps = disconnect_steps(want, found, remove_storage=bool(remove_storage))
        return _do(project, steps, bool(dry_run))

    def _do(project: Project, steps: Sequence[Step], dry_run: bool) -> ResponseReturnValue:
        outcomes = list(carry_out(steps, clients, project, dry_run=dry_run))
        ok = not failed(outcomes)
        answer: dict[str, Any] = {
            "ok": ok,
            "dry_run": dry_run,
            "project": dataclasses.asdict(project),
            "steps": [dataclasses.asdict(outcome) for outcome in outcomes],
        }
        return jsonify(answer), 200 if ok else 502

    @bp.get("/quarantine")
    def get_quarantine() -> ResponseReturnValue:
        return jsonify(entries=[quarantine.Line.of(item).to_json() for item in quarantine.newest(clients)])

    return bp


def _flag(name: str, default: bool | None) -> bool | None:
    """A true or false out of an optional JSON body; raises SenderError for anything else."""
    body = request.get_json(force=True, silent=True) if request.get_data() else {}
    if not isinstance(body, dict):
        raise SenderError('the body must be a JSON object such as {"dry_run": true}')
    value = body.get(name, default)
    if value is not None and not isinstance(value, bool):
        raise SenderError(f"{name!r} must be true or false")
    return value
