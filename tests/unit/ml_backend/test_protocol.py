"""The backend as Label Studio 1.23.2 meets it: what each request is answered with."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from bridge.errors import Busy, SettingsError
from ml_backend.app import NO_TRAINING, create_app
from ml_backend.decode import LoadedImage
from ml_backend.detectors import Found, Look
from ml_backend.versions import VersionBook
from tests.conftest import sample
from tests.unit.ml_backend.helpers import (
    CONFIG,
    PROJECT,
    FakeDetector,
    FakeImages,
    FakeInferences,
    a_box,
    a_client,
    broken_models,
    models_of,
    predict,
    problem,
    settings,
    task,
    weights,
)

SETUP = {
    "project": PROJECT,
    "schema": CONFIG,
    "hostname": "http://localhost:8080",
    "access_token": "0" * 40,
    "extra_params": None,
}


def version(client: FlaskClient, config: str = CONFIG) -> str:
    answer = client.post("/setup", json=SETUP | {"schema": config})
    assert answer.status_code == 200, answer.text
    found: str = answer.get_json()["model_version"]
    return found


def ready(client: FlaskClient) -> FlaskClient:
    """Wait for the fake model, which is there at once."""
    while client.get("/health").get_json()["model"]["state"] not in ("ready", "failed"):
        time.sleep(0.001)
    return client


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_health_is_a_json_object() -> None:
    body = ready(a_client()).get("/health").get_json()
    assert body["status"] == "UP"
    assert body["model"] == {"state": "ready", "name": "shapes", "sha256": "a" * 64}


@pytest.mark.parametrize("extra_params", [None, {"a": [1]}, "text", [1, 2]])
def test_setup_takes_any_extra_params(extra_params: Any) -> None:
    answer = a_client().post("/setup", json=SETUP | {"extra_params": extra_params})
    assert answer.status_code == 200
    assert isinstance(answer.get_json(), dict)


def test_setup_and_every_prediction_give_the_same_version() -> None:
    client = a_client(images=FakeImages({"bad": problem(), "slow": problem("unreachable", passing=True)}))
    items = predict(client, [task(1), task(2, "bad"), task(3, "slow")])
    assert {item["model_version"] for item in items} == {version(client)}


def test_the_version_names_weights_threshold_and_mapping() -> None:
    name, digest, *_ = version(a_client()).split(".")
    assert (name, digest) == ("shapes", "a" * 8)
    assert ".t0.25." in version(a_client(model_score_threshold=0.25))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('predicted_values="square"', 'predicted_values="circle"'),
        ('value="Circle"', 'value="Ring"'),
        ('toName="image"', 'toName="image" model_score_threshold="0.3"'),
        ('name="label"', 'name="other"'),
    ],
)
def test_a_changed_config_changes_the_version(old: str, new: str) -> None:
    client = a_client()
    assert old in CONFIG
    assert version(client, CONFIG.replace(old, new)) != version(client)


def test_the_version_changes_with_weights_and_threshold_and_with_nothing_else() -> None:
    first = version(a_client())
    other_weights = models_of(FakeDetector(), default=weights("b" * 64))
    assert version(a_client(models=other_weights)) != first
    assert version(a_client(model_score_threshold=0.4)) != first
    assert version(a_client(web_threads=5)) == first
    assert version(a_client(), CONFIG.replace("<View>", "<View><Header value='hi'/>")) == first


def test_a_prediction_per_task_in_order() -> None:
    detector = FakeDetector(
        per_width={
            10: Found(boxes=(a_box("circle", 0.8, 1, 1, 5, 5),)),
            20: Found(boxes=(a_box("square", 0.6, 1, 1, 5, 5),)),
        }
    )
    pictures = {
        str(width): LoadedImage(image=Image.new("RGB", (width, 10)), width=width, height=10)
        for width in (10, 20)
    }
    client = a_client(detector, images=FakeImages(pictures))
    items = predict(client, [task(9, "20"), task(5, "10"), task(7, "20")])
    assert [item["result"][0]["value"]["rectanglelabels"] for item in items] == [["Box"], ["Circle"], ["Box"]]
    assert [item["score"] for item in items] == [0.6, 0.8, 0.6]


def test_all_selected_tasks_come_in_one_request() -> None:
    detector = FakeDetector()
    assert (
        len(predict(a_client(detector), [task(number, f"s3://b/{number}.jpg") for number in range(120)]))
        == 120
    )
    assert sum(detector.batches) == 120
    assert max(detector.batches) > 1


def test_no_tasks_no_results() -> None:
    assert predict(a_client(), []) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"id": 2, "data": {"text": "no image here"}},
        {"id": 2, "data": {"image": None}},
        {"id": 2, "data": []},
        {"id": 2},
        {},
        None,
        "task",
        7,
        [],
    ],
)
def test_a_task_that_is_none_costs_only_itself(bad: Any) -> None:
    items = predict(a_client(), [task(1), bad, task(3)])
    assert [len(item["result"]) for item in items] == [1, 0, 1]
    assert items[1]["score"] == 0.0
    assert items[1]["error"]


def test_an_image_that_cannot_be_had_leaves_an_empty_result(caplog: pytest.LogCaptureFixture) -> None:
    client = a_client(images=FakeImages({"bad": problem("undecodable")}))
    items = predict(client, [task(1), task(2, "bad")])
    assert items[1] == {
        "result": [],
        "score": 0.0,
        "model_version": version(client),
        "error": "the image is undecodable",
    }
    assert f"project {PROJECT} task 2: 'the image is undecodable'" in caplog.text


def test_a_passing_trouble_leaves_no_result_so_that_label_studio_asks_again() -> None:
    items = predict(
        a_client(images=FakeImages({"later": problem("unreachable", passing=True)})),
        [task(1), task(2, "later")],
    )
    assert "result" in items[0]
    assert "result" not in items[1]


def test_an_unexpected_failure_of_one_image_costs_only_that_one() -> None:
    items = predict(
        a_client(images=FakeImages({"bad": ZeroDivisionError("surprise")})), [task(1, "bad"), task(2)]
    )
    assert [len(item["result"]) for item in items] == [0, 1]


def test_a_model_that_fails_on_one_image_of_a_batch_costs_only_that_one() -> None:
    broken = LoadedImage(image=Image.new("RGB", (13, 10)), width=13, height=10)
    client = a_client(FakeDetector(per_width={13: RuntimeError("cuda")}), images=FakeImages({"bad": broken}))
    items = predict(client, [task(1), task(2, "bad"), task(3)])
    assert [len(item["result"]) for item in items] == [1, 0, 1]
    assert "the model failed on this image: RuntimeError" in items[1]["error"]


@pytest.mark.parametrize("project", ["7\n2026 ERROR forged", "\ud800", "7" * 1000, "7\x00"])
def test_what_is_no_project_is_the_senders_fault_and_reaches_no_log(
    project: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = a_client()
    body = {"project": project, "label_config": CONFIG, "schema": "<View/>", "tasks": [task()]}
    for route in ("/setup", "/predict"):
        answer = client.post(route, json=body)
        assert (answer.status_code, "no project" in answer.get_json()["error"]) == (400, True)
    assert "forged" not in caplog.text


def test_a_version_that_can_be_none_is_refused_or_left_out() -> None:
    client = a_client()
    setup = client.post("/setup", json=SETUP | {"extra_params": {"model_version": "\ud800"}})
    assert setup.status_code == 200
    body = {"label_config": CONFIG, "tasks": [task()], "params": {"model_version": "\ud800"}}
    assert client.post("/predict", json=body).status_code == 400


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_a_model_without_memory_leaves_no_empty_predictions(error: Exception) -> None:
    """Nothing is wrong with these pictures: an empty prediction, once stored, would stay."""
    items = predict(a_client(FakeDetector(per_width={100: error})), [task(1), task(2)])
    assert ["result" in item for item in items] == [False, False]
    assert all("model failed" in item["error"] for item in items)


def test_log_lines_cannot_be_forged_by_a_labeling_config(caplog: pytest.LogCaptureFixture) -> None:
    forged = CONFIG.replace('"Circle"', '"Lion&#10;2026 ERROR forged&#x2028;2026 ERROR forged"')
    forged = forged.replace('predicted_values="square"', "")
    client = ready(a_client())
    version(client, forged)
    predict(client, [task()], forged)
    assert "Lion 2026 ERROR forged" in caplog.text
    assert not any(line.startswith("2026 ERROR forged") for line in caplog.text.splitlines())


def test_log_lines_cannot_be_forged_by_a_task(caplog: pytest.LogCaptureFixture) -> None:
    predict(a_client(), [{"id": 1, "data": {"x\n2026 ERROR forged": 1}}])
    assert not any(line.startswith("2026 ERROR forged") for line in caplog.text.splitlines())


def test_the_threshold_is_given_to_the_model() -> None:
    detector = FakeDetector()
    predict(
        a_client(detector),
        [task()],
        CONFIG.replace('toName="image"', 'toName="image" score_threshold="0.01"'),
    )
    assert [look.conf for look in detector.looks] == [0.01]


def test_several_controls_and_images_look_once_at_each_image() -> None:
    config = """<View><Image name="a" value="$left"/><Image name="b" value="$right"/>
      <RectangleLabels name="r1" toName="a"><Label value="circle"/></RectangleLabels>
      <RectangleLabels name="r2" toName="b" model_score_threshold="0.2"><Label value="circle"/></RectangleLabels>
      <RectangleLabels name="r3" toName="b"><Label value="circle"/></RectangleLabels></View>"""
    detector = FakeDetector(Found(boxes=(a_box(score=0.4),)))
    images = FakeImages()
    items = predict(
        a_client(detector, images=images), [{"id": 1, "data": {"left": "l", "right": "r"}}], config
    )
    assert sorted(images.asked) == ["l", "r"]
    assert detector.batches == [2]
    assert [look.conf for look in detector.looks] == [0.2]
    assert [(region["from_name"], region["to_name"]) for region in items[0]["result"]] == [("r2", "b")]


def test_choices_without_a_classifier_stay_with_the_people() -> None:
    config = CONFIG.replace(
        "</View>", '<Choices name="c" toName="image"><Choice value="ok"/></Choices></View>'
    )
    client = ready(a_client())
    answer = client.post("/setup", json=SETUP | {"schema": config}).get_json()
    assert "Choices 'c' stays empty: it needs a model for classify" in answer["warnings"][0]
    assert [region["type"] for region in predict(client, [task()], config)[0]["result"]] == [
        "rectanglelabels"
    ]


def test_a_classifier_fills_choices() -> None:
    config = '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="Cat"/></Choices></View>'
    detector = FakeDetector(
        Found(class_scores=(("cat", 0.7), ("dog", 0.3))), task="classify", class_names=("cat", "dog")
    )
    [item] = predict(a_client(detector), [task()], config)
    assert item["result"][0]["value"] == {"choices": ["Cat"]}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            CONFIG.replace("Circle", "Lion").replace('predicted_values="square"', ""),
            "Labels: Lion, Box. Classes: circle, square",
        ),
        ('<View><Text name="t" value="$t"/></View>', "no control that we can fill"),
        (
            '<View><Text name="t" value="$t"/></View>',
            'Classes: circle, square. Write a control for them, for example <RectangleLabels name="label"',
        ),
        ("", "no control that we can fill"),
        (
            CONFIG.replace('toName="image"', 'toName="image" model_path="../../x.pt"'),
            "is no .pt file inside MODEL_ROOT",
        ),
        (CONFIG.replace('toName="image"', 'toName="image" model_path="none.pt"'), "there is no such file"),
    ],
)
def test_a_config_that_nothing_can_be_done_for_says_why(
    config: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = ready(a_client())
    answer = client.post("/setup", json=SETUP | {"schema": config})
    assert answer.status_code == 200
    assert said in "\n".join(answer.get_json()["warnings"])
    assert said in caplog.text
    items = predict(client, [task(1), task(2)], config)
    assert [item["result"] for item in items] == [[], []]
    assert [item["unfilled"] for item in items] == [True, True]  # our own job writes none of them


def test_a_warning_is_logged_once_however_often_label_studio_asks(caplog: pytest.LogCaptureFixture) -> None:
    client = ready(a_client())
    for _ in range(5):
        version(client, "<View/>")
    assert caplog.text.count("no control that we can fill") == 1


@pytest.mark.parametrize("route", ["/setup", "/predict", "/webhook"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"', b"[" * 100_000, b"{}"])
def test_a_malformed_body_is_refused_with_a_reason(route: str, body: bytes) -> None:
    answer = a_client().post(route, data=body)
    assert answer.status_code == 400
    assert answer.get_json()["error"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        {"tasks": {}, "label_config": CONFIG},
        {"tasks": None},
        {"tasks": [], "label_config": 5},
        {"tasks": [], "label_config": "<View"},
    ],
)
def test_a_prediction_request_without_tasks_or_config_is_refused(body: Any) -> None:
    assert a_client().post("/predict", json=body).status_code == 400


def test_an_oversized_body_is_refused() -> None:
    answer = a_client(request_max_mib=1).post("/predict", data=b"x" * (1024 * 1024 + 1))
    assert answer.status_code == 413
    assert "REQUEST_MAX_MIB" in answer.get_json()["error"]


def test_unknown_paths_and_methods_are_answered_in_json() -> None:
    client = a_client()
    assert client.get("/nowhere").get_json()["error"]
    assert client.get("/predict").status_code == 405


@pytest.mark.parametrize("route", ["/setup", "/predict"])
def test_without_a_model_the_reason_stands_where_label_studio_shows_it(route: str) -> None:
    client = ready(a_client(models=broken_models()))
    answer = client.post(route, json=SETUP | {"label_config": CONFIG, "tasks": [task()]})
    assert answer.status_code == 503
    assert "there is no weights file 'shapes.pt'" in answer.status
    assert "there is no weights file 'shapes.pt'" in answer.get_json()["error"]


def test_health_stays_up_without_a_model_and_says_why() -> None:
    answer = ready(a_client(models=broken_models())).get("/health")
    assert answer.status_code == 200
    assert answer.get_json()["model"]["state"] == "failed"
    assert "no weights file" in answer.get_json()["model"]["reason"]


def test_a_reason_cannot_break_out_of_the_status_line() -> None:
    answer = ready(a_client(models=broken_models("line\r\nSet-Cookie: x … end"))).post("/setup", json=SETUP)
    assert "\n" not in answer.status
    assert "line Set-Cookie: x ? end" in answer.status
    assert "Set-Cookie" not in answer.headers


GUARDED = {"basic_auth_user": "ls", "basic_auth_pass": "pass:word"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("ls", "wrong"),
        basic("x", "pass:word"),
        basic("", ""),
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic ***"},
    ],
)
@pytest.mark.parametrize(
    ("method", "route"),
    [("POST", "/setup"), ("POST", "/predict"), ("GET", "/versions"), ("POST", "/job_status")],
)
def test_a_missing_or_wrong_password_is_refused(method: str, route: str, headers: dict[str, str]) -> None:
    answer = a_client(**GUARDED).open(route, method=method, headers=headers, json=SETUP)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert "Settings > Model" in answer.status


def test_the_right_password_opens() -> None:
    client = a_client(**GUARDED)
    assert client.post("/setup", json=SETUP, headers=basic("ls", "pass:word")).status_code == 200
    assert client.get("/health", headers=basic("ls", "pass:word")).status_code == 200


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_password_beyond_ascii_opens_as_label_studio_sends_it_and_as_others_do(encoding: str) -> None:
    """Label Studio's client encodes in Latin-1 (requests/auth.py), most others in UTF-8."""
    client = a_client(basic_auth_user="jürgen", basic_auth_pass="Zürich:Straße")
    coded = base64.b64encode("jürgen:Zürich:Straße".encode(encoding)).decode()
    wrong = base64.b64encode("jürgen:Zürich:Strasse".encode(encoding)).decode()
    for method, route in (("POST", "/setup"), ("GET", "/health")):
        for told, status in ((coded, 200), (wrong, 401)):
            headers = {"Authorization": f"Basic {told}"}
            assert client.open(route, method=method, json=SETUP, headers=headers).status_code == status


