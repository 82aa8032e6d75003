"""Several models in one config: each control with its own, found, loaded and told of by itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from bridge.errors import Corrupt
from ml_backend.detectors import Detector, Found
from ml_backend.models import Models
from tests.unit.ml_backend.helpers import PROJECT, FakeDetector, a_box, a_client, predict, task, weights

CONFIG = """<View><Image name="i" value="$image"/>
<RectangleLabels name="r" toName="i"><Label value="circle"/></RectangleLabels>
<RectangleLabels name="s" toName="i" model_path="small.pt"><Label value="Sheep"/></RectangleLabels>
<Choices name="c" toName="i" model_path="kinds/whole.pt"><Choice value="day"/></Choices>
<Choices name="d" toName="i" model_path="kinds/whole.pt" model_score_threshold="0.9"><Choice value="day"/></Choices></View>"""


class Shelf:
    """Models by the name of their file; remembers what was opened."""

    def __init__(self, root: Path, **detectors: Detector | Exception) -> None:
        self.opened: list[str] = []
        self._detectors = detectors
        for name in detectors:
            path = root / ("kinds" if name == "whole" else "") / f"{name}.pt"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(name.encode())
        self.models = Models(find=weights, open=self._open, model_root=root)

    def _open(self, path: Path) -> Detector:
        self.opened.append(path.stem)
        found = self._detectors.get(path.stem, FakeDetector())
        if isinstance(found, Exception):
            raise found
        return found

    def client(self) -> FlaskClient:
        return a_client(models=self.models)


def sheep() -> FakeDetector:
    return FakeDetector(Found(boxes=(a_box("sheep", 0.8),)), class_names=("sheep",))


def whole(name: str = "day") -> FakeDetector:
    return FakeDetector(Found(class_scores=((name, 0.7),)), task="classify", class_names=(name,))


def warnings(client: FlaskClient, config: str = CONFIG) -> list[str]:
    body = {"project": PROJECT, "schema": config, "hostname": "", "access_token": "", "extra_params": None}
    answer = client.post("/setup", json=body)
    assert answer.status_code == 200
    found: list[str] = answer.get_json()["warnings"]
    return found


def test_each_control_asks_its_own_model_once(tmp_path: Path) -> None:
    by_sheep, by_day = sheep(), whole()
    shelf = Shelf(tmp_path, small=by_sheep, whole=by_day)
    [first, second] = predict(shelf.client(), [task(1), task(2)], CONFIG)
    for item in (first, second):
        assert [(region["from_name"], region["score"]) for region in item["result"]] == [
            ("r", 0.9),
            ("s", 0.8),
            ("c", 0.7),
        ]
    assert by_sheep.batches == by_day.batches == [2]
    assert sorted(shelf.opened) == ["shapes", "small", "whole"]


def test_a_model_that_cannot_be_read_leaves_its_controls_empty_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf(tmp_path, small=Corrupt("small.pt cannot be read"), whole=whole())
    [item] = predict(shelf.client(), [task(1)], CONFIG)
    assert [region["from_name"] for region in item["result"]] == ["r", "c"]
    assert "RectangleLabels 's' stays empty: small.pt cannot be read" in caplog.text


def test_setup_tells_what_does_not_fit_a_named_model_without_waiting_for_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, small=whole(), whole=whole("night"))
    client = shelf.client()
    deadline = time.monotonic() + 20
    said: list[str] = []
    while len(said) < 3 and time.monotonic() < deadline:
        said = warnings(client)
    [task_of, labels_of, _] = said
    assert "RectangleLabels 's' stays empty: it needs a model for detect or segment or pose or obb" in task_of
    assert (
        "Choices 'c' stays empty: no label matches a class of the model. Labels: day. Classes: night."
        in labels_of
    )
    assert '<Choice value="day" predicted_values="night"/>' in labels_of
    assert [item["result"] for item in predict(client, [task(1)], CONFIG.replace('name="r"', 'name="r" model_skip="true"'))] == [[]]  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ('model_classes="unicorn"', "no class is left. Classes: circle, square"),
        ('model_classes="square"', "no label matches a class of the model. Labels: circle. Classes: square."),
        ('model_device="cuda:7"', "there is no cuda:7 here; model_device may be cpu"),
    ],
)
def test_a_control_that_asks_for_what_is_not_there_stays_empty(attributes: str, said: str) -> None:
    config = f"""<View><Image name="i" value="$image"/>
    <RectangleLabels name="r" toName="i" {attributes}><Label value="circle"/></RectangleLabels></View>"""
    client = a_client()
    [item] = predict(client, [task(1)], config)
    assert item["result"] == []
    assert said in " ".join(warnings(client, config))


def test_a_wrong_attribute_costs_itself_only() -> None:
    config = """<View><Image name="i" value="$image"/>
    <RectangleLabels name="r" toName="i" model_imgsz="huge" model_classes="unicorn, circle"><Label value="circle"/>
    </RectangleLabels></View>"""
    client = a_client()
    answer: dict[str, Any] = client.post(
        "/predict", json={"project": PROJECT, "label_config": config, "tasks": [task(1)]}
    ).get_json()
    assert len(answer["results"][0]["result"]) == 1
    assert "model_imgsz='huge' is left out: it must be a whole number of pixels" in answer["warnings"][0]
    assert "the model has no class 'unicorn'" in answer["warnings"][1]


# --- what computes them


class Computed(FakeDetector):
    """With an engine to tell of; remembers whether it is still wanted."""

    def __init__(self, engine: str, **changes: Any) -> None:
        super().__init__(**changes)
        self.engine = engine
        self.is_forgotten = False

    def engine_status(self) -> dict[str, Any]:
        return {"name": self.engine, "state": "settled", "why": "unsupported", "note": "no converter"}

    def forgotten(self) -> None:
        self.is_forgotten = True


def test_setup_says_what_computes_each_model_of_a_config_that_is_loaded(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, small=Computed("openvino bf16", class_names=("sheep",)), whole=whole())
    client = shelf.client()

    def engines() -> dict[str, Any]:
        found: dict[str, Any] = client.post("/setup", json={"project": PROJECT, "schema": CONFIG}).get_json()
        return found.get("engines", {})

    predict(client, [task()], CONFIG)
    [(version, told)] = engines().items()  # the others have no engine to tell of
    assert version.startswith("small.")
    assert told == {"name": "openvino bf16", "state": "settled", "why": "unsupported", "note": "no converter"}


def test_a_model_that_makes_room_for_others_is_told_so(tmp_path: Path) -> None:
    opened = {f"m{number}": Computed("torch") for number in range(10)}
    shelf = Shelf(tmp_path, **opened)
    client = shelf.client()
    for name in opened:
        config = f'<View><Image name="i" value="$image"/><RectangleLabels name="r" toName="i" model_path="{name}.pt">'
        predict(client, [task()], f'{config}<Label value="circle"/></RectangleLabels></View>')
    assert [name for name, one in opened.items() if one.is_forgotten] == ["m0", "m1"]
