"""Weights replaced under a running `python -m ml_backend`: real ones, a broken file, real ones again."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.edges.s3 import S3Store
from bridge.keys import models_prefix
from bridge.settings import S3Settings
from sidecar.published import Shelf
from tests.integration.test_ml_backend_http import MODEL, ROOT, ml_backend

pytestmark = pytest.mark.model
CONFIG = """<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">
<Label value="circle"/><Label value="disc"/></RectangleLabels></View>"""
PROJECT = "7.1795312966"


def until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def put(source: Path | bytes, file: Path) -> None:
    """As a careful person replaces a file: whole, at once."""
    partial = file.with_suffix(".partial")
    if isinstance(source, Path):
        shutil.copyfile(source, partial)
    else:
        partial.write_bytes(source)
    partial.replace(file)


def test_weights_are_replaced_under_a_running_program_and_a_broken_file_changes_nothing(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.pt"
    put(MODEL, file)
    environ = {
        "MODEL": str(file),
        "MODEL_CHECK_SECONDS": "0.2",
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "BUCKET": "bucket",
        "ENGINE": "torch",
    }
    with (
        ml_backend(tmp_path, environ, state="ready") as (url, log),
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        setup = {"project": PROJECT, "schema": CONFIG, "extra_params": None}

        def version() -> str:
            answer = client.post("/setup", json=setup)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["model_version"])

        def model() -> dict[str, Any]:
            found: dict[str, Any] = client.get("/health").json()["model"]
            return found

        first = version()
        put(MODEL.read_bytes()[:100_000], file)
        until(lambda: model().get("replacement", {}).get("state") == "failed")
        assert (model()["state"], version()) == ("ready", first)
        assert "the model before it serves on" in log.read_text()
        put(ROOT / "models" / "demo-seg.pt", file)
        until(lambda: version() != first)
        assert "replacement" not in model()
        assert client.get("/versions").json()["versions"] == [version(), first]


def test_weights_published_in_the_bucket_serve_when_the_pointer_says_so(tmp_path: Path, s3_url: str) -> None:
    store_environ = {
        "AWS_ENDPOINT_URL_S3": s3_url,
        "AWS_ACCESS_KEY_ID": "test-access-key",
        "AWS_SECRET_ACCESS_KEY": "test-secret-key",
        "BUCKET": f"test-{uuid.uuid4().hex[:20]}",
        "BUCKET_PREFIX": "team",
    }
    settings = S3Settings.from_env(store_environ)
    store = S3Store(settings)
    store.create_bucket()
    shelf = Shelf(store, models_prefix(settings.bucket_prefix))
    shapes, _ = shelf.publish(MODEL, "shapes")
    discs, _ = shelf.publish(ROOT / "models" / "demo-seg.pt", "discs")
    shelf.activate(shapes.version)
    environ = store_environ | {
        "MODEL": f"s3://{settings.bucket}/team/models/current.json",
        "MODEL_CHECK_SECONDS": "0.5",
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "ENGINE": "torch",
    }
    setup = {"project": PROJECT, "schema": CONFIG, "extra_params": None}
    with (
        ml_backend(tmp_path, environ, state="ready") as (url, _log),
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):

        def version(**changes: Any) -> str:
            return str(client.post("/setup", json=setup | changes).json().get("model_version"))

        assert version().startswith(f"{shapes.version}.t")
        until(lambda: version(extra_params={"model_version": discs.version}).startswith(discs.version))
        assert version().startswith(shapes.version)
        shelf.activate(discs.version)
        until(lambda: version().startswith(f"{discs.version}.t"))
        shelf.activate(shapes.version)  # back, as after a bad model
        until(lambda: version().startswith(f"{shapes.version}.t"))
