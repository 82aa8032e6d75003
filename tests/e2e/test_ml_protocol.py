"""Every request that Label Studio 1.23.2 makes of an ML backend, made by a real one, and what it makes of the answers.

The backend is ours, served over HTTP by this process so that each request can be seen; its model finds what it is told.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from PIL import Image
from werkzeug.serving import make_server

from bridge.store import MemoryStore
from ml_backend.app import create_app
from ml_backend.detectors import Found
from ml_backend.images import ImageLoader, Limits
from ml_backend.safety import GuardedTransport, web_rules
from tests.e2e.studio import Project, Studio, a_project
from tests.unit.ml_backend.helpers import (
    CONFIG,
    FakeDetector,
    FakeInferences,
    a_box,
    image_bytes,
    models_of,
    settings,
)

USER, PASSWORD = "label-studio", "a-password"
CIRCLE = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["Circle"]}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request that Label Studio made, the status it got, and after how long."""

    method: str
    path: str
    password: bool
    body: dict[str, Any]
    status: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(kw_only=True)
class Backend:
    url: str
    asked: list[Asked] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    records: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    """The model waits for it."""

    def since(self, act: Callable[[], Any]) -> tuple[Any, list[Asked]]:
        """What an action gives, and the requests it made: all of Label Studio's are made before it answers."""
        before = len(self.asked)
        return act(), self.asked[before:]


@pytest.fixture(scope="module")
def backend(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    found = Backend(url="")
    found.gate.set()
    boxes = (a_box(), a_box("square", 0.7, 50, 100, 90, 180))
    rules = web_rules(hosts=["*"], private=False, label_studio_url=studio.url, store_url=None)
    http = httpx.Client(transport=GuardedTransport(rules))
    app = create_app(
        settings(
            label_studio_url=studio.url,
            label_studio_api_key=studio.token,
            basic_auth_user=USER,
            basic_auth_pass=PASSWORD,
            cache_dir=str(tmp_path_factory.mktemp("cache")),
        ),
        models=models_of(FakeDetector(Found(boxes=boxes), gate=found.gate)),
        images=ImageLoader(
            label_studio_url=studio.url,
            api_key=studio.token,
            limits=Limits(timeout_s=20, max_bytes=10_000_000, max_pixels=10_000_000),
            open_bucket=lambda _bucket: MemoryStore(),
            rules=rules,
            http=http,
        ),
        inferences=FakeInferences(found.records),
    )
    server = make_server("127.0.0.1", 0, _listening(app.wsgi_app, found), threaded=True)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    thread.join(10)
    server.server_close()
    http.close()


def _listening(app: Any, backend: Backend) -> Any:
    def listen(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        began = time.monotonic()
        backend.begun.append(environ["PATH_INFO"])
        raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(raw)

        def begin(status: str, *rest: Any) -> Any:
            backend.asked.append(
                Asked(
                    method=environ["REQUEST_METHOD"],
                    path=environ["PATH_INFO"],
                    password="HTTP_AUTHORIZATION" in environ,
                    body=json.loads(raw) if raw else {},
                    status=int(status.split()[0]),
                    seconds=time.monotonic() - began,
                )
            )
            return start(status, *rest)

        found: Iterable[bytes] = app(environ, begin)
        return found

    return listen


def inline(shade: int = 0) -> str:
    """A picture of 100x200 px as an address of its own: the model finds a circle and a square on each."""
    body = image_bytes(Image.new("RGB", (100, 200), (shade % 256, 0, 0)), "PNG")
    return "data:image/png;base64," + base64.b64encode(body).decode()


def registration(project: int, backend: Backend, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "project": project,
        "url": backend.url,
        "title": "ours",
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": USER,
        "basic_auth_pass": PASSWORD,
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


@pytest.fixture
def project(studio: Studio, backend: Backend) -> Iterator[Callable[..., Project]]:
    """Makes projects with our backend registered; removes them afterwards."""
    made: list[Project] = []

    def make(*images: str, config: str = CONFIG, **changes: Any) -> Project:
        found = a_project(studio, images, config)
        made.append(found)
        found.backend_id = studio.call("POST", "/api/ml", json=registration(found.id, backend, **changes))[
            "id"
        ]
        return found

    yield make
    for found in made:
        studio.call("DELETE", f"/api/projects/{found.id}/")


def raw(studio: Studio, method: str, path: str, **options: Any) -> httpx.Response:
    """An answer that may be an error."""
    return httpx.request(
        method,
        f"{studio.url}{path}",
        headers={"Authorization": f"Token {studio.token}"},
        timeout=100,
        trust_env=False,
        **options,
    )


def action(project: Project, name: str) -> Any:
    """An action of the data manager, on all tasks."""
    return project.call(
        "POST",
        "/api/dm/actions",
        params={"id": name, "project": project.id},
        json={"selectedItems": {"all": True, "excluded": []}, "project": str(project.id)},
    )


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def names(asked: Iterable[Asked]) -> list[str]:
    return [str(one) for one in asked]


def test_adding_asks_health_and_setup_twice_with_the_password(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    made, asked = backend.since(lambda: project(extra_params={"any": ["json", 1, None]}))
    assert names(asked) == ["GET /health", "POST /setup"] * 2
    assert all(one.password and one.status == 200 for one in asked)
    body = asked[1].body
    assert re.fullmatch(rf"{made.id}\.\d+", body["project"])
    assert body["schema"].strip() == CONFIG.strip()
    assert body["extra_params"] == {"any": ["json", 1, None]}
    assert {"hostname", "access_token"} <= body.keys()
    assert made.backend()["state"] == "CO"
    assert made.version().startswith("shapes.aaaaaaaa.t0.5.m")
    (hook,) = studio.call("GET", "/api/webhooks/", params={"project": made.id})
    assert hook["url"] == f"{backend.url}/webhook"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"basic_auth_pass": "wrong"}, "authentication parameters"),
        ({"auth_method": "NONE", "basic_auth_user": "", "basic_auth_pass": None}, "401"),
        ({"url": "http://127.0.0.1:9"}, "health check failed"),
    ],
)
def test_a_backend_that_cannot_be_used_is_not_added_and_says_why(
    studio: Studio, backend: Backend, changes: dict[str, Any], said: str
) -> None:
    made = a_project(studio, [], CONFIG)
    answer = raw(studio, "POST", "/api/ml", json=registration(made.id, backend, **changes))
    studio.call("DELETE", f"/api/projects/{made.id}/")
    assert answer.status_code == 400
    assert said in answer.text, answer.text


