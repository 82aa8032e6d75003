"""A sidecar killed with SIGKILL, while it spools and while it replays; and bodies that end before they should."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import pytest
import redis

from bridge.edges import redis as names
from bridge.edges import redis as redis_edge
from bridge.edges import stream
from bridge.edges.log import read_records, read_state
from bridge.edges.s3 import S3Store
from bridge.edges.stream import Entry
from bridge.settings import WorkersSettings
from sidecar.journal import Journal
from sidecar.spool import Spool
from tests.conftest import sample, sample_bytes
from tests.integration.conftest import ROOT, free_port, redis_server
from tests.integration.redis_faults import until
from workers import archive, context

SECRET = "a-secret-of-the-tests"
UID = "1.1795312801"
FORK = multiprocessing.get_context("fork")


def entry(number: int) -> Entry:
    payload = sample("ANNOTATION_CREATED")
    payload["annotation"]["id"] = number
    return Entry(
        event_id=f"event-{number}",
        received_at=datetime.now(UTC),
        source="webhook",
        action="ANNOTATION_CREATED",
        body=json.dumps(payload).encode(),
    )


def _spool_for_ever(folder: Path, answers: Connection) -> None:
    spool = Spool(folder)
    for number in range(1_000_000):
        one = entry(number)
        spool.add(one, uid=UID)
        answers.send(one.event_id)


def test_what_a_sidecar_acknowledged_is_in_the_spool_though_it_was_killed_while_spooling(
    tmp_path: Path,
) -> None:
    mine, its = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_spool_for_ever, args=(tmp_path, its))
    process.start()
    its.close()
    acknowledged = [mine.recv() for _ in range(30)]
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    with contextlib.suppress(EOFError):
        while True:
            acknowledged.append(mine.recv())
    kept = [item.entry.event_id for item in Spool(tmp_path).oldest(100_000, max_bytes=1 << 40)]
    assert kept[: len(acknowledged)] == acknowledged


def _replay(folder: Path, redis_url: str) -> None:
    Journal(redis_edge.ingest_client(redis_url), Spool(folder)).replay()


@pytest.mark.usefixtures("_no_context_left")
def test_a_sidecar_killed_while_it_replays_loses_nothing_and_doubles_nothing_in_the_log(
    redis_client: redis.Redis,
    redis_url: str,
    workers_settings: WorkersSettings,
    store: S3Store,
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path)
    ids = [f"event-{number}" for number in range(250)]
    for number in range(250):
        spool.add(entry(number), uid=UID)
    process = FORK.Process(target=_replay, args=(tmp_path, redis_url))
    process.start()
    until(lambda: stream.waiting(redis_client, UID) > 20, "it replays")
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    _replay(tmp_path, redis_url)
    assert spool.size()[0] == 0
    entries = stream.read(redis_client, UID, max_entries=1000, max_bytes=1 << 40)
    assert {one.event_id for one in entries} == set(ids)
    assert len(entries) <= 350, "at most one page twice"
    context.install(context.Context(workers_settings, connection=redis_client, store=store))
    archive.drain(UID)
    here = context.current()
    records = [r for r in read_records(store, here.layout(UID)) if r.kind == "annotation"]
    assert Counter(record.event_id for record in records) == Counter(ids)
    assert len(list(read_state(store, here.layout(UID)).alive("annotation"))) == 250


@contextmanager
def serving(port: int, redis_port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A whole sidecar under gunicorn, several processes in a group of their own."""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret-key",
        "BUCKET": "labels",
        "WEBHOOK_SECRET": SECRET,
        "API_TOKEN": "a-token-of-the-tests",
        "PORT": str(port),
        "SPOOL_DIR": str(folder / "spool"),
        "WEBHOOK_MAX_MIB": "1",
    }
    with (folder / "sidecar.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "serve"],
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until(lambda: _healthy(port), "the sidecar answers", 60)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_whole_sidecar_killed_under_load_and_started_again_has_all_it_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of_counters = tmp_path / "temporary"
    folder_of_counters.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder_of_counters))
    port, redis_port = free_port(), free_port()
    acknowledged: list[str] = []
    stop = threading.Event()

    def annotate() -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            while not stop.is_set():
                with contextlib.suppress(httpx.HTTPError):
                    acknowledged.append(_post(client, port, sample_bytes("ANNOTATION_CREATED")))

    with serving(port, redis_port, tmp_path) as process:
        threads = [threading.Thread(target=annotate) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(acknowledged) > 50, "events are acknowledged")
        os.killpg(process.pid, signal.SIGKILL)  # master and workers, at one stroke
        stop.set()
        for thread in threads:
            thread.join()
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis", redis_port) as url, serving(port, redis_port, tmp_path) as again:
        connection = redis_edge.client(url)
        until(
            lambda: {e.event_id for e in _entries(connection)} >= set(acknowledged),
            "all it acknowledged is in Redis",
        )
        connection.sadd(names.WANTED, UID)
        _cut_short(port)
        until(lambda: stream.waiting(connection, stream.CONTROL) == 1, "what it meant is looked up")
        too_long = httpx.post(
            f"http://127.0.0.1:{port}/webhook",
            content=iter([b"x" * 700_000, b"x" * 700_000]),  # chunked: it does not say how long it is
            headers={"X-Webhook-Secret": SECRET},
            timeout=10,
            trust_env=False,
        )
        assert too_long.status_code == 413
        assert stream.waiting(connection, stream.CONTROL) == 2
        connection.close()
        before = set(folder_of_counters.iterdir())
        again.send_signal(signal.SIGTERM)
        assert again.wait(30) == 0
        assert len(set(folder_of_counters.iterdir())) == len(before) - 1, "it takes its counters away"


def _post(client: httpx.Client, port: int, body: bytes) -> str:
    answer = client.post(
        f"http://127.0.0.1:{port}/webhook", content=body, headers={"X-Webhook-Secret": SECRET}
    )
    answer.raise_for_status()
    return str(answer.json()["event_id"])


def _entries(connection: redis.Redis) -> list[Entry]:
    return stream.read(connection, UID, max_entries=100_000, max_bytes=1 << 40)


def _cut_short(port: int) -> None:
    """A sender that goes away in the middle of its body."""
    head = f"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Webhook-Secret: {SECRET}\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as one:
        one.sendall(head.encode() + b'{"action": "ANNOTATION_')
        time.sleep(0.1)
