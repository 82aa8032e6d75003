"""`/api/projects/{id}/metrics`: GET the newest summary, POST to have it made anew."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from bridge.settings import SidecarSettings
from sidecar import metrics_of_project
from sidecar.api import guard
from sidecar.clients import Clients, open_clients


def make_blueprint(settings: SidecarSettings, clients: Clients | None = None) -> Blueprint:
    bp = Blueprint("api_metrics", __name__, url_prefix="/api")
    guard(bp, settings)
    clients = clients or open_clients(settings)

    @bp.get("/projects/<int:project_id>/metrics")
    def get_metrics(project_id: int) -> ResponseReturnValue:
        uid = metrics_of_project.uid_of(clients, str(project_id))
        return jsonify(metrics_of_project.summary(clients, uid))

    @bp.post("/projects/<int:project_id>/metrics")
    def refresh_metrics(project_id: int) -> ResponseReturnValue:
        uid = metrics_of_project.uid_of(clients, str(project_id))
        return jsonify(project=uid, job=metrics_of_project.refresh(clients, uid)), 202

    return bp
