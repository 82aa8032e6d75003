"""Our YOLO model as a class of label-studio-ml, and what people build on it, behind the door as the default is."""

from __future__ import annotations

import base64
import importlib
import sys
import threading
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from bridge.errors import Busy, SettingsError
from demo.pictures import draw_picture
from ml_backend import own_model
from ml_backend.app import create_app
from ml_backend.detectors import Found
from ml_backend.models import Models
from ml_backend.own_contract import contract_of, load_class
from tests.conftest import sample
from tests.unit.ml_backend import own_models
from tests.unit.ml_backend.helpers import (
    CONFIG,
    PROJECT,
    FakeDetector,
    FakeImages,
    FakeInferences,
    a_box,
    a_client,
    image_bytes,
    models_of,
    predict,
    problem,
    settings,
    task,
    weights,
)
from tests.unit.ml_backend.test_demo_model import MODEL, quiet
from tests.unit.ml_backend.test_own_model import until

SETUP = {"project": PROJECT, "schema": CONFIG, "hostname": "", "access_token": "", "extra_params": None}
PLAIN = "ml_backend.yolo_class:Yolo"
MINE = "tests.unit.ml_backend.yolo_models"
TWO = Found(boxes=(a_box(), a_box("square", 0.7, 50, 100, 90, 180)))  # 20 % and 40 % of a picture's height


def serving(name: str, folder: Path, detector: FakeDetector | None = None, **options: Any) -> FlaskClient:
    changes = options.pop("changes", {})
    app = create_app(
        settings(model_class=name, cache_dir=str(folder), **changes),
        models=options.pop("models", None) or models_of(detector or FakeDetector(TWO)),
        images=options.pop("images", None) or FakeImages(),
        inferences=options.pop("inferences", None) or FakeInferences([]),
    )
    client = app.test_client()
    until(lambda: client.get("/health").get_json()["model"]["state"] in ("ready", "failed"))
    return client


