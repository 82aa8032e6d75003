"""What the benchmarks measure with: a sender that waits for nobody, and a relay that watches the bucket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from benchmarks.relay import Relay
from benchmarks.sender import Plan, send
from bridge.edges.s3 import S3Store, make_client
from bridge.errors import Unavailable
from bridge.settings import S3Settings
from tests.integration.conftest import free_port

SLOW_S = 0.2


class Slow(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(SLOW_S)
        self.send_response(202)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def one_at_a_time() -> Iterator[str]:
    """A server that takes 0.2 s for each request, and one request at a time."""
    server = HTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/webhook"
    server.shutdown()
    server.server_close()


def test_a_delivery_is_charged_for_those_that_were_in_its_way(one_at_a_time: str) -> None:
    sent = send(Plan(url=one_at_a_time, headers={}, rate=1000, count=4, first_id=5))
    assert [(one.id, one.status) for one in sent] == [(5, 202), (6, 202), (7, 202), (8, 202)]
    assert max(one.took_ms for one in sent) > 3.5 * SLOW_S * 1000


def test_a_delivery_that_nobody_takes_has_no_status() -> None:
    sent = send(Plan(url=f"http://127.0.0.1:{free_port()}/", headers={}, rate=100, count=2, first_id=1))
    assert [one.status for one in sent] == [0, 0]


def test_the_relay_notes_when_a_log_object_was_there(s3_settings: S3Settings, store: S3Store) -> None:
    with Relay(int(s3_settings.endpoint_url.rpartition(":")[2])) as relay:
        through = S3Store(replace(s3_settings, endpoint_url=f"http://127.0.0.1:{relay.port}"))
        before = time.monotonic()
        through.put("projects/1.2/log/a.jsonl", b"{}\n")
        through.put("projects/1.2/current/a.json", b"{}\n")
        after = time.monotonic()
    assert list(relay.put_at) == [f"/{s3_settings.bucket}/projects/1.2/log/a.jsonl"]
    assert before < relay.put_at[f"/{s3_settings.bucket}/projects/1.2/log/a.jsonl"] < after
    assert store.get("projects/1.2/log/a.jsonl") == b"{}\n"


def test_the_relay_can_be_cut_and_mended(s3_settings: S3Settings, store: S3Store) -> None:
    store.put("a", b"1")
    with Relay(int(s3_settings.endpoint_url.rpartition(":")[2])) as relay:
        settings = replace(s3_settings, endpoint_url=f"http://127.0.0.1:{relay.port}")
        through = S3Store(settings, client=make_client(settings, attempts=1))
        assert through.get("a") == b"1"
        relay.down()
        with pytest.raises(Unavailable):
            through.get("a")
        relay.up()
        assert through.get("a") == b"1"
