"""`/api/exports`: ask for exports, see how they are, and fetch their files through the sidecar (CORTX cannot presign)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flask import Blueprint, Response, jsonify, request, send_file
from flask.typing import ResponseReturnValue

from bridge.errors import SenderError
from bridge.exports import ANNOTATED
from bridge.settings import SidecarSettings
from sidecar import exports
from sidecar.api import guard
from sidecar.clients import Clients, open_clients


def make_blueprint(settings: SidecarSettings, clients: Clients | None = None) -> Blueprint:
    """The routes under /api/exports. The app answers the errors that they raise."""
    bp = Blueprint("api_export", __name__, url_prefix="/api")
    guard(bp, settings)
    clients = clients or open_clients(settings)

    @bp.post("/exports")
    def post_export() -> ResponseReturnValue:
        body = request.get_json(force=True, silent=True)
        project = body.get("project") if isinstance(body, dict) else None
        if not isinstance(body, dict) or isinstance(project, bool) or not isinstance(project, int | str):
            raise SenderError('the body must be a JSON object such as {"project": 3, "format": "COCO"}')
        view = exports.ask(clients, str(project), body.get("format"), body.get("tasks", ANNOTATED), "API")
        return jsonify(view.to_json()), 200 if view.state == "complete" else 202

    @bp.get("/exports")
    def get_exports() -> ResponseReturnValue:
        project = request.args.get("project", "")
        if not project:
            raise SenderError("name a project: /api/exports?project=3")
        return jsonify(exports=[view.to_json() for view in exports.listed(clients, project)])

    @bp.get("/exports/<export_id>")
    def get_export(export_id: str) -> ResponseReturnValue:
        return jsonify(exports.look(clients, export_id).to_json())

    @bp.get("/exports/<export_id>/files/<name>")
    def get_file(export_id: str, name: str) -> Response:
        file = exports.file_of(exports.look(clients, export_id), name)
        # By way of a file that has no name any more when it is sent: nothing is sent that the manifest does not say,
        # memory holds a block of it, and it is gone when the answer is.
        with tempfile.TemporaryDirectory(prefix="export-") as folder:
            path = Path(folder) / "file"
            exports.fetch(clients, file, path)
            opened = path.open("rb")
        return send_file(
            opened, mimetype=file.content_type, as_attachment=True, download_name=name, etag=file.sha256
        )

    return bp