def test_all_selected_tasks_come_in_one_request_and_all_are_stored(
    backend: Backend, project: Callable[..., Project]
) -> None:
    made = project(*(inline(number) for number in range(40)))
    _, asked = backend.since(made.retrieve)
    assert names(asked) == ["GET /health", "POST /setup", "POST /predict"]
    assert (asked[2].password, len(asked[2].body["tasks"])) == (True, 40)
    assert asked[2].body["params"]["context"] is None
    version = made.version()
    for task in made.tasks():
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == version
        assert prediction["score"] == pytest.approx(0.8)
        assert prediction["result"][0]["value"] == CIRCLE
        assert prediction["result"][0]["original_height"] == 200
    _, again = backend.since(made.retrieve)
    assert names(again) == ["GET /health", "POST /setup"]
    assert {len(task["predictions"]) for task in made.tasks()} == {1}


def test_a_changed_mapping_is_predicted_again_once(backend: Backend, project: Callable[..., Project]) -> None:
    made = project(inline(1), inline(2))
    made.retrieve()
    first = made.version()
    changed = CONFIG.replace('value="Box" predicted_values="square"', 'value="Square"')
    made.call("PATCH", f"/api/projects/{made.id}/", json={"label_config": changed})
    made.retrieve()
    second = made.version()
    assert first != second
    _, again = backend.since(made.retrieve)
    assert names(again) == ["GET /health", "POST /setup"]
    for task in made.tasks():
        assert {prediction["model_version"] for prediction in task["predictions"]} == {first, second}
        newest = max(task["predictions"], key=lambda prediction: prediction["id"])
        assert newest["result"][1]["value"]["rectanglelabels"] == ["Square"]


def test_one_broken_task_costs_only_itself(backend: Backend, project: Callable[..., Project]) -> None:
    broken = "data:image/png;base64," + base64.b64encode(b"no picture").decode()
    down = "http://127.0.0.1:9/a.png"  # an address that is not allowed, and may be one day
    made = project(inline(1), broken, inline(2), down, inline(3))
    _, asked = backend.since(made.retrieve)
    assert names(asked) == ["GET /health", "POST /setup", "POST /predict"]
    stored = [task["predictions"] for task in made.tasks()]
    assert [[len(one["result"]) for one in found] for found in stored] == [[2], [0], [2], [], [2]]
    # What may be better next time is asked for again, and alone.
    _, again = backend.since(made.retrieve)
    assert [len(one.body["tasks"]) for one in again if one.path == "/predict"] == [1]