def test_a_letter_that_latin_1_has_not_is_not_taken_for_another() -> None:
    client = a_client(basic_auth_user="ls", basic_auth_pass="日本")
    for password, status in (("日本", 200), ("??", 401), ("", 401)):
        assert client.post("/setup", json=SETUP, headers=basic("ls", password)).status_code == status


def test_health_is_open_to_probes_but_tells_a_wrong_password() -> None:
    client = a_client(**GUARDED)
    assert client.get("/health").status_code == 200
    assert client.get("/health", headers=basic("ls", "wrong")).status_code == 401
    assert client.get("/health", headers={"Authorization": "Basic ==="}).status_code == 401


def test_half_a_password_is_no_password() -> None:
    with pytest.raises(SettingsError, match="both"):
        create_app(settings(basic_auth_user="ls"))


@pytest.mark.parametrize(
    "action", ["ANNOTATION_CREATED", "ANNOTATIONS_DELETED", "PROJECT_UPDATED", "TASKS_CREATED"]
)
def test_the_webhook_label_studio_adds_by_itself_is_answered_without_a_password(action: str) -> None:
    answer = a_client(**GUARDED).post("/webhook", json=sample(action))
    assert answer.status_code == 200
    assert answer.get_json() == {"status": "ignored"}


def test_training_is_refused_honestly() -> None:
    client = a_client(**GUARDED)
    assert client.post("/webhook", json=sample("START_TRAINING")).status_code == 401
    answer = client.post("/webhook", json=sample("START_TRAINING"), headers=basic("ls", "pass:word"))
    assert answer.status == f"501 {NO_TRAINING}"
    assert answer.get_json() == {"error": NO_TRAINING}


