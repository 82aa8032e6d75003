"""What is too much for one request of Label Studio's, done by the job in its place; and once more by another version.

The Label Studio of the other tests; of our own, every program that takes part, with weights published in a bucket."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from demo.looking import jpeg
from demo.pictures import draw_picture
from stack.machine import ROOT, run_program, started, temporary_setup
from stack.settings import Setup
from tests.e2e.studio import Project, Studio, a_project

TASKS = 40
# Pictures are made large for the network, so that so many are too much for a second on any processor.
CONFIG = """<View><Image name="image" value="$image"/>
<RectangleLabels name="label" toName="image" model_imgsz="960">
<Label value="circle"/><Label value="square"/><Label value="triangle"/><Label value="disc"/><Label value="bar"/>
</RectangleLabels></View>"""
PARTS = {"redis", "s3", "ml_backend", "workers-other"}
WITHIN_S = 240.0


@pytest.fixture(scope="module")
def setup(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """Our programs on this Label Studio, with a second for a request."""
    made = temporary_setup(
        tmp_path_factory.mktemp("stack"),
        os.environ,
        LABEL_STUDIO_URL=studio.url,
        LABEL_STUDIO_API_KEY=studio.token,
        MODEL="s3://labels/models/current.json",
        MODEL_CHECK_SECONDS="0.5",
        ENGINE="torch",
        PREDICT_THREADS="1",
        PREDICT_BUDGET_S="1",
    )
    with started(made, only=PARTS):
        yield made


def sidecar(setup: Setup, *words: str) -> Any:
    """What a command prints as JSON."""
    done = run_program(setup, ["sidecar", *words, "--json"])
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout)


def backend(setup: Setup, path: str) -> httpx.Response:
    return httpx.get(f"{setup.ml_backend_url}{path}", auth=password(setup), timeout=30, trust_env=False)


def password(setup: Setup) -> tuple[str, str]:
    return setup.secrets["BASIC_AUTH_USER"], setup.secrets["BASIC_AUTH_PASS"]


def registration(setup: Setup, project: Project) -> dict[str, Any]:
    user, word = password(setup)
    return {
        **{"project": project.id, "url": setup.ml_backend_url, "title": "ours"},
        **{"auth_method": "BASIC_AUTH", "basic_auth_user": user, "basic_auth_pass": word},
    }


def until(what: str, found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while not (value := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return value


@pytest.fixture(scope="module")
def versions(setup: Setup) -> tuple[str, str]:
    """The version that serves, and another one that is published beside it."""
    other = sidecar(setup, "model", "publish", str(ROOT / "models/demo-seg.pt"), "--name", "discs")
    serves = sidecar(
        setup, "model", "publish", str(ROOT / "models/demo-shapes.pt"), "--name", "shapes", "--activate"
    )
    until("a loaded model", lambda: backend(setup, "/health").json()["model"]["state"] == "ready")
    return serves["version"], other["version"]


@pytest.fixture
def project(studio: Studio, setup: Setup, versions: tuple[str, str]) -> Iterator[Project]:
    images = [
        "data:image/jpeg;base64,"
        + base64.b64encode(jpeg(draw_picture(42_000_000 + n, (320, 240)).image)).decode()
        for n in range(TASKS)
    ]
    made = a_project(studio, images, CONFIG)
    made.backend_id = studio.call("POST", "/api/ml", json=registration(setup, made))["id"]
    yield made
    studio.call("DELETE", f"/api/projects/{made.id}/")


def predicted_by(project: Project) -> list[list[str]]:
    """Of each task, the versions of its predictions."""
    return [sorted(one["model_version"] for one in task["predictions"]) for task in project.tasks()]


def test_a_request_that_is_too_large_is_done_by_the_job_and_again_by_another_version_on_demand(
    project: Project, setup: Setup, versions: tuple[str, str]
) -> None:
    serves, other = versions
    began = time.monotonic()
    project.retrieve()
    assert time.monotonic() - began < 90  # Label Studio gives up after 100 s
    at_once = sum(bool(found) for found in predicted_by(project))
    handed_over = re.search(
        r"^ml_backend_tasks_handed_over_total (\S+)$", backend(setup, "/metrics").text, re.M
    )
    assert handed_over
    assert float(handed_over[1]) >= TASKS - at_once > 0

    until("a prediction of every task", lambda: all(predicted_by(project)))
    version = project.version()
    assert version.startswith(f"{serves}.t")
    [job] = until("the job's end", lambda: _complete(setup, project))
    assert "too large" in str(job)
    assert (job["counts"]["failed"], job["model_version"]) == (0, version)
    project.retrieve()  # nothing is left to ask for
    assert predicted_by(project) == [[version]] * TASKS
    assert sum(len(task["predictions"][0]["result"]) for task in project.tasks()) > TASKS / 2

    listed = backend(setup, f"/versions?project={project.id}").json()
    assert set(listed["published"]) == {serves, other}
    [asked] = [one for one in listed["versions"] if one.startswith(f"{other}.t")]
    done = sidecar(setup, "prelabel", str(project.id), "--filter", "all", "--model", asked)
    assert (done["state"], done["counts"]["written"], done["counts"]["failed"]) == ("complete", TASKS, 0)
    assert predicted_by(project) == [sorted([version, asked])] * TASKS
    again = sidecar(setup, "prelabel", str(project.id), "--filter", "all", "--model", asked)
    assert (again["counts"]["already"], again["counts"]["written"]) == (TASKS, 0)

    # Chosen in Label Studio, it is what the button gives: there is nothing left to ask for.
    chosen = registration(setup, project) | {"extra_params": {"model_version": other}}
    project.call("PATCH", f"/api/ml/{project.backend_id}", json=chosen)
    assert project.version() == asked
    project.retrieve()
    assert predicted_by(project) == [sorted([version, asked])] * TASKS


def _complete(setup: Setup, project: Project) -> list[dict[str, Any]]:
    jobs = sidecar(setup, "prelabel", "list", str(project.id))
    return jobs if jobs and all(job["state"] == "complete" for job in jobs) else []
