"""A timeline that learns, through the door: events in, training in the background, and predictions of what people drew."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import httpx
import pytest

from bridge.edges.s3 import S3Store
from bridge.settings import S3Settings
from tests.integration.test_ml_backend_http import ml_backend
from tests.timelines import (
    MODEL,
    PROJECT,
    SIDE,
    TOKEN,
    UID,
    Json,
    config,
    event,
    label_studio,
    near,
    region,
    serving,
    write_scenes,
)
from tests.unit.ml_backend.helpers import ENVIRON

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def s3(s3_url: str) -> S3Settings:
    environ = ENVIRON | {
        "AWS_ENDPOINT_URL_S3": s3_url,
        "AWS_ACCESS_KEY_ID": "test-access-key",
        "AWS_SECRET_ACCESS_KEY": "test-secret-key",
        "BUCKET": f"test-{uuid.uuid4().hex[:20]}",
    }
    found = S3Settings.from_env(environ)
    S3Store(found).create_bucket()
    return found


def test_annotations_are_learned_from_and_predicted_also_after_a_restart(
    tmp_path: Path, s3: S3Settings
) -> None:
    backend = serving(tmp_path / "cache", s3)
    unseen = tmp_path / "unseen.avi"
    drawn = write_scenes(unseen, 77)
    before = backend.setup()
    assert (
        "not trained yet: annotate videos with Long, Grey, and press Start training" in before["warnings"][0]
    )
    item = backend.predict(unseen)
    assert (item["result"], item["model_version"]) == ([], before["model_version"])

    for id in (1, 2, 3):
        path = tmp_path / f"{id}.avi"
        answer = backend.post("/webhook", event(id, path, write_scenes(path, id)))
        assert answer["status"] == "queued"
        assert answer["training"]
    done = backend.until_trained()["done"]
    assert (done["annotations"], done["videos"], done["frames"]) == (3, 3, 240)
    assert done["f1"] >= 0.95
    assert done["seconds"] < 60

    after = backend.setup()
    assert after["warnings"] == []
    assert after["model_version"] != before["model_version"]
    first = backend.predict(unseen)
    assert near(first["result"], drawn), first
    assert {region["to_name"] for region in first["result"]} == {"video"}
    assert (first["result"][0]["original_width"], first["result"][0]["original_height"]) == (SIDE, SIDE)
    # Upstream's features could be had once for each loaded model, and its classifier not be read again (W7, W8).
    again = serving(tmp_path / "cache", s3).predict(unseen)
    assert again["model_version"] == after["model_version"] == first["model_version"]
    assert [region["value"] for region in again["result"]] == [region["value"] for region in first["result"]]


def test_another_backend_has_it_from_the_bucket(tmp_path: Path, s3: S3Settings) -> None:
    one = serving(tmp_path / "one", s3)
    path = tmp_path / "1.avi"
    one.post("/webhook", event(1, path, write_scenes(path, 1)))
    one.until_trained()
    store = S3Store(s3)
    deadline = time.monotonic() + 30
    while not any(info.key.endswith("manifest.json") for info in store.keys("models/timelines/")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    other = serving(tmp_path / "other", s3)
    deadline = time.monotonic() + 30
    while other.setup()["warnings"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert other.setup()["model_version"] == one.setup()["model_version"]
    theirs, ours = (backend.predict(path)["result"] for backend in (one, other))
    assert [region["value"] for region in ours] == [region["value"] for region in theirs] != []

    # What in the bucket is not what its manifest says is not read.
    [npz] = [info.key for info in store.keys("models/timelines/") if info.key.endswith(".npz")]
    store.put(npz, b"something else")
    third = serving(tmp_path / "third", s3)
    assert "not trained yet" in third.setup()["warnings"][0]


def test_start_training_reads_the_project_and_says_what_is_missing(tmp_path: Path, s3: S3Settings) -> None:
    tasks: list[Json] = []
    for id in (1, 2, 3):
        path = tmp_path / f"{id}.avi"
        result = write_scenes(path, id)
        skipped = {"id": 50 + id, "result": [], "was_cancelled": True}
        tasks.append(
            {"id": id, "data": {"video": str(path)}, "annotations": [{"id": id, "result": result}, skipped]}
        )
    (tmp_path / "broken.avi").write_bytes(b"no video")
    lost = [region("Gone", 1, 9)]
    tasks.append(
        {"id": 4, "data": {"video": str(tmp_path / "broken.avi")}, "annotations": [{"id": 4, "result": lost}]}
    )
    start = {"action": "START_TRAINING", "project": {**PROJECT, "label_config": config()}}

    without = serving(tmp_path / "without", s3).client.post("/webhook", json=start)
    assert without.status_code >= 400
    assert "LABEL_STUDIO_API_KEY is not set" in without.status

    with label_studio(tasks) as url:
        backend = serving(tmp_path / "with", s3, label_studio_url=url, label_studio_api_key=TOKEN)
        assert backend.post("/webhook", start)["status"] == "queued"
        done = backend.until_trained()["done"]
        assert (done["annotations"], done["videos"]) == (3, 3)
        assert done["left_out_count"] == 2
        [left_out] = backend.setup()["warnings"]
        assert "the last training left out 2: annotation 4 of task 4: the config no longer has" in left_out
        assert "'Gone'; annotation 4 of task 4:" in left_out
        assert "broken.avi is no video file: neither MP4, MOV, AVI, WebM nor MPEG" in left_out
        assert "broken.avi" not in str(backend.health())  # which anybody may ask

        # Other labels than the config's: what was learned is not used, and the reason is said.
        changed = config(labels='<Label value="Long"/><Label value="New"/>')
        said = backend.setup(changed)["warnings"][0]
        assert "trained for the labels Long, Grey, and the config has Long, New" in said
        assert backend.predict(tmp_path / "1.avi", changed)["result"] == []

    # Label Studio is gone now: the training fails, the classifier before it serves on, and /setup says why.
    assert backend.post("/webhook", start)["status"] == "queued"
    assert "no answer" in backend.until_trained()["failed"]
    assert "the last training failed" in backend.setup()["warnings"][0]
    assert backend.predict(tmp_path / "1.avi")["result"]


def test_what_cannot_be_learned_from_is_said(tmp_path: Path, s3: S3Settings) -> None:
    backend = serving(tmp_path / "cache", s3)
    backend.post("/webhook", event(1, tmp_path / "none.avi", [region("Long", 1, 5)]))
    failed = backend.until_trained()["failed"]
    assert "no annotation of 1 has a stretch to learn from" in failed
    assert "none.avi: not there" in failed
    deleted = {
        "action": "ANNOTATIONS_DELETED",
        "annotations": [{"id": 101}],
        "project": event(1, "", [])["project"],
    }
    assert backend.post("/webhook", deleted) == {"status": "ignored"}
    # A second annotation, now of a video that is there: the deleted one is no longer in the way.
    path = tmp_path / "2.avi"
    drawn = [one for one in write_scenes(path, 2) if one["value"]["timelinelabels"] == ["Long"]]
    backend.post("/webhook", event(2, path, drawn, "ANNOTATION_UPDATED"))
    done = backend.until_trained()["done"]
    assert (done["annotations"], done["left_out_count"]) == (1, 0)
    assert backend.setup()["warnings"] == [
        "TimelineLabels 'time': no annotation has Grey: never predicted until one has"
    ]


def test_label_studio_never_waits_for_a_training(
    tmp_path: Path, s3: S3Settings, redis_url: str, s3_url: str
) -> None:
    """The program itself, over HTTP: /health has one second, /setup three, and what was learned before predicts on."""
    path = tmp_path / "1.avi"
    drawn = write_scenes(path, 1)
    S3Store(s3).upload("1.avi", path)
    video = f"s3://{s3.bucket}/1.avi"
    environ = ENVIRON | {
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": s3_url,
        "AWS_ACCESS_KEY_ID": "test-access-key",
        "AWS_SECRET_ACCESS_KEY": "test-secret-key",
        "BUCKET": s3.bucket,
        "REDIS_URL": redis_url,
        "MODEL": str(MODEL),
        "ENGINE": "torch",
        "PREDICT_THREADS": "1",
    }
    with (
        ml_backend(tmp_path, environ, state="ready") as (url, _),
        httpx.Client(base_url=url, timeout=30) as client,
    ):

        def training() -> Json:
            found: Json = client.get("/health").json()["model"].get("training", {})
            return found

        def is_busy() -> bool:
            return bool(
                {"running", "waiting"} & set(training())
            )  # of one answer: it goes from one to the other

        def until_done() -> None:
            deadline = time.monotonic() + 120
            while is_busy():
                assert time.monotonic() < deadline
                time.sleep(0.05)

        assert client.post("/webhook", json=event(1, video, drawn)).status_code == 200
        until_done()
        told = {"project": UID, "schema": config(), "label_config": config()}
        told |= {"tasks": [{"id": 1, "data": {"video": video}}]}
        first = client.post("/setup", json=told).json()["model_version"]
        # Two people who say the opposite: no threshold is ever reached, and all epochs are gone through.
        long = config('model_classifier_epochs="150" model_classifier_f1_threshold="1"')
        again = event(2, video, [region("Long", 1, 20)], project={**PROJECT, "label_config": long})
        began = time.monotonic()
        assert client.post("/webhook", json=again).status_code == 200
        assert time.monotonic() - began < 1  # all that Label Studio waits for a webhook
        longest = {"/health": 0.0, "/setup": 0.0}
        predicted = 0
        while is_busy():
            for name in longest:
                began = time.monotonic()
                answer = client.get(name) if name == "/health" else client.post(name, json=told)
                assert answer.status_code == 200
                longest[name] = max(longest[name], time.monotonic() - began)
            item = client.post("/predict", json=told).json()["results"][0]
            if "running" in training():
                assert (item["model_version"], bool(item["result"])) == (first, True)
                predicted += 1
        print({name: f"{seconds * 1000:.0f} ms" for name, seconds in longest.items()}, predicted)  # noqa: T201
        assert predicted > 3
        assert longest["/health"] < 1
        assert longest["/setup"] < 3
        assert training()["done"]["ended_by"] == "epochs"
        assert client.post("/setup", json=told).json()["model_version"] != first


def test_a_model_of_another_task_is_named(tmp_path: Path, s3: S3Settings) -> None:
    backend = serving(tmp_path / "cache", s3, weights=MODEL.parent / "demo-seg.pt")
    backend.post("/webhook", event(1, tmp_path / "1.avi", [region("Long", 1, 5)]))
    assert "learns from what a model for classify sees" in backend.until_trained()["failed"]