def setup(client: FlaskClient, **changes: Any) -> dict[str, Any]:
    answer = client.post("/setup", json=SETUP | changes)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def without_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        item
        | {"result": [{name: region[name] for name in region if name != "id"} for region in item["result"]]}
        if "result" in item
        else item
        for item in items
    ]


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [number for part in parts for number in numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


def tasks() -> list[Any]:
    """Good ones, one whose picture is missing, one whose server is down, one without data."""
    return [task(1), task(2, "gone"), task(3, "down"), {"id": 4}, task(5)]


def images() -> FakeImages:
    return FakeImages({"gone": problem(), "down": problem("unreachable", passing=True)})


def test_it_answers_as_the_default_does(tmp_path: Path) -> None:
    detectors = FakeDetector(TWO), FakeDetector(TWO)
    kept: tuple[FakeInferences, FakeInferences] = FakeInferences([]), FakeInferences([])
    default = a_client(detectors[0], images=images(), inferences=kept[0])
    ours = serving(PLAIN, tmp_path, detectors[1], images=images(), inferences=kept[1])
    odd = CONFIG.replace("Circle", "Zebra").replace(' predicted_values="square"', "")
    for config in (odd, CONFIG):
        assert setup(ours, schema=config) == setup(default, schema=config)
        answers = [predict(client, tasks(), config) for client in (ours, default)]
        assert without_ids(answers[0]) == without_ids(answers[1])
    assert [item.get("result") is None for item in answers[0]] == [False, False, True, False, False]
    assert detectors[0].batches == detectors[1].batches
    assert ours.get("/versions").get_json() == default.get("/versions").get_json()
    told = [[{**one, "at": 0, "seconds": 0} for one in log.kept[0][1]] for log in kept]
    assert [sorted(one) for one in told[0]] == [sorted(one) for one in told[1]]
    model = ours.get("/health").get_json()["model"]
    assert (model["class"], model["contract"], model["name"]) == ("Yolo", "1.x", "shapes")
    assert "Zebra" in str(setup(ours, schema=odd)["warnings"])


def test_a_broken_config_and_an_unknown_version_are_the_senders_fault(tmp_path: Path) -> None:
    client = serving(PLAIN, tmp_path)
    assert client.post("/setup", json=SETUP | {"schema": "<View>"}).status_code == 400
    body = {"project": PROJECT, "label_config": CONFIG, "tasks": [task(1)]}
    assert client.post("/predict", json=body | {"label_config": "<View>"}).status_code == 400
    refused = client.post("/predict", json=body | {"params": {"model_version": "shapes.9"}})
    assert (refused.status_code, setup(client)["model_version"] in refused.text) == (400, True)
    for asked in (setup(client)["model_version"], "shapes.aaaaaaaa"):
        assert client.post("/predict", json=body | {"params": {"model_version": asked}}).status_code == 200


def test_a_subclass_drops_small_boxes_under_a_version_of_its_own(tmp_path: Path) -> None:
    client = serving(f"{MINE}:Large", tmp_path)
    default = a_client(FakeDetector(TWO))
    version = setup(client)["model_version"]
    assert version.startswith(setup(default)["model_version"] + ".Large.")
    items = predict(client, [task(1), task(2)])
    assert [[region["value"]["height"] for region in item["result"]] for item in items] == [[40.0]] * 2
    assert {(item["score"], item["model_version"]) for item in items} == {(0.7, version)}
    assert client.get("/versions").get_json()["versions"] == [version]
    body = {"project": PROJECT, "label_config": CONFIG, "tasks": [task(1)]}
    for asked, status in [(version, 200), ("shapes.aaaaaaaa", 200), (setup(default)["model_version"], 400)]:
        answer = client.post("/predict", json=body | {"params": {"model_version": asked}})
        assert (asked, answer.status_code) == (asked, status)
        assert version in answer.text


def test_a_subclass_may_name_its_version_and_add_regions(tmp_path: Path) -> None:
    client = serving(f"{MINE}:Named", tmp_path, images=images())
    assert setup(client)["model_version"].endswith(".named-1")
    items = predict(client, tasks())
    assert [len(item["result"]) if "result" in item else None for item in items] == [4, 0, None, 0, 4]
    assert "the image is missing" in items[1]["error"]


def test_each_task_is_looked_at_once_however_a_class_asks(tmp_path: Path) -> None:
    detector = FakeDetector(TWO)
    items = predict(serving(f"{MINE}:OneByOne", tmp_path, detector), [task(1), task(2), task(3)])
    assert [len(item["result"]) for item in items] == [2, 0, 2]
    assert "KeyError: 'two'" in items[1]["error"]
    assert detector.batches == [1, 1, 1]


def test_a_class_that_never_asks_has_its_version_all_the_same(tmp_path: Path) -> None:
    client = serving(f"{MINE}:Without", tmp_path)
    [item] = predict(client, [task(1)])
    assert item == {"result": [], "score": 0.0, "model_version": setup(client)["model_version"]}


def test_asking_on_a_thread_of_ones_own_is_told(tmp_path: Path) -> None:
    [item] = predict(serving(f"{MINE}:Elsewhere", tmp_path), [task(1)])
    assert len(item["result"]) == 2
    from tests.unit.ml_backend.yolo_models import Elsewhere

    assert "MODEL_CLASS" in Elsewhere.said.pop()


def test_a_model_that_cannot_answer_fails_the_request_not_its_tasks(tmp_path: Path) -> None:
    client = serving(f"{MINE}:Large", tmp_path, FakeDetector(per_width={100: Busy("the queue is full")}))
    body = {"project": PROJECT, "label_config": CONFIG, "tasks": [task(1)]}
    answer = client.post("/predict", json=body)
    assert (answer.status_code, "the queue is full" in answer.text) == (503, True)


def test_weights_that_change_change_the_version_at_once(tmp_path: Path) -> None:
    models: Models = models_of(FakeDetector(TWO))
    client = serving(f"{MINE}:Large", tmp_path, models=models)
    first = setup(client)["model_version"]
    models._load(replace(weights("b" * 64)))
    second = setup(client)["model_version"]
    assert second == first.replace("aaaaaaaa", "bbbbbbbb") or second.startswith("shapes.bbbbbbbb.t0.5.m")
    assert {item["model_version"] for item in predict(client, [task(1)])} == {second}


def test_several_requests_are_in_the_class_at_once(tmp_path: Path) -> None:
    gate = threading.Event()
    detector = FakeDetector(TWO, gate=gate)
    client = serving(PLAIN, tmp_path, detector)
    setup(client)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(predict, client, [task(number)]) for number in range(2)]
        until(lambda: [one.name for one in threading.enumerate()].count("own-predict") == 2)
        gate.set()
        assert [len(one.result()[0]["result"]) for one in asked] == [2, 2]


def test_a_model_that_hangs_costs_its_time_and_no_result_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_model, "_YOLO_ENDS_S", 0.1)
    gate = threading.Event()
    client = serving(
        f"{MINE}:Large", tmp_path, FakeDetector(TWO, gate=gate), changes={"predict_budget_s": 0.2}
    )
    try:
        items = predict(client, [task(1), task(2)])
        assert all("result" not in item and "not done in time" in item["error"] for item in items)
        assert {item["model_version"] for item in items} == {setup(client)["model_version"]}
    finally:
        gate.set()
    assert len(predict(client, [task(1)])[0]["result"]) == 1


