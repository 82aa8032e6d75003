"""Seconds to pre-label 2,000 tasks in a real Label Studio: our job beside its own "Retrieve predictions".

Label Studio's way is given a backend that answers at once, so that only its own part is in the figure; ours is measured
with that same backend, and with the demo model on drawn pictures from the bucket. One worker, one run each."""

from __future__ import annotations

import io
import json
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rq import SimpleWorker
from rq.serializers import JSONSerializer

from benchmarks.row import Row, less_is_better
from bridge import jobs
from bridge import prelabel as rules
from bridge.edges import prelabel as registry
from bridge.edges.label_studio import LabelStudio
from bridge.edges.prelabel import Ledger
from bridge.edges.queue import open_queue
from bridge.keys import project_uid
from bridge.prelabel import Order, View
from bridge.records import parse_time
from bridge.settings import WorkersSettings
from demo.pictures import draw_picture
from stack.machine import started, store_of, temporary_setup
from stack.settings import program_environment
from workers import context

TASKS = 2000
PICTURES = 100  # drawn ones, each in so many tasks as it takes
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="circle"/><Label value="square"/><Label value="triangle"/></RectangleLabels></View>'
)
VERSION = "instant.1"


def measure() -> list[Row]:
    """Starts a Label Studio of its own, which takes a minute or two."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _instant() as instant:
        setup = temporary_setup(Path(folder), os.environ)
        with started(setup, only={"redis", "s3", "label-studio", "ml_backend"}):
            store = store_of(setup)
            for number in range(PICTURES):
                picture = io.BytesIO()
                draw_picture(number).image.save(picture, "JPEG", quality=85)
                store.put(f"images/{number}.jpg", picture.getvalue(), content_type="image/jpeg")
            settings = WorkersSettings.from_env(program_environment(setup))
            ours = _job(settings)
            ours_instant = _job(replace(settings, ml_backend_url=instant))
            theirs = _retrieve(LabelStudio(settings.label_studio), settings.s3.bucket, instant)
    other = f"Retrieve predictions, of an instant backend ({theirs.there:,} of {TASKS:,} there)"
    return [
        less_is_better(f"{TASKS:,} tasks by the demo model", "s", ours, theirs.seconds, other),
        less_is_better(f"{TASKS:,} tasks, instant backend", "s", ours_instant, theirs.seconds, other),
    ]


def _job(settings: WorkersSettings) -> float:
    """From asking to the end of the report; every task must have exactly one prediction."""
    here = context.Context(settings)
    context.install(here)
    project = _project(here.label_studio, settings.s3.bucket)
    born = parse_time(project["created_at"])
    assert born is not None
    uid, now = project_uid(project["id"], born), datetime.now(UTC)
    order = Order(id=rules.new_id(uid, now), uid=uid)
    began = time.perf_counter()
    registry.ask(here.redis, order)
    queue = open_queue(here.redis, jobs.PRELABEL)
    SimpleWorker([queue], connection=here.redis, serializer=JSONSerializer).work(
        burst=True, logging_level="ERROR"
    )
    seconds = time.perf_counter() - began
    view: View = Ledger(here.redis, order.id).view(here.layout(uid), datetime.now(UTC))
    assert view.state == rules.COMPLETE, view.message
    assert view.account.written == TASKS, view.failures
    there = _there(here.label_studio, project["id"])
    assert len(there) == TASKS and set(there.values()) == {1}, "a task has none, or two"  # noqa: PT018
    return seconds


class _Retrieved:
    def __init__(self, seconds: float, there: int) -> None:
        self.seconds, self.there = seconds, there


def _retrieve(label_studio: LabelStudio, bucket: str, instant: str) -> _Retrieved:
    """What the button of the data manager does, with all tasks selected."""
    project = _project(label_studio, bucket)
    label_studio.post("/api/ml", {"project": project["id"], "url": instant, "title": "instant"})
    began = time.perf_counter()
    label_studio.post(
        "/api/dm/actions",
        {"selectedItems": {"all": True, "excluded": []}},
        timeout_s=3600,
        id="retrieve_tasks_predictions",
        project=project["id"],
    )
    return _Retrieved(time.perf_counter() - began, len(_there(label_studio, project["id"])))


def _project(label_studio: LabelStudio, bucket: str) -> dict[str, Any]:
    project: dict[str, Any] = label_studio.post(
        "/api/projects", {"title": "pre-label", "label_config": CONFIG}
    )
    for start in range(0, TASKS, 500):
        numbers = range(start, min(TASKS, start + 500))
        tasks = [{"data": {"image": f"s3://{bucket}/images/{number % PICTURES}.jpg"}} for number in numbers]
        label_studio.post(f"/api/projects/{project['id']}/import", tasks, timeout_s=600)
    return project


def _there(label_studio: LabelStudio, project_id: int) -> Counter[int]:
    """How many predictions each task has."""
    found = label_studio.request(
        "GET", "/api/predictions", params={"project": project_id}, timeout_s=600
    ).json()
    return Counter(one["task"] for one in found)


@contextmanager
def _instant() -> Iterator[str]:
    """An ML backend that answers at once, with one box a task."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"status": "UP", "versions": [VERSION]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            if self.path != "/predict":
                return self._answer({"model_version": VERSION})
            item = {"result": [_box()], "score": 0.9, "model_version": VERSION}
            return self._answer({"results": [item] * len(body["tasks"])})

        def _answer(self, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _box() -> dict[str, Any]:
    size = {"original_width": 640, "original_height": 480, "image_rotation": 0}
    value = {"x": 1, "y": 10, "width": 20, "height": 30, "rotation": 0, "rectanglelabels": ["circle"]}
    kind = {"from_name": "label", "to_name": "image", "type": "rectanglelabels", "score": 0.9}
    return {"id": "r1", **kind, **size, "value": value}
