"""`/api/prelabel`: begin pre-labelling jobs, see how they are, stop and resume them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from bridge.errors import SenderError
from bridge.settings import SidecarSettings
from sidecar import prelabelling
from sidecar.api import guard
from sidecar.clients import Clients, open_clients

_EXAMPLE = 'the body must be a JSON object such as {"project": 3, "filter": "unlabeled"}'
_NAMES = ("project", "filter", "view", "model", "replace")


def make_blueprint(settings: SidecarSettings, clients: Clients | None = None) -> Blueprint:
    """The routes under /api/prelabel. The app answers the errors that they raise."""
    bp = Blueprint("api_prelabel", __name__, url_prefix="/api")
    guard(bp, settings)
    clients = clients or open_clients(settings)

    @bp.post("/prelabel")
    def post_prelabel() -> ResponseReturnValue:
        body = request.get_json(force=True, silent=True)
        if not isinstance(body, dict):
            raise SenderError(_EXAMPLE)
        if unknown := [name for name in body if name not in _NAMES]:
            raise SenderError(f"unknown: {', '.join(unknown)}", hint=f"there are {', '.join(_NAMES)}")
        view = prelabelling.ask(
            clients,
            _project(body),
            filters=_filters(body.get("filter")),
            view=_whole(body.get("view")),
            model=_text(body.get("model"), "model"),
            replace=_flag(body.get("replace")),
            by="API",
        )
        return jsonify(view.to_json()), 202

    @bp.get("/prelabel")
    def get_prelabels() -> ResponseReturnValue:
        views = prelabelling.listed(clients, request.args.get("project") or None)
        return jsonify(jobs=[view.to_json() for view in views])

    @bp.get("/prelabel/<id>")
    def get_prelabel(id: str) -> ResponseReturnValue:
        return jsonify(prelabelling.look(clients, id).to_json())

    @bp.post("/prelabel/<id>/stop")
    def post_stop(id: str) -> ResponseReturnValue:
        return jsonify(prelabelling.stop(clients, id).to_json())

    @bp.post("/prelabel/<id>/resume")
    def post_resume(id: str) -> ResponseReturnValue:
        return jsonify(prelabelling.resume(clients, id).to_json()), 202

    return bp


def _project(body: dict[str, Any]) -> str:
    project = body.get("project")
    if isinstance(project, bool) or not isinstance(project, int | str) or not project:
        raise SenderError(_EXAMPLE)
    return str(project)


def _filters(value: object) -> list[str]:
    given = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in given):
        raise SenderError("'filter' must be a text or a list of texts")
    return given


def _whole(value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise SenderError("'view' must be the id of a tab")
    return value


def _text(value: object, name: str) -> str:
    if value is not None and not isinstance(value, str):
        raise SenderError(f"{name!r} must be a text")
    return value or ""


def _flag(value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        raise SenderError("'replace' must be true or false")
    return bool(value)
