"""The web server in front of the application: a thread for each connection, which ends with its answer."""

from __future__ import annotations

from typing import Any

import werkzeug.serving
from moto.moto_server.werkzeug_app import MotoRequestHandler

from cortx_emulation.app import Emulation
from cortx_emulation.request import RAW_HEADERS


class Handler(MotoRequestHandler):
    """Keeps the headers as they were sent: signatures are made over them."""

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), RAW_HEADERS: list(self.headers.items())}


def make_server(
    app: Emulation, host: str, port: int, *, tls: tuple[str, str] | None = None
) -> werkzeug.serving.BaseWSGIServer:
    """Listens from now on, and answers from `serve_forever()` on. `tls`: files of a certificate and its key."""
    return werkzeug.serving.make_server(
        host, port, app, threaded=True, request_handler=Handler, ssl_context=tls
    )
