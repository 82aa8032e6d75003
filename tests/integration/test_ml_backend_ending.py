"""`python -m ml_backend` when it is told to end in the middle of a request, and when clients stop in the middle of theirs."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from bridge.edges import stream
from bridge.events import records_of
from tests.integration.conftest import free_port, running
from tests.integration.test_ml_backend_http import CONFIG, MODEL, ROOT, SEEDS, jpeg

pytestmark = pytest.mark.model
PROJECT = "7.1795312966"
THREADS = 6


@dataclass
class Site:
    """Gives pictures at once, but those below /held only when it is let go."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            if self.path.startswith("/held"):
                found.gate.wait(60)
            body = jpeg(SEEDS[0])
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield found
        found.gate.set()
        server.shutdown()
        thread.join()


@contextmanager
def program(
    folder: Path, code: str = "", **environ: str
) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """`code`: what to change in the program's module first."""
    port = free_port()
    told = {
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "BUCKET": "bucket",
        "MODEL": str(MODEL),
        "ENGINE": "torch",
        "IMAGE_ALLOWED_HOSTS": "127.0.0.1",
        "PORT": str(port),
        "PYTHONPATH": str(ROOT),
        "CACHE_DIR": str(folder / "cache"),
    } | environ
    start = (
        ["-c", f"import ml_backend.__main__ as main\n{code}\nmain.main()"] if code else ["-m", "ml_backend"]
    )
    command = ["env", *(f"{name}={value}" for name, value in told.items()), sys.executable, *start]
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        try:
            return bool(httpx.get(f"{url}/health", timeout=2).json()["model"]["state"] == "ready")
        except httpx.HTTPError:
            return False

    log = folder / "ml_backend.log"
    with running(command, log, is_up=is_up) as process:
        yield url, process, log


def test_a_request_is_answered_with_what_is_done_and_recorded_when_the_program_is_told_to_end(
    site: Site, redis_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    project = f"7.{uuid.uuid4().int % 10**9}"
    tasks = [
        {"id": number, "data": {"image": f"{site.url}/{name}"}} for number, name in [(1, "a"), (2, "held")]
    ]
    body = {"project": project, "label_config": CONFIG, "tasks": tasks}
    with program(tmp_path, REDIS_URL=redis_url) as (url, process, log), ThreadPoolExecutor(1) as pool:
        asking = pool.submit(lambda: httpx.post(f"{url}/predict", json=body, timeout=60))
        deadline = time.monotonic() + 30
        while "/held" not in site.asked:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.terminate()
        answer = asking.result(timeout=30)  # /held is given up, though it would take a minute
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert results[0]["result"]
        assert "result" not in results[1]  # so that Label Studio asks again
        site.gate.set()
        assert process.wait(30) == 0
        assert "Traceback" not in log.read_text()
    [entry] = stream.read(redis_client, project, max_entries=10, max_bytes=1_000_000)
    found = records_of(
        entry.body, event_id=entry.event_id, received_at=entry.received_at, source=entry.source
    )
    assert [(record.data["task"], record.data.get("problem")) for record in found] == [(1, None), (2, "late")]


def test_clients_that_stop_in_the_middle_of_a_request_hold_nobody_up(tmp_path: Path) -> None:
    """A machine that loses its network says no goodbye: as many of those as there are threads."""
    half_heads = [b"POST /predict HTTP/1.1\r\nHost: x\r\n"] * THREADS
    half_bodies = [b'POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"tasks'] * THREADS
    with program(tmp_path, "main._SILENCE_S = 1", WEB_THREADS=str(THREADS)) as (url, _process, log):
        port = int(url.rpartition(":")[2])
        for starts in (half_heads, half_bodies):
            with ExitStack() as stack:
                for start in starts:
                    one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                    one.sendall(start)
                time.sleep(0.2)  # all threads have one
                assert httpx.get(f"{url}/health", timeout=20).status_code == 200
        # Nothing at all: not even a thread.
        with ExitStack() as stack:
            for _ in range(3 * THREADS):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            began = time.monotonic()
            assert httpx.get(f"{url}/health", timeout=20).status_code == 200
            assert time.monotonic() - began < 3
        assert "Traceback" not in log.read_text()