def test_a_training_job_that_label_studio_asks_for_is_gone() -> None:
    """410 is the one answer that it understands for a job there is not (ml/models.py, 1.23.2)."""
    answer = a_client().post("/job_status", json={"job": "1"})
    assert (answer.status_code, "/health" in answer.get_json()["error"]) == (410, True)


def test_versions_lists_what_was_given_newest_first() -> None:
    client = a_client()
    assert client.get("/versions").get_json() == {"versions": []}
    first, second = version(client), version(client, "<View/>")
    version(client)
    assert client.get("/versions").get_json() == {"versions": [first, second]}


def test_what_the_model_did_is_recorded_for_each_task() -> None:
    inferences = FakeInferences([])
    client = a_client(inferences=inferences, images=FakeImages({"bad": problem()}))
    predict(client, [task(1), task(2, "bad")])
    [(project, records)] = inferences.kept
    assert project == PROJECT
    assert [(record["task"], record["labels"], record["scores"]) for record in records] == [
        (1, {"Circle": 1}, [0.9]),
        (2, {}, []),
    ]
    assert records[1]["problem"] == "missing"
    assert len({record["id"] for record in records}) == 2
    json.dumps(records)


def test_figures_are_counted() -> None:
    client = ready(a_client(images=FakeImages({"bad": problem()})))
    predict(client, [task(1), task(2, "bad")])
    text = client.get("/metrics").text
    assert 'ml_backend_tasks_total{outcome="predicted"} 1.0' in text
    assert 'ml_backend_task_problems_total{reason="missing"} 1.0' in text
    assert 'ml_backend_requests_total{route="/predict",status="200"} 1.0' in text
    assert "ml_backend_model_ready 1.0" in text


