"""A timeline that learns, as a person of a real Label Studio meets it: annotate, press Start training, retrieve predictions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from werkzeug.serving import make_server

from ml_backend.app import create_app
from ml_backend.models import Models
from ml_backend.versions import VersionBook
from ml_backend.weights import find_weights
from ml_backend.yolo import YoloDetector
from tests.e2e.studio import Project, Studio, a_project
from tests.timelines import MODEL, Files, config, near, write_scenes
from tests.unit.ml_backend.helpers import FakeInferences, settings

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]
Json = dict[str, Any]


@pytest.fixture
def backend_url(studio: Studio, tmp_path: Path) -> Iterator[str]:
    """Without a password: Label Studio sends none with the annotation events that this is about."""
    plain = settings()
    app = create_app(
        settings(
            label_studio_url=studio.url,
            label_studio_api_key=studio.token,
            cache_dir=str(tmp_path / "cache"),
            s3=replace(plain.s3, endpoint_url="http://127.0.0.1:9"),  # a bucket that is away
        ),
        models=Models(find=lambda: find_weights(str(MODEL)), open=YoloDetector, model_root=MODEL.parent),
        images=Files(),
        inferences=FakeInferences([]),
        versions=VersionBook(None),
    )
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    until(lambda: model(url)["state"] == "ready")
    yield url
    server.shutdown()
    thread.join(10)
    server.server_close()


def model(url: str) -> Json:
    answer: Json = httpx.get(f"{url}/health", timeout=10).json()
    return dict(answer["model"])


def until(is_so: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def until_learned_from(url: str, annotations: int) -> None:
    """Every event of Label Studio's has been trained on, and the last training saw so many annotations."""

    def done() -> bool:
        told = model(url).get("training", {})
        assert "failed" not in told, told
        return (
            not {"running", "waiting"} & set(told) and told.get("done", {}).get("annotations") == annotations
        )

    until(done)


def test_people_annotate_videos_and_the_others_are_predicted(
    studio: Studio, backend_url: str, tmp_path: Path
) -> None:
    drawn, paths = [], []
    for seed in range(4):
        paths.append(tmp_path / f"{seed}.avi")
        drawn.append(write_scenes(paths[-1], seed))
    made: Project = a_project(studio, [], config())
    studio.call(
        "POST", f"/api/projects/{made.id}/import", json=[{"data": {"video": str(path)}} for path in paths]
    )
    tasks = made.tasks()

    def annotate(place: int) -> None:
        path = f"/api/tasks/{tasks[place]['id']}/annotations"
        studio.call("POST", path, json={"result": drawn[place], "lead_time": 1.0})

    annotate(0)  # before there is a backend: no event tells of it
    body = {"project": made.id, "url": backend_url, "title": "ours"}
    made.backend_id = studio.call("POST", "/api/ml", json=body)["id"]
    untrained = made.version()
    for place in (1, 2):
        annotate(place)
    until_learned_from(backend_url, 3)

    learned = made.version()
    assert learned != untrained
    made.retrieve()
    [prediction] = made.tasks()[3]["predictions"]
    assert prediction["model_version"] == learned
    assert near(prediction["result"], drawn[3]), prediction["result"]

    # The same annotations again: the same classifier, the same version, and nothing to predict anew.
    studio.call("POST", f"/api/ml/{made.backend_id}/train", json={})
    until(lambda: not {"running", "waiting"} & set(model(backend_url)["training"]))
    assert model(backend_url)["training"]["done"]["annotations"] == 3
    assert made.version() == learned
    made.retrieve()
    assert len(made.tasks()[3]["predictions"]) == 1
    studio.call("DELETE", f"/api/projects/{made.id}/")
