"""`MODEL_CLASS` as people use it: the example of docs/own-model.md, saved and served by `python -m ml_backend`."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import httpx
import pytest

from tests.integration.test_ml_backend_http import MODEL, ROOT, SEEDS, jpeg, ml_backend

PAGE = (ROOT / "docs" / "own-model.md").read_text()
CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="light" toName="image"><Choice value="bright"/><Choice value="dark"/></Choices></View>"""
PROJECT = "7.1795312966"


BOXES = """<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">
<Label value="circle"/><Label value="square"/><Label value="triangle"/></RectangleLabels></View>"""
ENVIRON = {
    "LABEL_STUDIO_URL": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "BUCKET": "bucket",
    "BASIC_AUTH_USER": "ls",
    "BASIC_AUTH_PASS": "a-password",
}


def examples() -> list[str]:
    found = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(found) == 2
    return found


def test_the_examples_have_ten_lines() -> None:
    for example in examples():
        assert len([line for line in example.splitlines() if line.strip()]) <= 10


def test_the_example_predicts_behind_the_door(tmp_path: Path) -> None:
    (tmp_path / "bright.py").write_text(examples()[0])
    environ = ENVIRON | {"MODEL_CLASS": "bright:Bright"}
    with (
        ml_backend(tmp_path, environ, state="ready", path=tmp_path) as (url, _log),
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        setup = {
            "project": PROJECT,
            "schema": CONFIG,
            "hostname": "",
            "access_token": "",
            "extra_params": None,
        }
        assert client.post("/setup", json=setup).status_code == 401
        client.auth = httpx.BasicAuth("ls", "a-password")
        assert client.post("/setup", json=setup).json()["model_version"] == "bright-1"
        tasks = [{"id": number, "data": {"image": f"s3://b/{number}.jpg"}} for number in range(40)]
        body = {"project": PROJECT, "label_config": CONFIG, "tasks": tasks, "params": {"context": None}}
        answer = client.post("/predict", json=body)
        assert answer.status_code == 200, answer.text
        items = answer.json()["results"]
        assert [item["result"][0]["value"]["choices"] for item in items] == [["bright"]] * 40
        assert {(item["score"], item["model_version"]) for item in items} == {(0.9, "bright-1")}
        assert client.get("/versions").json() == {"versions": ["bright-1"]}
        assert 'ml_backend_tasks_total{outcome="predicted"} 40.0' in client.get("/metrics").text


TELLING = """import os
class Telling:
    model_version = "1"
    def predict(self, tasks):
        told = [os.environ.get(name, "") for name in ("MODEL_DIR", "MY_KEY", "LABEL_STUDIO_URL")]
        return [{"result": [{"type": "choices", "value": {"choices": told}}], "score": 1.0} for _ in tasks]
"""


def test_a_class_finds_in_the_environment_what_only_dotenv_says(tmp_path: Path) -> None:
    (tmp_path / "telling.py").write_text(TELLING)
    (tmp_path / ".env").write_text("MY_KEY=of my own\nLABEL_STUDIO_URL=http://127.0.0.1:1\n")
    environ = ENVIRON | {"MODEL_CLASS": "telling:Telling", "CACHE_DIR": str(tmp_path / "cache")}
    with (
        ml_backend(tmp_path, environ, state="ready", path=tmp_path) as (url, _log),
        httpx.Client(base_url=url, timeout=60, trust_env=False, auth=("ls", "a-password")) as client,
    ):
        body = {"project": PROJECT, "label_config": CONFIG, "tasks": [{"id": 1, "data": {}}]}
        [item] = client.post("/predict", json=body).json()["results"]
        model_dir, mine, label_studio = item["result"][0]["value"]["choices"]
        assert (mine, label_studio) == ("of my own", ENVIRON["LABEL_STUDIO_URL"])
        assert Path(model_dir) == tmp_path / "cache" / "own_model"
        assert Path(model_dir).is_dir()


@pytest.mark.model
def test_the_example_that_stands_on_yolo_keeps_large_boxes_only(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text(examples()[1])
    tasks = [
        {"id": seed, "data": {"image": "data:image/jpeg;base64," + base64.b64encode(jpeg(seed)).decode()}}
        for seed in SEEDS
    ]
    body = {"project": PROJECT, "label_config": BOXES, "tasks": tasks, "params": {"context": None}}
    heights, versions = {}, {}
    for name in ("ml_backend.yolo_class:Yolo", "large:Large"):
        environ = ENVIRON | {"MODEL_CLASS": name, "MODEL": str(MODEL), "ENGINE": "torch"}
        with (
            ml_backend(tmp_path, environ, state="ready", path=tmp_path) as (url, _log),
            httpx.Client(base_url=url, timeout=60, trust_env=False, auth=("ls", "a-password")) as client,
        ):
            setup = client.post("/setup", json={"project": PROJECT, "schema": BOXES}).json()
            items = client.post("/predict", json=body).json()["results"]
            assert {item["model_version"] for item in items} == {setup["model_version"]}
            versions[name] = setup["model_version"]
            heights[name] = [[region["value"]["height"] for region in item["result"]] for item in items]
    every, large = heights.values()
    assert [len(one) for one in large] == [sum(height >= 30 for height in one) for one in every]
    assert 0 < sum(map(len, large)) < sum(map(len, every))
    default, of_large = versions.values()
    assert re.fullmatch(re.escape(default) + r"\.Large\.[0-9a-f]{8}", of_large)