def test_too_many_predictions_at_once_are_refused_so_that_health_and_setup_find_a_thread() -> None:
    gate = threading.Event()
    client = ready(a_client(FakeDetector(gate=gate), web_threads=4))  # one may predict, three are spare
    answers: list[int] = []

    def ask() -> None:
        body = {"project": PROJECT, "label_config": CONFIG, "tasks": [task()]}
        answers.append(client.application.test_client().post("/predict", json=body).status_code)

    first = threading.Thread(target=ask)
    first.start()
    try:
        while "503" not in str(answers):
            ask()
    finally:
        gate.set()
        first.join()
    assert answers[-1] == 200
    assert client.get("/health").status_code == 200


def asking(client: FlaskClient, clients: int) -> tuple[list[threading.Thread], list[int]]:
    """So many at the same moment, each with a task; and what they are answered, as it comes."""
    answers: list[int] = []

    def ask() -> None:
        body = {"project": PROJECT, "label_config": CONFIG, "tasks": [task()]}
        answers.append(client.application.test_client().post("/predict", json=body).status_code)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    return threads, answers


def test_many_who_open_a_task_at_the_same_moment_are_all_answered() -> None:
    """Only 13 have their images in memory at a time; the others wait for them to end."""
    gate = threading.Event()
    client = ready(a_client(FakeDetector(gate=gate)))
    threads, answers = asking(client, 61)  # 64 web threads, 3 of them spare
    assert client.get("/health").status_code == 200
    gate.set()
    for thread in threads:
        thread.join(20)
    assert answers == [200] * 61


