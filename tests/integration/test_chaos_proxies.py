"""The chaos test's own tools: the webhook proxy keeps its account, the wire cuts where it is told to."""

from __future__ import annotations

import http.client
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import redis

from bridge.edges.log import LogWriter, log_keys, read_object
from bridge.edges.s3 import S3Store, make_client
from bridge.errors import OutsideError, Unavailable
from bridge.keys import Layout
from bridge.settings import S3Settings
from chaos.hooks import HookProxy, Mode
from chaos.wire import Catch, Wire
from stack.ports import free_ports
from tests.fakes import record


class Door(http.server.BaseHTTPRequestHandler):
    """Answers everything with 202 and remembers it."""

    heard: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append(body)
        said = json.dumps({"event_id": f"e{len(self.heard)}"}).encode()
        self.send_response(202)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_PUT = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def door() -> Iterator[tuple[int, list[bytes]]]:
    heard: list[bytes] = []
    handler = type("Handler", (Door,), {"heard": heard, "protocol_version": "HTTP/1.1"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], heard
    server.shutdown()
    server.server_close()


def send(port: int, body: bytes, method: str = "POST", path: str = "/webhook") -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_proxy_keeps_an_account_of_what_the_door_said(door: tuple[int, list[bytes]]) -> None:
    port, heard = door
    with HookProxy(free_ports(1)[0], port) as proxy:
        assert send(proxy.port, b'{"action": "A"}') == 202
        proxy.arm(Mode.DROP, 1)
        assert send(proxy.port, b'{"action": "B"}') is None
        proxy.arm(Mode.TWICE, 1)
        assert send(proxy.port, b'{"action": "C"}') == 202
        proxy.arm(Mode.NO_ANSWER, 1)
        assert send(proxy.port, b'{"action": "D"}') is None
        assert [one.payload["action"] for one in proxy.passages] == ["A", "B", "C", "C", "D"]
        assert [one.acknowledged for one in proxy.passages] == [True, False, True, True, True]
        assert [one.event_id for one in proxy.passages] == ["e1", "", "e2", "e3", "e4"]
    assert [json.loads(body)["action"] for body in heard] == ["A", "C", "C", "D"]


def test_a_door_that_is_closed_acknowledges_nothing() -> None:
    closed, port = free_ports(2)
    with HookProxy(port, closed) as proxy:
        assert send(port, b"{}") == 502
        assert proxy.count(acknowledged=False) == 1
        assert proxy.count(acknowledged=True) == 0


def test_the_wire_carries_and_is_down_and_up_again(door: tuple[int, list[bytes]]) -> None:
    port, heard = door
    with Wire(free_ports(1)[0], port) as wire:
        body = b"x" * 200_000
        assert send(wire.port, body, "PUT", "/labels/log/a") == 202
        assert heard == [body]
        wire.down()
        assert send(wire.port, body) is None
        assert wire.refused >= 1
        wire.up()
        assert send(wire.port, body) == 202


def test_the_wire_cuts_a_put_in_its_body(door: tuple[int, list[bytes]]) -> None:
    port, heard = door
    with Wire(free_ports(1)[0], port) as wire:
        wire.catch(Catch.BODY)
        assert send(wire.port, b"small", "PUT", "/labels/images/a") == 202  # not a log object
        answers: list[int | None] = []
        sender = threading.Thread(
            target=lambda: answers.append(send(wire.port, b"y" * 100, "PUT", "/labels/log/a"))
        )
        sender.start()
        until(wire.caught.is_set)
        wire.release()
        sender.join(20)
        assert answers == [None]
        until(lambda: heard != [b"small"])
        assert heard == [b"small", b"y" * 50]  # this door, unlike a bucket, takes half a body


def test_the_wire_cuts_an_answer_after_the_put_was_done(door: tuple[int, list[bytes]]) -> None:
    port, heard = door
    with Wire(free_ports(1)[0], port) as wire:
        wire.catch(Catch.ANSWER)
        answers: list[int | None] = []
        sender = threading.Thread(
            target=lambda: answers.append(send(wire.port, b"z" * 100, "PUT", "/labels/log/a"))
        )
        sender.start()
        until(wire.caught.is_set)
        wire.release()
        sender.join(20)
        assert answers == [None]
        assert heard == [b"z" * 100]


def test_a_bucket_keeps_no_half_object(s3_settings: S3Settings, store: S3Store) -> None:
    """The emulation behind the wire: a body that ends early leaves nothing."""
    key = "projects/1.1/log/half"
    with Wire(free_ports(1)[0], int(s3_settings.endpoint_url.rpartition(":")[2])) as wire:
        over_the_wire = replace(s3_settings, endpoint_url=f"http://127.0.0.1:{wire.port}")
        cut = S3Store(over_the_wire, client=make_client(over_the_wire, attempts=1))
        wire.catch(Catch.BODY)
        trouble: list[Exception] = []

        def put() -> None:
            try:
                cut.put(key, b"w" * 5000)
            except OutsideError as error:
                trouble.append(error)

        sender = threading.Thread(target=put)
        sender.start()
        until(wire.caught.is_set)
        wire.release()
        sender.join(60)
        assert trouble
    assert store.head(key) is None


def test_the_wire_hangs_and_then_does_what_was_asked(door: tuple[int, list[bytes]]) -> None:
    port, heard = door
    with Wire(free_ports(1)[0], port) as wire:
        wire.hang()
        answers: list[int | None] = []
        patient = threading.Thread(
            target=lambda: answers.append(send(wire.port, b"patient", "PUT", "/labels/images/a"))
        )
        patient.start()
        for path in ("/labels/images/b", "/labels/log/c"):
            with socket.create_connection(("127.0.0.1", wire.port)) as impatient:
                impatient.sendall(f"PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n".encode())
                impatient.sendall(b"impatient")
        until(lambda: wire.given_up == 1)  # of the two that hung up the one that is in a log
        assert (heard, answers) == ([], [])
        wire.go_on()
        patient.join(20)
        assert answers == [202]
        until(lambda: sorted(heard) == [b"impatient", b"impatient", b"patient"])
        assert send(wire.port, b"again") == 202


def test_records_are_written_once_more_when_the_bucket_hung(
    s3_settings: S3Settings, store: S3Store, redis_client: redis.Redis
) -> None:
    """The first PUT is given up, and done late: the log has the records twice, under two keys, and both are whole."""
    layout = Layout("3.1795312966", s3_settings.bucket_prefix)
    with Wire(free_ports(1)[0], int(s3_settings.endpoint_url.rpartition(":")[2])) as wire:
        over_the_wire = replace(s3_settings, endpoint_url=f"http://127.0.0.1:{wire.port}")
        slow = S3Store(over_the_wire, client=make_client(over_the_wire, attempts=1, read_timeout_s=1))
        writer = LogWriter(slow, redis_client, layout)
        writer.append([record("task", "1")])
        wire.hang_at_log_put()
        slow.put("images/a", b"a")
        assert not wire.hangs
        with pytest.raises(Unavailable):  # nothing is promised: the entries stay in the stream
            writer.append([record("task", "2")])
        assert wire.given_up == 1
        wire.go_on()
        until(lambda: len(list(log_keys(store, layout))) == 2)
        key = writer.append([record("task", "2")])
    keys = [info.key for info in log_keys(store, layout)]
    assert key == keys[-1]
    assert [[one.id for one in read_object(store, each)] for each in keys] == [["1"], ["2"], ["2"]]


def test_the_bucket_lists_the_faults_that_requests_met(s3_url: str, store: S3Store) -> None:
    """A fault counts only when somebody met it: what was armed is not enough."""
    page = f"{s3_url}/_emulation/faults"
    before = len(httpx.get(page).json())
    httpx.post(page, json={"kind": "busy", "method": "PUT", "path": "/met-by-nobody/"})
    store.put("images/a", b"a")
    assert len(httpx.get(page).json()) == before
    store.put("images/met-by-nobody/b", b"b")  # this client comes again after a 503
    assert [(one["kind"], one["method"]) for one in httpx.get(page).json()[before:]] == [("busy", "PUT")]
    httpx.delete(page)