def test_what_it_does_not_learn_from_is_refused_as_by_the_default(tmp_path: Path) -> None:
    for client in (serving(PLAIN, tmp_path), serving(f"{MINE}:Large", tmp_path), a_client(FakeDetector(TWO))):
        assert client.post("/webhook", json=sample("START_TRAINING")).status_code == 501
        assert client.post("/webhook", json=sample("PROJECT_UPDATED")).get_json() == {"status": "ignored"}


def test_two_backends_share_nothing(tmp_path: Path) -> None:
    clients = [
        serving(PLAIN, tmp_path / str(n), models=models_of(FakeDetector(TWO), default=weights(digit * 64)))
        for n, digit in enumerate("ab")
    ]
    versions = [predict(client, [task(1)])[0]["model_version"] for client in clients]
    assert [version.split(".")[1] for version in versions] == ["aaaaaaaa", "bbbbbbbb"]


def test_without_weights_or_label_studio_ml_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reason() -> str:
        given = settings(model_class=PLAIN, model="", cache_dir=str(tmp_path))
        client = create_app(given, inferences=FakeInferences([])).test_client()
        until(lambda: client.get("/health").get_json()["model"]["state"] == "failed")
        return str(client.get("/health").get_json()["model"]["reason"])

    assert str(SettingsError("MODEL is not set"))[:16] in reason()
    monkeypatch.delitem(sys.modules, "ml_backend.yolo_class")
    monkeypatch.setitem(sys.modules, "label_studio_ml", None)
    monkeypatch.delitem(sys.modules, "label_studio_ml.model")
    assert "pip install --no-deps -r requirements/label-studio-ml.txt" in reason()


@pytest.fixture
def of_the_2x_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the 2.x line were installed: the stand-in that keeps its contract."""
    line = types.ModuleType("label_studio_ml.model")
    line.LabelStudioMLBase = own_models.LabelStudioMLBase  # type: ignore[attr-defined]
    monkeypatch.setattr(own_models.LabelStudioMLBase, "_kept", {})
    for name in ("ml_backend.yolo_class", MINE):
        importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", line)
    yield
    for name in ("ml_backend.yolo_class", MINE):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("of_the_2x_line")
def test_it_stands_on_the_2x_line_as_well(tmp_path: Path) -> None:
    assert contract_of(load_class(PLAIN)) == "2.x"
    default = a_client(FakeDetector(TWO))
    assert setup(serving(PLAIN, tmp_path)) == setup(default)
    client = serving(f"{MINE}:Large", tmp_path)
    version = setup(client, extra_params={"any": 1})["model_version"]
    assert version.startswith(setup(default)["model_version"] + ".Large.")
    [item] = predict(client, [task(1)])
    assert (len(item["result"]), item["score"], item["model_version"]) == (1, 0.7, version)


@pytest.mark.model
@pytest.mark.filterwarnings("ignore")
def test_with_the_demo_model_both_find_the_same(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = """<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">
    <Label value="Circle"/><Label value="square"/><Label value="triangle"/></RectangleLabels></View>"""
    pictures = [
        "data:image/png;base64," + base64.b64encode(image_bytes(draw_picture(seed).image, "PNG")).decode()
        for seed in range(40_000_100, 40_000_112)
    ]
    asked = [task(number, picture) for number, picture in enumerate(pictures, start=1)]
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quiet(tmp_path_factory.mktemp("ultralytics")).items():
            patch.setenv(name, value)
        for given in ("", PLAIN, f"{MINE}:Large"):
            app = create_app(
                settings(
                    model=str(MODEL),
                    model_class=given or None,
                    engine="torch",
                    cache_dir=str(tmp_path / given.rpartition(":")[2]),
                ),
                inferences=FakeInferences([]),
            )
            client = app.test_client()
            until(lambda client=client: client.get("/health").get_json()["model"]["state"] == "ready")
            found[given] = (setup(client, schema=config)["model_version"], predict(client, asked, config))
    assert found[PLAIN][0] == found[""][0]
    # Which pictures are in a batch together is a matter of moments, and moves the sixth digit: the default's own too.
    [default, ours, large] = [without_ids(items) for _, items in found.values()]
    assert numbers(ours) == pytest.approx(numbers(default), abs=1e-3)
    heights = [[region["value"]["height"] for region in item["result"]] for item in default]
    left = [[region["value"]["height"] for region in item["result"]] for item in large]
    assert [len(one) for one in left] == [sum(height >= 30 for height in one) for one in heights]
    assert 0 < len(numbers(left)) < len(numbers(heights))
    assert found[f"{MINE}:Large"][0].startswith(found[""][0] + ".Large.")