def test_who_waits_too_long_for_others_to_end_is_told_in_time() -> None:
    gate = threading.Event()
    client = ready(a_client(FakeDetector(gate=gate), predict_budget_s=0.5))
    threads, answers = asking(client, 20)
    deadline = time.monotonic() + 20
    while len(answers) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert answers == [503] * 7
    assert "ml_backend_busy_total 7.0" in client.get("/metrics").text
    gate.set()
    for thread in threads:
        thread.join(20)
    assert sorted(answers) == [200] * 13 + [503] * 7


def test_what_is_not_begun_in_time_gets_no_result_and_the_rest_is_kept() -> None:
    class Slow(FakeDetector):
        def predict(self, images: Any, *, look: Look) -> list[Found]:
            time.sleep(0.05)
            return super().predict(images, look=look)

    items = predict(a_client(Slow(), predict_budget_s=0.02), [task(n, f"s3://b/{n}") for n in range(40)])
    assert len(items) == 40
    assert all("result" in item for item in items[:8])
    assert all("result" not in item and "not begun in time" in item["error"] for item in items[8:])


class Crowded(FakeDetector):
    """Its queue is full at the calls named, counted from 1."""

    def __init__(self, *full: int) -> None:
        super().__init__()
        self._full = set(full)
        self.calls = 0

    def predict(self, images: Any, *, look: Look) -> list[Found]:
        self.calls += 1
        if self.calls in self._full:
            raise Busy("256 pictures wait for the model already")
        return super().predict(images, look=look)


