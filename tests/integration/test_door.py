"""The door with a real Redis: what is heard is kept, whatever Redis does."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from bridge.edges import redis as redis_edge
from bridge.edges import stream
from bridge.edges.queue import open_queue
from bridge.settings import LabelStudioSettings, S3Settings, SidecarSettings
from sidecar.app import create_app
from tests.conftest import SAMPLES, sample, sample_bytes
from tests.integration.conftest import free_port, redis_server, redis_server_binary, running

SECRET = "a-secret-of-the-tests"
UID = "1.1795312801"


def settings_for(redis_url: str, s3: S3Settings, folder: Path) -> SidecarSettings:
    return SidecarSettings(
        label_studio=LabelStudioSettings(url="http://127.0.0.1:9", api_key="0" * 40),
        s3=s3,
        redis_url=redis_url,
        webhook_secret=SECRET,
        api_token="a-token-of-the-tests",
        spool_dir=str(folder / "spool"),
        webhook_max_mib=32,
    )


@pytest.fixture
def door(
    redis_client: redis.Redis, redis_url: str, s3_settings: S3Settings, tmp_path: Path
) -> Iterator[FlaskClient]:
    app = create_app(settings_for(redis_url, s3_settings, tmp_path))
    return app.test_client()


def knock(client: FlaskClient, body: bytes, secret: str | None = SECRET) -> TestResponse:
    headers = {} if secret is None else {"X-Webhook-Secret": secret}
    return client.post("/webhook", data=body, headers=headers, content_type="application/json")


@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLES.glob("[A-Z]*.json")))
def test_every_recorded_body_is_accepted_and_kept_as_it_came(
    door: FlaskClient, redis_client: redis.Redis, name: str
) -> None:
    body = sample_bytes(name)
    answer = knock(door, body)
    assert answer.status_code == 202
    kept = [
        entry
        for uid in stream.uids(redis_client)
        for entry in stream.read(redis_client, uid, max_entries=9, max_bytes=10**9)
    ]
    assert [(entry.body, entry.event_id) for entry in kept] == [(body, answer.json["event_id"])]  # type: ignore[index]


@pytest.mark.parametrize(
    ("secret", "said"), [(None, "is missing"), ("", "is missing"), ("wrong", "is wrong")]
)
def test_a_wrong_secret_gets_401_says_what_to_do_and_leaves_no_trace(
    door: FlaskClient, redis_client: redis.Redis, secret: str | None, said: str
) -> None:
    answer = knock(door, sample_bytes("ANNOTATION_CREATED"), secret)
    assert answer.status_code == 401
    assert said in answer.text
    assert "connect PROJECT" in answer.text
    assert redis_client.keys("*") == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "not an object"),
        (b"{}", "no 'action'"),
        (b'{"action": 3}', "no 'action'"),
        (b"[" * 100_000, "not JSON"),
        (json.dumps({"action": "X", "project": {"id": 1, "created_at": "soon"}}).encode(), "soon"),
    ],
)
def test_a_body_nobody_can_read_is_in_the_quarantine_and_the_next_arrives(
    door: FlaskClient, redis_client: redis.Redis, body: bytes, reason: str
) -> None:
    answer = knock(door, body)
    assert answer.status_code == 202
    assert answer.json["status"] == "quarantined"  # type: ignore[index]
    (kept,) = stream.quarantined(redis_client)
    assert kept.entry.body == body
    assert reason in kept.reason
    assert knock(door, sample_bytes("ANNOTATION_CREATED")).json["status"] == "accepted"  # type: ignore[index]
    assert stream.waiting(redis_client, UID) == 1


def test_a_payload_without_a_project_has_its_meaning_looked_up(
    door: FlaskClient, redis_client: redis.Redis
) -> None:
    assert knock(door, b'{"action": "ANNOTATION_CREATED"}').status_code == 202
    assert stream.waiting(redis_client, stream.CONTROL) == 1


def test_an_oversized_body_gets_413_says_which_setting_and_has_its_meaning_looked_up(
    door: FlaskClient, redis_client: redis.Redis
) -> None:
    answer = knock(door, b" " * (33 * 1024 * 1024))
    assert answer.status_code == 413
    assert "WEBHOOK_MAX_MIB" in answer.text
    assert stream.waiting(redis_client, stream.CONTROL) == 1


@pytest.mark.parametrize("size_mib", [2.5, 10])
@pytest.mark.parametrize("redis_is_up", [True, False])
def test_five_thousand_tasks_are_acknowledged_within_a_second(
    redis_client: redis.Redis,
    redis_url: str,
    s3_settings: S3Settings,
    tmp_path: Path,
    size_mib: float,
    redis_is_up: bool,
) -> None:
    url = redis_url if redis_is_up else f"redis://127.0.0.1:{free_port()}/0"
    app = create_app(settings_for(url, s3_settings, tmp_path))
    payload = sample("TASKS_CREATED")
    one = payload["tasks"][0]
    text = "x" * max(0, int(size_mib * 1024 * 1024 / 5000) - len(json.dumps(one)))
    payload["tasks"] = [one | {"id": number, "data": {"text": text}} for number in range(5000)]
    body = json.dumps(payload).encode()
    assert len(body) > 0.8 * size_mib * 1024 * 1024
    fastest = min(
        _seconds(app.test_client(), body) for _ in range(3)
    )  # the machine may have other things to do
    assert fastest < 1.0
    kept = stream.waiting(redis_client, UID) if redis_is_up else app.extensions["door"].spool.size()[0]
    assert kept == 3


def _seconds(client: FlaskClient, body: bytes) -> float:
    began = time.monotonic()
    assert knock(client, body).status_code == 202
    return time.monotonic() - began


class Broken:
    """A Redis that answers every command with one error, or never (error=None)."""

    def __init__(self, error: bytes | None) -> None:
        self._error = error
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._socket.getsockname()[1]}/0"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(one,), daemon=True).start()

    def _talk(self, one: socket.socket) -> None:
        with one:
            while data := one.recv(65536):
                if self._error is not None:
                    one.sendall((b"-" + self._error + b"\r\n") * max(1, data.count(b"*")))

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(None, id="hung"),
        pytest.param(b"READONLY You can't write against a read only replica.", id="read-only"),
        pytest.param(b"OOM command not allowed when used memory > 'maxmemory'.", id="out-of-memory"),
        pytest.param(b"LOADING Redis is loading the dataset in memory", id="loading"),
        pytest.param(b"NOAUTH Authentication required.", id="no-password"),
        pytest.param(b"MISCONF Redis is configured to save RDB snapshots", id="disk-full"),
    ],
)
def test_whatever_is_wrong_with_redis_the_event_is_in_the_spool_within_half_a_second(
    error: bytes | None, s3_settings: S3Settings, tmp_path: Path
) -> None:
    broken = Broken(error)
    app = create_app(settings_for(broken.url, s3_settings, tmp_path))
    began = time.monotonic()
    for _ in range(3):
        assert knock(app.test_client(), sample_bytes("ANNOTATION_CREATED")).status_code == 202
    assert time.monotonic() - began < 1.0
    broken.close()
    assert app.extensions["door"].spool.size()[0] == 3


def test_the_spool_goes_into_redis_when_it_is_back_each_event_once_and_in_order(
    s3_settings: S3Settings, tmp_path: Path
) -> None:
    port = free_port()
    app = create_app(settings_for(f"redis://127.0.0.1:{port}/0", s3_settings, tmp_path))
    ids = [knock(app.test_client(), sample_bytes("ANNOTATION_CREATED")).json["event_id"] for _ in range(5)]  # type: ignore[index]
    assert knock(app.test_client(), b"nonsense").status_code == 202
    door = app.extensions["door"]
    assert door.spool.size()[0] == 6
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis", port) as url:
        door.start_replaying()
        connection = redis_edge.client(url)
        deadline = time.monotonic() + 15
        while door.spool.size()[0] and time.monotonic() < deadline:
            time.sleep(0.1)
        door.stop.set()
        kept = stream.read(connection, UID, max_entries=99, max_bytes=10**9)
        assert [entry.event_id for entry in kept] == ids
        assert stream.quarantine_size(connection) == 1


def test_redis_killed_and_restarted_still_has_what_was_accepted(
    s3_settings: S3Settings, tmp_path: Path
) -> None:
    port = free_port()
    folder = tmp_path / "redis"
    folder.mkdir()
    command = [redis_server_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    url = f"redis://127.0.0.1:{port}/0"
    connection = redis_edge.client(url)
    app = create_app(settings_for(url, s3_settings, tmp_path))

    def up() -> bool:
        try:
            return bool(connection.ping())
        except redis.RedisError:
            return False

    with running(command, folder / "1.log", is_up=up) as process:
        assert knock(app.test_client(), sample_bytes("ANNOTATION_CREATED")).status_code == 202
        process.send_signal(signal.SIGKILL)
        process.wait()
    with running(command, folder / "2.log", is_up=up):
        assert stream.waiting(connection, UID) == 1


def test_health_answers_without_anything_else_and_ready_names_what_is_missing(
    door: FlaskClient, s3_settings: S3Settings
) -> None:
    assert door.get("/health").json == {"status": "up"}
    for _ in range(10):  # on a busy machine the first clients take longer to make than a check may take
        answer = door.get("/ready")
        assert answer.status_code == 503
        checks: dict[str, Any] = answer.json["checks"]  # type: ignore[index]
        if "no answer within" not in checks["bucket"]["detail"]:
            break
    assert checks["redis"]["ok"]
    assert "create it, or correct BUCKET" in checks["bucket"]["detail"]
    assert "LABEL_STUDIO_URL" in checks["label_studio"]["detail"]


def test_metrics_show_events_lag_spool_and_jobs(door: FlaskClient) -> None:
    knock(door, sample_bytes("ANNOTATION_CREATED"))
    knock(door, sample_bytes("ANNOTATION_CREATED"), "wrong")
    text = door.get("/metrics").text
    assert 'bridge_webhook_events_total{action="ANNOTATION_CREATED",kept_in="redis"} 1.0' in text
    assert 'bridge_webhook_refused_total{reason="secret"} 1.0' in text
    assert f'bridge_stream_events{{project="{UID}"}} 1.0' in text
    assert "bridge_archive_lag_seconds{" in text
    assert "bridge_spool_events 0.0" in text
    assert 'bridge_jobs{queue="live",state="queued"} 1.0' in text
    assert "bridge_quarantine_events 0.0" in text


def test_metrics_only_count_and_leave_a_dead_workers_job_to_the_sweep(
    door: FlaskClient, redis_client: redis.Redis
) -> None:
    live = open_queue(redis_client, "live")
    long_ago = 1.0
    redis_client.zadd(live.started_job_registry.key, {"a-job:its-execution": long_ago})
    assert 'bridge_jobs{queue="live",state="started"} 1.0' in door.get("/metrics").text
    assert redis_client.zcard(live.started_job_registry.key) == 1


@pytest.mark.parametrize("path", ["/api/projects", "/api/quarantine"])
@pytest.mark.parametrize("token", [None, "wrong"])
def test_the_api_asks_for_the_bearer_token(door: FlaskClient, path: str, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = door.get(path, headers=headers)
    assert answer.status_code == 401
    assert "API_TOKEN" in answer.text
