"""Somebody's own label-studio-ml class behind our door: unchanged, and unable to cost anybody else anything."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from ml_backend.app import create_app
from ml_backend.own_contract import contract_of, load_class
from tests.conftest import sample
from tests.unit.ml_backend import own_models
from tests.unit.ml_backend.helpers import CONFIG, PROJECT, FakeInferences, predict, settings, task

SETUP = {
    "project": PROJECT,
    "schema": CONFIG,
    "hostname": "http://x",
    "access_token": "0" * 40,
    "extra_params": None,
}


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_models.LabelStudioMLBase, "_kept", {})


def serving(folder: Path, name: str, inferences: FakeInferences | None = None, **changes: Any) -> FlaskClient:
    given = settings(
        model="", model_class=f"tests.unit.ml_backend.own_models:{name}", cache_dir=str(folder), **changes
    )
    client = create_app(given, inferences=inferences or FakeInferences([])).test_client()
    until(lambda: client.get("/health").get_json()["model"]["state"] != "loading")
    return client


def until(is_so: Any) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def version(client: FlaskClient, **changes: Any) -> str:
    answer = client.post("/setup", json=SETUP | changes)
    assert answer.status_code == 200, answer.text
    found: str = answer.get_json()["model_version"]
    return found


def labels(item: dict[str, Any]) -> list[str]:
    return [label for region in item["result"] for label in region["value"]["rectanglelabels"]]


@pytest.mark.parametrize(
    ("name", "contract"), [("Old1", "1.x"), ("Plain2", "2.x"), ("Response2", "2.x"), ("Duck", "plain")]
)
def test_a_class_is_known_by_its_constructor(name: str, contract: str) -> None:
    assert contract_of(getattr(own_models, name)) == contract


@pytest.mark.parametrize(
    ("name", "label"), [("Old1", "label"), ("Plain2", "Box"), ("Duck", "Duck"), ("Contextual2", "2 None []")]
)
def test_each_contract_is_served_unchanged(name: str, label: str, tmp_path: Path) -> None:
    client = serving(tmp_path, name)
    items = predict(client, [task(1), task(2)])
    assert [labels(item) for item in items] == [[label], [label]]


def test_setup_and_every_prediction_give_one_version_whatever_the_model_answers(tmp_path: Path) -> None:
    client = serving(tmp_path, "Plain2")
    assert version(client) == "shapes-7"
    items = predict(client, [task(1), task(2, "bad"), task(3)])
    assert {item["model_version"] for item in items} == {"shapes-7"}
    assert client.get("/versions").get_json() == {"versions": ["shapes-7"]}


def test_a_model_without_a_version_of_its_own_gets_one_of_its_code_and_config(tmp_path: Path) -> None:
    client = serving(tmp_path, "Response2")
    first = version(client)
    assert first.startswith("Response2.")
    assert first != "0.0.1"
    assert version(client) == first
    assert version(client, schema=CONFIG.replace("Circle", "Ring")) != first


def test_a_task_that_raises_costs_only_itself(tmp_path: Path) -> None:
    inferences = FakeInferences([])
    client = serving(tmp_path, "Plain2", inferences)
    items = predict(client, [task(1), task(2, "bad"), task(3)])
    assert [labels(item) if "result" in item else None for item in items] == [["Box"], [], ["Box"]]
    assert [item["score"] for item in items] == [0.25, 0.0, 0.25]
    assert "KeyError: 'no such shape'" in items[1]["error"]
    assert [record.get("problem") for record in inferences.kept[0][1]] == [None, "model", None]
    text = client.get("/metrics").text
    assert 'ml_backend_tasks_total{outcome="predicted"} 2.0' in text
    assert 'ml_backend_task_problems_total{reason="model"} 1.0' in text


def test_a_task_whose_data_is_nested_without_end_costs_only_itself(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(600):
        deep = [deep]
    items = predict(serving(tmp_path, "Plain2"), [task(1), task(2, notes=deep), task(3)])
    assert [labels(item) for item in items] == [["Box"], [], ["Box"]]
    assert "nested too deeply" in items[1]["error"]


def test_a_time_out_of_its_own_costs_a_task_and_is_not_taken_for_ours(tmp_path: Path) -> None:
    items = predict(serving(tmp_path, "Plain2"), [task(1), task(2, "slow"), task(3)])
    assert [labels(item) for item in items] == [["Box"], [], ["Box"]]
    assert "TimeoutError: the picture's server is slow" in items[1]["error"]


def test_several_predictions_a_task_and_objects_of_the_sdk_are_taken(tmp_path: Path) -> None:
    client = serving(tmp_path, "Response2")
    items: list[Any] = predict(client, [task(1), task(2)])
    [first, second] = items
    assert first == second
    assert [(one["score"], labels(one)) for one in first] == [(0.1, ["A"]), (0.2, ["B"])]
    assert {one["model_version"] for one in first} == {version(client)}


def test_a_model_written_for_one_task_is_asked_one_by_one(tmp_path: Path) -> None:
    items = predict(serving(tmp_path, "FirstOnly2"), [task(1, "a"), task(2, "b"), task(3, "c")])
    assert [labels(item) for item in items] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("image", "fine"),
    [
        ("none", False),
        ("no result", False),
        ("null result", False),
        ("nan region", False),
        ("exit", False),
        ("text score", True),
        ("nan score", True),
        ("null version", True),
    ],
)
def test_an_answer_label_studio_would_choke_on_is_mended_or_costs_that_task(
    image: str, fine: bool, tmp_path: Path
) -> None:
    [odd, other] = predict(serving(tmp_path, "Odd2"), [task(1, image), task(2, "null version")])
    assert bool(odd["result"]) is fine
    assert ("error" in odd) is not fine
    assert isinstance(odd["score"], float)
    assert isinstance(odd["model_version"], str)
    assert labels(other) == ["A"]


@pytest.mark.parametrize("name", ["Drawn2", "Silent2"])
def test_no_prediction_at_all_is_nothing_to_store(name: str, tmp_path: Path) -> None:
    items = predict(serving(tmp_path, name), [task(1), task(2)])
    assert ["result" in item for item in items] == [False, False]
    assert {item["error"] for item in items} == {"the model gave no prediction"}


def test_what_a_person_draws_is_answered(tmp_path: Path) -> None:
    client = serving(tmp_path, "Drawn2")
    body = {"project": PROJECT, "label_config": CONFIG, "tasks": [task(1)]}
    answer = client.post("/predict", json=body | {"params": {"context": {"result": [{"id": "a"}]}}})
    assert labels(answer.get_json()["results"][0]) == ["drawn"]


def test_a_labeling_config_that_comes_back_counts_again(tmp_path: Path) -> None:
    client = serving(tmp_path, "Configured2")
    other = CONFIG.replace("Circle", "Ring")
    for config in (CONFIG, other, CONFIG, CONFIG, other):
        assert labels(predict(client, [task(1)], config)[0]) == [config]


def test_extra_params_reach_models_that_are_made_later(tmp_path: Path) -> None:
    client = serving(tmp_path, "Told")
    version(client, extra_params={"a": 1})
    for config in (CONFIG, CONFIG.replace("Circle", "Ring")):
        version(client, extra_params={"a": 1}, schema=config)
        assert labels(predict(client, [task(1)], config)[0]) == ['{"a": 1}']


def test_context_and_params_reach_the_model(tmp_path: Path) -> None:
    client = serving(tmp_path, "Contextual2")
    body = {"project": PROJECT, "label_config": CONFIG, "tasks": [task(1)]}
    params = {"context": {"result": []}, "login": "x", "prelabel": "job"}
    [item] = client.post("/predict", json=body | {"params": params}).get_json()["results"]
    assert labels(item) == ["1 {'result': []} ['login']"]


def test_a_model_that_hangs_costs_its_time_and_no_result_is_stored(tmp_path: Path) -> None:
    own_models.Hangs2.gate.clear()
    client = serving(tmp_path, "Hangs2", predict_budget_s=0.3)
    try:
        began = time.monotonic()
        items = predict(client, [task(number) for number in range(40)])
        assert time.monotonic() - began < 20
        assert all("result" not in item and "not done in time" in item["error"] for item in items)
        assert version(client)
        assert client.get("/health").status_code == 200
        # The one that hangs keeps its turn; others are not begun beside it.
        assert all("result" not in item for item in predict(client, [task(1)]))
        threads = [thread.name for thread in threading.enumerate()]
        assert threads.count("own-predict") == 1
    finally:
        own_models.Hangs2.gate.set()
    until(lambda: "result" in predict(client, [task(1)])[0])


def test_a_model_that_takes_long_to_make_is_waited_for_elsewhere(tmp_path: Path) -> None:
    own_models.Slow2.gate.clear()
    own_models.Slow2.made.clear()
    client = serving(tmp_path, "Slow2")
    body = {"project": PROJECT, "label_config": CONFIG, "tasks": [task(1)]}
    answer = client.post("/setup", json=SETUP)
    assert (answer.status_code, "still being set up" in answer.status) == (503, True)
    own_models.Slow2.gate.set()
    until(lambda: client.post("/setup", json=SETUP).status_code == 200)
    assert client.post("/predict", json=body).status_code == 200
    assert own_models.Slow2.made == ["3"]  # made once, with the project's id


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tests.unit.ml_backend.own_models:Nobody", "has no class 'Nobody'"),
        ("tests.unit.ml_backend.nowhere:A", "PYTHONPATH"),
        ("tests.unit.ml_backend.own_models:ModelResponse", "no predict"),
    ],
)
def test_a_class_that_cannot_be_had_is_told(name: str, told: str, tmp_path: Path) -> None:
    client = create_app(
        settings(model="", model_class=name, cache_dir=str(tmp_path)), inferences=FakeInferences([])
    ).test_client()
    until(lambda: client.get("/health").get_json()["model"]["state"] == "failed")
    assert told in client.get("/health").get_json()["model"]["reason"]
    answer = client.post("/setup", json=SETUP)
    assert (answer.status_code, told in answer.get_json()["error"]) == (503, True)


def test_a_model_that_cannot_be_made_is_told_and_tried_again(tmp_path: Path) -> None:
    client = serving(tmp_path, "Breaks2")
    for _ in range(2):
        answer = client.post("/setup", json=SETUP)
        assert (answer.status_code, "RuntimeError: no weights here" in answer.status) == (503, True)


@pytest.mark.parametrize(
    ("extra_params", "kept"),
    [(None, None), ({"a": [1]}, '{"a": [1]}'), ("text", "text"), ([1, 2], "[1, 2]"), (7, "7")],
)
def test_any_extra_params_reach_a_model_as_the_text_it_can_keep(
    extra_params: Any, kept: str | None, tmp_path: Path
) -> None:
    client = serving(tmp_path, "Plain2")
    assert version(client, extra_params=extra_params) == "shapes-7"
    assert own_models.LabelStudioMLBase._kept.get(("3", "extra_params")) == kept


def test_an_unknown_version_is_refused_with_the_known_one(tmp_path: Path) -> None:
    client = serving(tmp_path, "Plain2")
    body = {"project": PROJECT, "label_config": CONFIG, "tasks": [task(1)]}
    answer = client.post("/predict", json=body | {"params": {"model_version": "shapes-6"}})
    assert (answer.status_code, "there is shapes-7" in answer.get_json()["error"]) == (400, True)
    assert client.post("/predict", json=body | {"params": {"model_version": "shapes-7"}}).status_code == 200


def test_training_runs_in_the_background_and_its_version_shows(tmp_path: Path) -> None:
    own_models.Learns2.gate.clear()
    own_models.Learns2.learnt.clear()
    client = serving(tmp_path, "Learns2")
    before = version(client)
    answer = client.post("/webhook", json=sample("START_TRAINING"))
    assert (answer.status_code, answer.get_json()["status"]) == (200, "queued")
    assert own_models.Learns2.learnt == []
    own_models.Learns2.gate.set()
    project = str(sample("START_TRAINING")["project"]["id"])
    until(lambda: own_models.Learns2.learnt == [("START_TRAINING", project)])
    until(lambda: version(client, project=f"{project}.1795312966") == "learnt-1")
    assert before != "learnt-1"


def test_what_a_1x_training_leaves_makes_the_next_model(tmp_path: Path) -> None:
    client = serving(tmp_path, "Old1")
    before = version(client)
    training = client.post("/webhook", json=sample("ANNOTATION_CREATED")).get_json()["training"]
    until(lambda: version(client) != before)
    assert training in version(client)
    [item] = predict(client, [task(1)])
    assert labels(item) == ["learnt from ANNOTATION_CREATED"]
    again = serving(tmp_path, "Old1")  # as after a restart
    assert labels(predict(again, [task(1)])[0]) == ["learnt from ANNOTATION_CREATED"]


def test_a_1x_class_hears_the_events_it_names_in_its_own_way(tmp_path: Path) -> None:
    own_models.Events1.heard.clear()
    client = serving(tmp_path, "Events1")
    told = client.post("/webhook", json=sample("PROJECT_UPDATED")).get_json()
    assert told["status"] == "queued"
    until(lambda: own_models.Events1.heard)
    assert own_models.Events1.heard == [("PROJECT_UPDATED", told["training"], ["workdir"])]
    assert client.post("/webhook", json=sample("TASKS_CREATED")).get_json() == {"status": "ignored"}


def test_nobody_learns_from_an_event_without_the_password(tmp_path: Path) -> None:
    client = serving(tmp_path, "Old1", basic_auth_user="ls", basic_auth_pass="a-password")
    answer = client.post("/webhook", json=sample("ANNOTATION_CREATED"))
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ignored"})
    assert client.post("/webhook", json=sample("START_TRAINING")).status_code == 401
    told = client.post("/webhook", json=sample("ANNOTATION_CREATED"), auth=("ls", "a-password"))
    assert told.get_json()["status"] == "queued"


def test_a_model_without_fit_refuses_to_train_honestly(tmp_path: Path) -> None:
    assert serving(tmp_path, "Plain2").post("/webhook", json=sample("START_TRAINING")).status_code == 501


def test_a_missing_import_of_the_model_is_told_from_a_missing_model(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "needs_something.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Exception, match="'surely_not_installed', which is not installed"):
        load_class("needs_something:Model")