def test_a_model_with_a_full_queue_is_answered_503() -> None:
    answer = a_client(Crowded(1)).post(
        "/predict", json={"project": PROJECT, "label_config": CONFIG, "tasks": [task()]}
    )
    assert answer.status_code == 503
    assert "wait for the model" in answer.get_json()["error"]
    assert int(answer.headers["Retry-After"]) > 0


def test_a_refusal_for_a_full_queue_is_counted() -> None:
    client = a_client(Crowded(1))
    client.post("/predict", json={"project": PROJECT, "label_config": CONFIG, "tasks": [task()]})
    assert "ml_backend_busy_total 1.0" in client.get("/metrics").text


def test_images_that_do_not_come_in_time_cost_themselves_and_not_what_is_there() -> None:
    """Label Studio gives up after 100 s and then has nothing: who waits for one server loses what all others gave."""
    gate = threading.Event()

    class Held(FakeImages):
        def load(self, reference: str, **told: Any) -> LoadedImage:
            if reference == "held":
                gate.wait(30)
            return super().load(reference, **told)

    client = a_client(images=Held(), predict_budget_s=0.3)
    began = time.monotonic()
    items = predict(client, [task(1, "a"), task(2, "held"), task(3, "b")])
    took_s = time.monotonic() - began
    gate.set()
    assert took_s < 15
    assert ["result" in item for item in items] == [True, False, True]
    assert "in time" in items[1]["error"]


def test_a_program_that_ends_answers_with_what_it_has() -> None:
    ends, gate = threading.Event(), threading.Event()

    class Ending(FakeImages):
        def load(self, reference: str, **told: Any) -> LoadedImage:
            if reference == "held":
                ends.set()
                gate.wait(30)
            return super().load(reference, **told)

    app = create_app(
        settings(),
        models=models_of(FakeDetector()),
        images=Ending(),
        inferences=FakeInferences([]),
        versions=VersionBook(None),
        stopping=ends.is_set,
    )
    items = predict(
        app.test_client(), [task(1, "a"), task(2, "held"), *(task(n, f"{n}") for n in range(3, 30))]
    )
    gate.set()
    assert ["result" in item for item in items] == [True, False, *[True] * 6, *[False] * 21]


def test_a_request_that_has_begun_waits_for_room_instead_of_losing_its_tasks() -> None:
    detector = Crowded(2, 3)
    items = predict(a_client(detector), [task(n, f"s3://b/{n}") for n in range(20)])
    assert len(items) == 20
    assert all(item["result"] for item in items)
    assert sum(detector.batches) == 20


def test_the_images_of_the_next_tasks_are_fetched_while_the_model_works() -> None:
    images = FakeImages()
    fetched: list[int] = []

    class Watching(FakeDetector):
        def predict(self, pictures: Any, *, look: Look) -> list[Found]:
            deadline = time.monotonic() + 10
            while len(images.asked) < 16 and time.monotonic() < deadline:
                time.sleep(0.001)
            fetched.append(len(images.asked))
            return super().predict(pictures, look=look)

    predict(a_client(Watching(), images=images), [task(n, f"s3://b/{n}") for n in range(16)])
    assert fetched[0] == 16  # of which the model has seen 8
