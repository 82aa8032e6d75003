"""What an annotator's save costs: a POST to a real Label Studio with us connected, with nothing connected, with a webhook
to somebody who answers at once (what of the cost is Label Studio's own), and with Label Studio's own S3 target storage,
which writes each annotation to the bucket before it answers. Then the same with the bucket away, and what of it is in the
bucket once it is back.

The projects take turns, save by save, so that a busy moment of the machine is in all figures. The live worker
and the scheduler run beside it.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from benchmarks.relay import bucket_behind_relay
from benchmarks.row import Row, less_is_better, more_is_better
from benchmarks.sender import percentile
from bridge.edges.log import read_records
from bridge.keys import project_uid
from bridge.records import parse_time
from bridge.settings import WorkersSettings
from stack.machine import run_program, started, temporary_setup
from stack.settings import Setup, program_environment
from workers.context import Context

OURS = "ours"
NOTHING = "nothing connected"
EMPTY_WEBHOOK = "a webhook that keeps nothing"
TARGET = "Label Studio's own S3 target storage"
PARTS = {"redis", "label-studio", "sidecar", "workers-live", "scheduler"}
TARGET_PREFIX = "target"
WARM_UP = 3
AFTERWARDS_S = 20
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Cat"/></RectangleLabels></View>'
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Saves in each project, with the bucket there and with the bucket away."""

    healthy: int = 40
    away: int = 15


def measure(size: Size = Size()) -> list[Row]:
    """Milliseconds a save takes, and the share of saves that went well. Starts a Label Studio of its own, which takes a
    minute or two."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        bucket_behind_relay(Path(folder) / "store") as (relay, bucket),
    ):
        setup = temporary_setup(Path(folder) / "stack", os.environ, **bucket)
        with started(setup, only=PARTS), _client(setup) as client, _empty_webhook() as address:
            names = (NOTHING, EMPTY_WEBHOOK, OURS, TARGET)
            projects = {name: _Project.made(client, name) for name in names}
            _add_webhook(client, projects[EMPTY_WEBHOOK].id, address)
            _connect(setup, projects[OURS].id)
            _add_target_storage(client, setup, projects[TARGET].id)
            _save_in_turn(client, projects, WARM_UP)
            healthy = _save_in_turn(client, projects, size.healthy)
            relay.down()
            away = _save_in_turn(client, projects, size.away)
            relay.up()
            here = Context(WorkersSettings.from_env(program_environment(setup)))
            kept = _kept(here, projects, away)
    return [*_rows(healthy, away), _kept_row(kept)]


@dataclass
class _Saves:
    """Of one project in one state of the bucket: milliseconds of each, the good ones, and their task ids."""

    took_ms: list[float] = field(default_factory=list)
    good: int = 0
    tasks: list[int] = field(default_factory=list)

    @property
    def good_percent(self) -> float:
        return 100 * self.good / len(self.took_ms)


@dataclass
class _Project:
    """A project with tasks to be annotated; each gets one annotation."""

    id: int
    created_at: str
    tasks: list[int]

    @classmethod
    def made(cls, client: httpx.Client, title: str, tasks: int = 200) -> _Project:
        made = _json(client.post("/api/projects", json={"title": title, "label_config": CONFIG}))
        data = [{"data": {"image": f"s3://pictures/{number}.png"}} for number in range(tasks)]
        answer = _json(
            client.post(f"/api/projects/{made['id']}/import", json=data, params={"return_task_ids": "true"})
        )
        return cls(id=made["id"], created_at=made["created_at"], tasks=list(answer["task_ids"]))


def _rows(healthy: dict[str, _Saves], away: dict[str, _Saves]) -> list[Row]:
    def median(saves: _Saves) -> float:
        return percentile(saves.took_ms, 0.5)

    def save(when: str, found: dict[str, _Saves], other: str) -> Row:
        return less_is_better(
            f"a save, bucket {when}, median", "ms", median(found[OURS]), median(found[other]), other
        )

    return [
        save("there", healthy, NOTHING),
        save("there", healthy, EMPTY_WEBHOOK),
        save("there", healthy, TARGET),
        save("away", away, NOTHING),
        save("away", away, TARGET),
        more_is_better(
            "saves answered well, bucket away",
            "%",
            away[OURS].good_percent,
            away[TARGET].good_percent,
            TARGET,
        ),
    ]


def _kept_row(kept: dict[str, float]) -> Row:
    return more_is_better(
        "... of them in the bucket, once back",
        "%",
        kept[OURS],
        kept[TARGET],
        f"{TARGET}, after {AFTERWARDS_S} s",
    )


def _save_in_turn(client: httpx.Client, projects: dict[str, _Project], rounds: int) -> dict[str, _Saves]:
    found = {name: _Saves() for name in projects}
    for _ in range(rounds):
        for name, project in projects.items():
            task = project.tasks.pop()
            began = time.perf_counter()
            answer = client.post(
                f"/api/tasks/{task}/annotations", json={"result": _result(), "lead_time": 2.5}
            )
            saves = found[name]
            saves.took_ms.append((time.perf_counter() - began) * 1000)
            saves.good += answer.status_code == 201
            saves.tasks.append(task)
    return found


def _kept(here: Context, projects: dict[str, _Project], away: dict[str, _Saves]) -> dict[str, float]:
    """The share of what was saved while the bucket was away that is in it by now, in %; nobody has done anything."""
    born = parse_time(projects[OURS].created_at)
    assert born is not None
    layout = here.layout(project_uid(projects[OURS].id, born))

    def ours() -> set[int]:
        records = read_records(here.store, layout)
        return {int(record.data["task"]) for record in records if record.kind == "annotation"}

    def target() -> set[int]:
        keys = [info.key for info in here.store.keys(f"{TARGET_PREFIX}/")]
        return {int(json.loads(here.store.get(key))["task"]["id"]) for key in keys}

    deadline = time.monotonic() + AFTERWARDS_S
    while time.monotonic() < deadline:
        if set(away[OURS].tasks) <= ours() and set(away[TARGET].tasks) <= target():
            break
        time.sleep(1)
    return {
        name: 100 * len(set(away[name].tasks) & found) / len(away[name].tasks)
        for name, found in ((OURS, ours()), (TARGET, target()))
    }


def _connect(setup: Setup, project: int) -> None:
    """As an operator does. Without an ML backend, which is not what is measured, and without reading what is there."""
    done = run_program(setup, ["sidecar", "connect", str(project), "--no-baseline"], ML_BACKEND_URL="")
    if done.returncode:
        raise RuntimeError(f"connecting failed:\n{done.stdout}{done.stderr}")


def _add_webhook(client: httpx.Client, project: int, address: str) -> None:
    """As ours is registered: every action, with its payload."""
    webhook = {"project": project, "url": address, "send_payload": True, "send_for_all_actions": True}
    _json(client.post("/api/webhooks/", json=webhook))


@contextmanager
def _empty_webhook() -> Iterator[str]:
    """Yields the address of a server on this machine that reads what it is sent and says 200."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _SaysYes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/webhook"
    finally:
        server.shutdown()
        server.server_close()


