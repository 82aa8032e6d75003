"""`MODEL_CLASS` as people use it: the example of docs/own-model.md, saved and served by `python -m ml_backend`."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from tests.integration.test_ml_backend_http import ROOT, ml_backend

PAGE = (ROOT / "docs" / "own-model.md").read_text()
CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="light" toName="image"><Choice value="bright"/><Choice value="dark"/></Choices></View>"""
PROJECT = "7.1795312966"


def example() -> str:
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_has_ten_lines() -> None:
    assert len([line for line in example().splitlines() if line.strip()]) <= 10


def test_the_example_predicts_behind_the_door(tmp_path: Path) -> None:
    (tmp_path / "bright.py").write_text(example())
    environ = {
        "MODEL_CLASS": "bright:Bright",
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "BUCKET": "bucket",
        "BASIC_AUTH_USER": "ls",
        "BASIC_AUTH_PASS": "a-password",
    }
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