def test_an_upload_is_fetched_from_label_studio(studio: Studio, project: Callable[..., Project]) -> None:
    made = project()
    body = image_bytes(Image.new("RGB", (100, 200)), "JPEG")
    studio.call("POST", f"/api/projects/{made.id}/import", files=[("a.jpg", ("a.jpg", body, "image/jpeg"))])
    made.retrieve()
    (task,) = made.tasks()
    assert task["data"]["image"].startswith("/data/upload/")
    assert len(task["predictions"][0]["result"]) == 2


def test_opening_a_task_predicts_it_once(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    made = project(inline(1), inline(2))
    id = made.tasks()[0]["id"]
    opened, asked = backend.since(lambda: studio.call("GET", f"/api/tasks/{id}", params={"project": made.id}))
    assert names(asked) == ["GET /health", "POST /setup", "POST /predict"]
    assert [task["id"] for task in asked[2].body["tasks"]] == [id]
    assert len(opened["predictions"][0]["result"]) == 2
    _, again = backend.since(lambda: studio.call("GET", f"/api/tasks/{id}", params={"project": made.id}))
    assert names(again) == []


def test_a_project_that_predicts_by_itself_does_so_as_its_list_is_opened(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    made = project(inline(1), inline(2))
    studio.call("PATCH", f"/api/projects/{made.id}/", json={"evaluate_predictions_automatically": True})
    _, asked = backend.since(lambda: studio.call("GET", "/api/tasks", params={"project": made.id}))
    assert [len(one.body["tasks"]) for one in asked if one.path == "/predict"] == [2]
    _, again = backend.since(lambda: studio.call("GET", "/api/tasks", params={"project": made.id}))
    assert "POST /predict" not in names(again)
    assert [len(task["predictions"]) for task in made.tasks()] == [1, 1]


def test_the_next_task_comes_predicted(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    made = project(inline(1))
    task, asked = backend.since(lambda: studio.call("GET", f"/api/projects/{made.id}/next"))
    assert names(asked) == ["GET /health", "POST /setup", "POST /predict"]
    assert task["predictions"][0]["model_version"] == made.version()


def test_the_test_button_shows_request_and_answer(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    made = project(inline(1))
    path = f"/api/ml/{made.backend_id}/predict/test"
    answer, asked = backend.since(lambda: raw(studio, "POST", path, params={"random": "true"}))
    assert answer.status_code == 200, answer.text
    assert "POST /predict" in names(asked)
    assert answer.json()["response"][0]["result"][0]["value"] == CIRCLE
    assert all(not task["predictions"] for task in made.tasks())


def test_what_a_person_draws_is_snapped_and_stored_nowhere(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    made = project(inline(1), is_interactive=True)
    task = made.tasks()[0]["id"]
    region = {
        **{"original_width": 100, "original_height": 200, "image_rotation": 0, "id": "Drawn_0001"},
        "value": CIRCLE | {"x": 13.0, "y": 8.5, "width": 15.2},
        **{"from_name": "label", "to_name": "image", "type": "rectanglelabels", "origin": "manual"},
    }

    def draw(context: Any) -> Any:
        path = f"/api/ml/{made.backend_id}/interactive-annotating"
        return studio.call("POST", path, json={"task": task, "context": context})

    drawn, asked = backend.since(lambda: draw({"result": [region]}))
    assert names(asked) == ["POST /predict"]
    assert asked[0].password
    (found,) = drawn["data"]["result"]
    assert (found["value"], found["from_name"], found["type"]) == (CIRCLE, "label", "rectanglelabels")
    assert len(draw({"result": []})["data"]["result"]) == 2
    assert len(draw({})["data"]["result"]) == 2
    assert (
        draw({"result": [region | {"value": CIRCLE | {"x": 80.0, "y": 0.0, "width": 5.0}}]})["data"]["result"]
        == []
    )
    assert made.tasks()[0]["predictions"] == []
    assert all(record.get("interactive") for record in backend.records[-4][1])


def test_the_version_picker_lists_what_setup_gave(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    made = project(inline(1))
    version = made.version()
    found, asked = backend.since(lambda: studio.call("GET", f"/api/ml/{made.backend_id}/versions"))
    assert "GET /versions" in names(asked)
    assert all(one.password for one in asked)
    assert version in found["versions"]
    assert "message" not in found


def test_start_training_says_that_there_is_none(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    made = project(inline(1))
    _, asked = backend.since(lambda: raw(studio, "POST", f"/api/ml/{made.backend_id}/train", json={}))
    training = [one for one in asked if one.body.get("action") == "START_TRAINING"]
    assert [(str(one), one.password, one.status) for one in training] == [("POST /webhook", True, 501)]
    # Label Studio keeps the reason; the next look connects again.
    listed = studio.call("GET", "/api/ml", params={"project": made.id})
    assert listed[0]["state"] == "CO"


def test_events_come_without_the_password_and_are_taken(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    made = project(inline(1))
    id = made.tasks()[0]["id"]
    path = f"/api/tasks/{id}/annotations"
    created, asked = backend.since(lambda: studio.call("POST", path, json={"result": [], "lead_time": 1.0}))
    events = [one for one in asked if one.path == "/webhook"]
    assert [(one.body["action"], one.password, one.status) for one in events] == [
        ("ANNOTATION_CREATED", False, 200)
    ]
    _, asked = backend.since(lambda: studio.call("DELETE", f"/api/annotations/{created['id']}/"))
    assert [one.status for one in asked if one.path == "/webhook"] == [200]


def test_every_event_of_a_project_is_taken_at_once(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    made = project(inline(1), inline(2))

    def events(act: Callable[[], Any]) -> Any:
        """What an action gives; and whether the events named were sent, and answered within Label Studio's second."""
        found, asked = backend.since(act)
        told = [one for one in asked if one.path == "/webhook"]
        assert all(one.status == 200 and one.seconds < 1 and not one.password for one in told), told
        return found, [one.body["action"] for one in told]

    changed = {"label_config": CONFIG.replace("Circle", "Ring")}
    _, told = events(lambda: studio.call("PATCH", f"/api/projects/{made.id}/", json=changed))
    assert told == ["PROJECT_UPDATED"]
    more = [{"data": {"image": inline(number)}} for number in (3, 4)]
    _, told = events(lambda: studio.call("POST", f"/api/projects/{made.id}/import", json=more))
    assert "TASKS_CREATED" in told
    made.retrieve()
    _, told = events(lambda: action(made, "predictions_to_annotations"))
    assert told == ["ANNOTATIONS_CREATED"]
    path = f"/api/annotations/{made.tasks()[0]['annotations'][0]['id']}/"
    _, told = events(lambda: studio.call("PATCH", path, json={"result": []}))
    assert told == ["ANNOTATION_UPDATED"]
    _, told = events(lambda: studio.call("DELETE", path))
    assert told == ["ANNOTATIONS_DELETED"]
    _, told = events(lambda: action(made, "delete_tasks"))
    assert "TASKS_DELETED" in told


def test_label_studio_follows_no_training_job_and_would_be_told_so(backend: Backend) -> None:
    assert "/job_status" not in backend.begun  # of no other test of this file either
    for given, status in [((USER, PASSWORD), 410), (("somebody", "else"), 401)]:
        answer = httpx.post(f"{backend.url}/job_status", json={"job": "1"}, auth=given, timeout=10)
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")
    del backend.asked[-2:], backend.begun[-2:]


def test_a_version_that_is_not_followed_by_itself_stays_and_costs_nothing(
    backend: Backend, project: Callable[..., Project]
) -> None:
    """auto_update=false: Label Studio keeps the version it has, and leaves out what /setup names all the same."""
    made = project(inline(1), inline(2))
    made.retrieve()
    kept = made.version()
    whole = registration(made.id, backend, auto_update=False)
    made.call("PATCH", f"/api/ml/{made.backend_id}", json=whole)
    changed = CONFIG.replace('value="Box" predicted_values="square"', 'value="Square"')
    made.call("PATCH", f"/api/projects/{made.id}/", json={"label_config": changed})
    made.retrieve()
    assert made.version() == kept
    versions = [[one["model_version"] for one in task["predictions"]] for task in made.tasks()]
    assert all(len(set(one)) == len(one) == 2 and kept in one for one in versions), versions
    _, again = backend.since(made.retrieve)
    assert names(again) == ["GET /health", "POST /setup"]
    assert [len(task["predictions"]) for task in made.tasks()] == [2, 2]


def test_a_busy_model_keeps_nobody_waiting_who_asks_how_it_is(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    """Label Studio gives /health one second, /setup three, /versions three, an event one."""
    made = project(*(inline(number) for number in range(3)))
    before = backend.begun.count("/predict")
    backend.gate.clear()
    try:
        with ThreadPoolExecutor(1) as pool:
            busy = pool.submit(made.retrieve)
            until(lambda: backend.begun.count("/predict") > before)
            _, asked = backend.since(lambda: [made.backend() for _ in range(5)])
            assert names(asked) == ["GET /health", "POST /setup"] * 5
            _, more = backend.since(lambda: studio.call("GET", f"/api/ml/{made.backend_id}/versions"))
            task = made.tasks()[0]["id"]
            _, told = backend.since(
                lambda: studio.call("POST", f"/api/tasks/{task}/annotations", json={"result": []})
            )
            limits = {"/health": 1.0, "/setup": 3.0, "/versions": 3.0, "/webhook": 1.0}
            for one in [*asked, *more, *told]:
                assert (one.status, one.seconds < limits[one.path]) == (200, True), one
            assert not busy.done()
            backend.gate.set()
            busy.result(timeout=60)
    finally:
        backend.gate.set()
    assert [len(task["predictions"]) for task in made.tasks()] == [1] * 3


def test_annotations_made_from_predictions_are_whole_in_every_export(
    studio: Studio, project: Callable[..., Project]
) -> None:
    made = project()
    for shade in range(3):
        body = image_bytes(Image.new("RGB", (100, 200), (shade, 0, 0)), "JPEG")
        file = (f"{shade}.jpg", body, "image/jpeg")
        studio.call("POST", f"/api/projects/{made.id}/import", files=[(file[0], file)])
    made.retrieve()
    action(made, "predictions_to_annotations")
    predicted = [region["id"] for task in made.tasks() for region in task["predictions"][0]["result"]]
    assert len(set(predicted)) == 6

    def export(kind: str) -> bytes:
        answer = raw(
            studio,
            "GET",
            f"/api/projects/{made.id}/export",
            params={"exportType": kind, "download_resources": "false"},
        )
        assert answer.status_code == 200, answer.text[:300]
        return answer.content

    def files(kind: str, folder: str) -> list[bytes]:
        with zipfile.ZipFile(io.BytesIO(export(kind))) as archive:
            return [archive.read(name) for name in archive.namelist() if re.search(folder, name)]

    tasks = json.loads(export("JSON"))
    assert [region["id"] for task in tasks for region in task["annotations"][0]["result"]] == predicted
    rows = [json.loads(row["label"]) for row in csv.DictReader(io.StringIO(export("CSV").decode()))]
    assert [[one["rectanglelabels"] for one in row] for row in rows] == [[["Circle"], ["Box"]]] * 3
    [coco] = files("COCO", r"result\.json$")
    found = json.loads(coco)["annotations"]
    assert [one["bbox"] for one in found] == [[10, 20, 20, 40], [50, 100, 40, 80]] * 3
    voc = [file.decode() for file in files("VOC", r"Annotations/.*\.xml$")]
    objects = [re.findall(r"<object>\s*<name>(.*?)</name>", file) for file in voc]
    assert objects == [["Circle", "Box"]] * 3
    assert all("<xmin>10</xmin>" in file and "<ymax>180</ymax>" in file for file in voc)
    yolo = [file.decode().split() for file in files("YOLO", r"labels/.*\.txt$")]
    assert [[float(word) for word in file[1:5] + file[6:10]] for file in yolo] == [
        [0.2, 0.2, 0.2, 0.2, 0.7, 0.7, 0.4, 0.4]
    ] * 3


def test_a_changed_registration_is_checked_with_what_is_sent(
    studio: Studio, backend: Backend, project: Callable[..., Project]
) -> None:
    made = project(inline(1), is_interactive=True)
    path = f"/api/ml/{made.backend_id}"
    whole = registration(made.id, backend, title="renamed")
    assert raw(studio, "PATCH", path, json=whole).status_code == 200
    changed = made.backend()
    assert (changed["title"], changed["is_interactive"]) == ("renamed", True)  # what is left out stays
    without = registration(made.id, backend, title="again", basic_auth_user=None, basic_auth_pass=None)
    refused = raw(studio, "PATCH", path, json=without)
    assert refused.status_code == 400, refused.text
    assert (made.backend()["title"], made.backend()["state"]) == ("renamed", "CO")


def test_a_config_that_nothing_can_be_done_for_is_added_and_says_so(
    backend: Backend, project: Callable[..., Project]
) -> None:
    nothing = CONFIG.replace("Circle", "Zebra").replace(' predicted_values="square"', "")
    made, asked = backend.since(lambda: project(inline(1), config=nothing))
    assert [one.status for one in asked] == [200] * 4
    assert made.backend()["state"] == "CO"
    made.retrieve()
    (prediction,) = made.tasks()[0]["predictions"]
    assert prediction["result"] == []
    answer = httpx.post(
        f"{backend.url}/setup", json={"project": "1.1", "schema": nothing}, auth=(USER, PASSWORD), timeout=10
    ).json()
    assert "Zebra" in str(answer["warnings"])
    assert "circle" in str(answer["warnings"])


def test_no_request_was_answered_with_a_fault_of_ours(backend: Backend) -> None:
    assert {one.status for one in backend.asked} <= {200, 401, 501}
