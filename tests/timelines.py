"""What the tests of timelines that learn share: videos of drawn scenes with their annotation, and a backend with the small model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
from flask.testing import FlaskClient
from PIL import Image

from bridge.errors import NotFound
from bridge.settings import S3Settings
from demo.plain_pictures import Point, Shape, outline_of, paint
from ml_backend.app import create_app
from ml_backend.models import Models
from ml_backend.problems import TaskProblem
from ml_backend.timeline.stretches import agreement, holds, stretches_of
from ml_backend.versions import VersionBook
from ml_backend.weights import find_weights
from ml_backend.yolo import YoloDetector
from tests.unit.ml_backend.helpers import FakeInferences, settings

Json = dict[str, Any]
ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "demo-cls.pt"
PROJECT = {"id": 3, "created_at": "2026-11-22T02:02:46.648252Z"}
UID = "3.1795312966"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
SIDE, FPS = 96, 24
SCENES = (("disc", 20), ("bar", 24), ("arrow", 16), ("bar", 20))


def config(attributes: str = "", labels: str = '<Label value="Long"/><Label value="Grey"/>') -> str:
    return (
        f'<View><Video name="video" value="$video" framerate="{FPS}"/><TimelineLabels name="time" toName="video" '
        f'model_trainable="true" {attributes}>{labels}</TimelineLabels></View>'
    )


def write_scenes(path: Path, seed: int, scenes: tuple[tuple[str, int], ...] = SCENES) -> list[Json]:
    """A video of one shape after another, and its annotation: "Long" while there is a bar, "Grey" at an arrow and the bar
    after it: two labels at once, none of them a class of the model."""
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (SIDE, SIDE))  # type: ignore[attr-defined]
    rng = np.random.default_rng(seed)
    frame, starts = 1, []
    for name, length in scenes:
        starts.append((name, frame, frame + length - 1))
        shade = 130 if len(starts) >= 3 else 20
        for step in range(length):
            centre: Point = (40 + step % 12 + float(rng.uniform(0, 4)), 48 + float(rng.uniform(-4, 4)))
            shape = Shape(name=name, outline=outline_of(name, centre, 44, step / 7))
            picture = paint(Image.new("RGB", (SIDE, SIDE), (shade, shade, shade)), shape, (230, 220, 200))
            out.write(np.asarray(picture)[..., ::-1].copy())
        frame += length
    out.release()
    drawn = [("Long", start, end) for name, start, end in starts if name == "bar"]
    drawn += [("Grey", starts[2][1], starts[-1][2])] if len(starts) > 2 else []
    return [region(label, start, end) for label, start, end in drawn]


def region(label: str, start: int, end: int) -> Json:
    value = {"ranges": [{"start": start, "end": end}], "timelinelabels": [label]}
    return {"from_name": "time", "to_name": "video", "type": "timelinelabels", "value": value}


def event(
    id: int, path: Path | str, result: list[Json], action: str = "ANNOTATION_CREATED", **more: Any
) -> Json:
    return {
        "action": action,
        "project": {**PROJECT, "label_config": config()},
        "task": {"id": id, "data": {"video": str(path)}},
        "annotation": {"id": 100 + id, "task": id, "result": result, "was_cancelled": False},
        **more,
    }


class Files:
    """Videos are files named by the task."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @contextmanager
    def video(self, reference: str, *, task_id: int | None = None) -> Iterator[Path]:
        self.asked.append(reference)
        if not Path(reference).is_file():
            raise TaskProblem("missing", f"{reference}: not there")
        yield Path(reference)

    def load(self, reference: str, *, task_id: int | None = None, reducible: Any = None) -> Any:
        raise NotFound(reference)


@dataclass
class Backend:
    client: FlaskClient
    files: Files

    def post(self, path: str, body: Json) -> Json:
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.get_json()
        return found

    def setup(self, label_config: str | None = None) -> Json:
        return self.post("/setup", {"project": UID, "schema": label_config or config()})

    def predict(self, path: Path, label_config: str | None = None) -> Json:
        tasks = [{"id": 9, "data": {"video": str(path)}}]
        body = {"project": UID, "label_config": label_config or config(), "tasks": tasks}
        item: Json = self.post("/predict", body)["results"][0]
        return item

    def health(self) -> Json:
        answer: Json = self.client.get("/health").get_json()
        return dict(answer["model"])

    def until_trained(self, timeout_s: float = 120) -> Json:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            began = time.monotonic()
            training = self.health().get("training", {})
            assert time.monotonic() - began < 1
            if "running" not in training and "waiting" not in training:
                return training
            time.sleep(0.05)
        raise AssertionError(f"not trained after {timeout_s} s: {training}")


def serving(folder: Path, s3: S3Settings, weights: Path = MODEL, **changes: Any) -> Backend:
    """The app as it is, over a real store; `folder` is its CACHE_DIR."""
    files = Files()
    app = create_app(
        settings(cache_dir=str(folder), s3=s3, **changes),
        models=Models(find=lambda: find_weights(str(weights)), open=YoloDetector, model_root=MODEL.parent),
        images=files,
        inferences=FakeInferences([]),
        versions=VersionBook(None),
    )
    backend = Backend(client=app.test_client(), files=files)
    deadline = time.monotonic() + 120
    while backend.health()["state"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return backend


@contextmanager
def label_studio(tasks: list[Json]) -> Iterator[str]:
    """/api/tasks as 1.23.2 answers it, to whoever has the token."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            [after] = [
                item["value"]
                for item in json.loads(query["query"][0])["filters"]["items"]
                if item["filter"] == "filter:tasks:id"
            ]
            page = [task for task in tasks if task["id"] > after][:2]
            known = self.headers["Authorization"] == f"Token {TOKEN}"
            status = (200 if page else 404) if known else 401
            body = json.dumps({"tasks": page} if page else {"detail": "Invalid page."}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def near(found: list[Json], drawn: list[Json], frames: int = 80) -> bool:
    """Whether both say the same of nearly every frame and label."""
    labels, steps = ("Long", "Grey"), range(1, frames + 1)
    ours, theirs = (
        holds(stretches_of(result, "time"), labels, list(steps), frames) for result in (found, drawn)
    )
    return agreement(ours.astype(float), theirs).f1 > 0.9