class _SaysYes(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _add_target_storage(client: httpx.Client, setup: Setup, project: int) -> None:
    environment = program_environment(setup)
    storage = {
        "project": project,
        "title": "target",
        "bucket": environment["BUCKET"],
        "prefix": TARGET_PREFIX,
        "s3_endpoint": environment["AWS_ENDPOINT_URL_S3"],
        "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
        "region_name": "us-east-1",
    }
    _json(client.post("/api/storages/export/s3", json=storage))


def _client(setup: Setup) -> httpx.Client:
    token = program_environment(setup)["LABEL_STUDIO_API_KEY"]
    return httpx.Client(
        base_url=setup.label_studio_url,
        headers={"Authorization": f"Token {token}"},
        timeout=60,
        trust_env=False,
        follow_redirects=True,
    )


def _json(answer: httpx.Response) -> Any:
    if answer.status_code >= 400:
        raise RuntimeError(
            f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:300]}"
        )
    return answer.json()


def _result() -> list[dict[str, Any]]:
    size = {"original_width": 640, "original_height": 480, "image_rotation": 0}
    box = {"x": 1, "y": 10, "width": 20, "height": 30, "rotation": 0, "rectanglelabels": ["Cat"]}
    kind = {"from_name": "label", "to_name": "image", "type": "rectanglelabels"}
    return [{"id": f"r{number}", **kind, **size, "value": box} for number in range(3)]
