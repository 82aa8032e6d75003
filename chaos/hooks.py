"""The proxy between Label Studio and our webhook: keeps an account of every body, and drops, repeats or delays some.

What the sidecar has answered with 2xx it has promised to keep: such a body is acknowledged, whatever became of the
answer on its way to Label Studio.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LATE_S = 2.5
"""Longer than Label Studio waits: it has given up when the body arrives, and later ones have overtaken it."""
_OWN = ("host", "content-length", "connection", "accept-encoding")


class Mode(Enum):
    """What happens to a webhook. `NO_ANSWER`: the sidecar gets it, Label Studio hears nothing."""

    PASS = "passed"
    DROP = "dropped"
    TWICE = "delivered twice"
    LATE = "delivered late"
    NO_ANSWER = "answer lost"


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One delivery to the sidecar, or one body that never got there. Times are seconds since 1970, our clock.

    `status` is the sidecar's answer; None where it gave none (it was down, it was killed, the proxy dropped the body).
    """

    number: int
    mode: Mode
    body: bytes
    sent_at: float
    answered_at: float
    status: int | None
    event_id: str = ""

    @property
    def acknowledged(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def payload(self) -> dict[str, Any]:
        found = json.loads(self.body)
        return found if isinstance(found, dict) else {}


class HookProxy:
    """Listens on loopback from `__enter__` on. `passages` is the account."""

    def __init__(self, port: int, sidecar_port: int) -> None:
        self.passages: list[Passage] = []
        self.port = port
        self._sidecar_port = sidecar_port
        self._lock = threading.Lock()
        self._number = 0
        self._mode, self._left = Mode.PASS, 0
        self._server = _Server(("127.0.0.1", port), _handler(self))

    def __enter__(self) -> HookProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True, name="webhook proxy").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def arm(self, mode: Mode, times: int) -> None:
        """The next `times` webhooks meet `mode`."""
        with self._lock:
            self._mode, self._left = mode, times

    def count(self, *, since: int = 0, mode: Mode | None = None, acknowledged: bool | None = None) -> int:
        """How many of the passages from number `since` on fit."""
        with self._lock:
            return sum(
                one.number >= since
                and (mode is None or one.mode is mode)
                and (acknowledged is None or one.acknowledged == acknowledged)
                for one in self.passages
            )

    @property
    def next_number(self) -> int:
        with self._lock:
            return self._number

    def handle(self, path: str, headers: Mapping[str, str], body: bytes) -> int | None:
        """Do with a body what is its turn; returns the status for Label Studio, None for no answer at all."""
        with self._lock:
            number, self._number = self._number, self._number + 1
            mode = self._mode if self._left else Mode.PASS
            self._left = max(0, self._left - 1)
        if mode is Mode.DROP:
            now = time.time()
            self._note(
                Passage(number=number, mode=mode, body=body, sent_at=now, answered_at=now, status=None)
            )
            return None
        if mode is Mode.LATE:
            threading.Thread(
                target=self._deliver_late, args=(number, path, headers, body), daemon=True
            ).start()
            return None
        status = self._deliver(number, mode, path, headers, body)
        if mode is Mode.TWICE:
            self._deliver(number, mode, path, headers, body)
        return None if mode is Mode.NO_ANSWER else status or 502

    def _deliver_late(self, number: int, path: str, headers: Mapping[str, str], body: bytes) -> None:
        time.sleep(LATE_S)
        self._deliver(number, Mode.LATE, path, headers, body)

    def _deliver(
        self, number: int, mode: Mode, path: str, headers: Mapping[str, str], body: bytes
    ) -> int | None:
        sent_at, status, event_id = time.time(), None, ""
        connection = http.client.HTTPConnection("127.0.0.1", self._sidecar_port, timeout=30)
        try:
            connection.request("POST", path, body, dict(headers))
            answer = connection.getresponse()
            said = answer.read()
            status = answer.status
            event_id = json.loads(said).get("event_id", "") if said.startswith(b"{") else ""
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            connection.close()
        self._note(
            Passage(
                number=number,
                mode=mode,
                body=body,
                sent_at=sent_at,
                answered_at=time.time(),
                status=status,
                event_id=event_id,
            )
        )
        return status

    def _note(self, passage: Passage) -> None:
        with self._lock:
            self.passages.append(passage)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Label Studio goes away after a second; that is no news."""


def _handler(proxy: HookProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
            status = proxy.handle(self.path, headers, body)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
