"""What is too much for one request of Label Studio's, done by the job in its place; and once more by another version.
A job that is stopped and goes on, and replaces what was there; and tasks that are predicted as they come.

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
REPLACED = 8
# Pictures are made large for the network, so that so many are too much for a second on any processor.
CONFIG = """<View><Image name="image" value="$image"/>
<RectangleLabels name="label" toName="image" model_imgsz="960">
<Label value="circle"/><Label value="square"/><Label value="triangle"/><Label value="disc"/><Label value="bar"/>
</RectangleLabels></View>"""
PARTS = {"redis", "s3", "ml_backend", "sidecar", "workers-live", "workers-other"}
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
        PRELABEL_NEW_TASKS="yes",  # of connected projects: one test connects its own
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


def pictures(count: int) -> list[str]:
    return [
        "data:image/jpeg;base64,"
        + base64.b64encode(jpeg(draw_picture(42_000_000 + n, (320, 240)).image)).decode()
        for n in range(count)
    ]


@pytest.fixture
def project(studio: Studio, setup: Setup, versions: tuple[str, str]) -> Iterator[Project]:
    made = a_project(studio, pictures(TASKS), CONFIG)
    made.backend_id = studio.call("POST", "/api/ml", json=registration(setup, made))["id"]
    yield made
    studio.call("DELETE", f"/api/projects/{made.id}/")


@pytest.fixture
def empty_project(studio: Studio, setup: Setup, versions: tuple[str, str]) -> Iterator[Project]:
    """Nobody has connected it, and no backend is registered."""
    made = a_project(studio, [], CONFIG)
    yield made
    studio.call("DELETE", f"/api/projects/{made.id}/")


def api(setup: Setup, method: str, path: str, **body: Any) -> Any:
    """What the sidecar answers."""
    answer = httpx.request(
        method,
        f"{setup.sidecar_url}/api/prelabel{path}",
        headers={"Authorization": f"Bearer {setup.secrets['API_TOKEN']}"},
        json=body or None,
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code < 300, f"{method} {path}: {answer.text}"
    return answer.json()


def predicted_tasks(setup: Setup) -> int:
    """How many the ML backend has predicted since it was started."""
    text = backend(setup, "/metrics").text
    return int(sum(map(float, re.findall(r'^ml_backend_tasks_total{.*"predicted".*} (\S+)$', text, re.M))))


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


def test_a_stopped_job_goes_on_where_it_was_and_another_replaces_what_it_wrote(
    project: Project, setup: Setup, versions: tuple[str, str]
) -> None:
    serves, other = versions
    before = predicted_tasks(setup)
    id = api(setup, "POST", "", project=project.id, filter="all")["id"]

    def counts() -> dict[str, int]:
        found: dict[str, int] = api(setup, "GET", f"/{id}")["counts"]
        return found

    until("tasks that are predicted", lambda: counts()["waiting"] + counts()["written"])
    assert api(setup, "POST", f"/{id}/stop")["state"] == "stopped"
    until("what was predicted to be written", lambda: counts()["written"] and not counts()["waiting"])
    assert counts()["written"] < TASKS
    assert not any(len(found) > 1 for found in predicted_by(project))
    api(setup, "POST", f"/{id}/resume")
    # The backend is at work: Label Studio asks how it is, with a second for /health and three for /setup.
    began = time.monotonic()
    assert project.backend()["state"] == "CO"
    assert time.monotonic() - began < 4
    done = until("the end", lambda: _over(api(setup, "GET", f"/{id}")))
    assert (done["state"], done["counts"]["written"], done["counts"]["failed"]) == ("complete", TASKS, 0)
    assert done["model_version"].startswith(f"{serves}.t")
    assert predicted_by(project) == [[done["model_version"]]] * TASKS
    assert predicted_tasks(setup) - before == TASKS  # none was predicted twice

    # The weights alone are named: it is the version they give for the config of now.
    some = ",".join(str(task["id"]) for task in project.tasks()[:REPLACED])
    id = api(setup, "POST", "", project=project.id, filter=f"ids={some}", model=other, replace=True)["id"]
    replaced = until("the end", lambda: _over(api(setup, "GET", f"/{id}")))
    assert (replaced["state"], replaced["counts"]["replaced"]) == ("complete", REPLACED)
    new, old = replaced["model_version"], done["model_version"]
    assert new.startswith(f"{other}.t")
    assert predicted_by(project) == [[new]] * REPLACED + [[old]] * (TASKS - REPLACED)


def test_tasks_of_a_connected_project_are_predicted_as_they_come(
    empty_project: Project, setup: Setup, versions: tuple[str, str]
) -> None:
    project = empty_project
    sidecar(setup, "connect", str(project.id), "--no-baseline")
    for images in (pictures(5), pictures(7)):
        tasks = [{"data": {"image": image}} for image in images]
        project.call("POST", f"/api/projects/{project.id}/import", json=tasks)
    until("a prediction of every task", lambda: len(found := predicted_by(project)) == 12 and all(found))
    [registered] = project.call("GET", "/api/ml", params={"project": project.id})
    assert registered["model_version"].startswith(f"{versions[0]}.t")
    assert predicted_by(project) == [[registered["model_version"]]] * 12
    jobs = until(
        "the jobs' end",
        lambda: all(map(_over, found := api(setup, "GET", f"?project={project.id}")["jobs"])) and found,
    )
    assert sum(job["counts"]["written"] for job in jobs) == 12


def _over(job: dict[str, Any]) -> dict[str, Any] | None:
    return job if job["state"] in ("complete", "failed") else None
