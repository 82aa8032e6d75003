"""`/api/repairs`: what reconcile had to repair, so that an operator sees that webhooks fail; and what it holds."""

from __future__ import annotations

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from bridge.edges.repairs import REPAIRS_KEPT
from bridge.errors import SenderError
from bridge.settings import SidecarSettings
from sidecar import exports, reconciling
from sidecar.api import guard
from sidecar.clients import Clients, open_clients


def make_blueprint(settings: SidecarSettings, clients: Clients | None = None) -> Blueprint:
    """The route under /api. The app answers the errors that it raises."""
    bp = Blueprint("api_reconcile", __name__, url_prefix="/api")
    guard(bp, settings)
    clients = clients or open_clients(settings)

    @bp.get("/repairs")
    def get_repairs() -> ResponseReturnValue:
        project, count = request.args.get("project", ""), request.args.get("count", "100")
        if not count.isdecimal() or not 1 <= int(count) <= REPAIRS_KEPT:
            raise SenderError(f"count must be a whole number from 1 to {REPAIRS_KEPT}")
        uids = [exports.uid_of(clients, project)] if project else reconciling.connected(clients)
        return jsonify(reconciling.overview(clients, uids, int(count)))

    return bp
