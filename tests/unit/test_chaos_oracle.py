"""The judge of the chaos test must be able to say no: each kind of loss, doubling and difference is found."""

from __future__ import annotations

import ast
import copy
import json
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chaos import faults, oracle, rebuild
from chaos.hooks import Mode, Passage
from chaos.ledger import Ledger
from tests.conftest import sample

ROOT = Path(__file__).parents[2]
SENT = datetime(2026, 11, 22, 2, 0, 5, tzinfo=UTC).timestamp()


def passage(name: str, *, status: int | None = 202, number: int = 1) -> Passage:
    return Passage(
        number=number,
        mode=Mode.PASS,
        body=json.dumps(sample(name)).encode(),
        sent_at=SENT,
        answered_at=SENT + 0.1,
        status=status,
        event_id="e1",
    )


def record(kind: str, thing: dict[str, Any], /, **changed: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "op": "put",
        "id": str(thing["id"]),
        "created_at": thing["created_at"],
        "version": thing["updated_at"],
        "received_at": "2026-11-22T02:00:05.050000Z",
        "data": thing,
    } | changed


ANNOTATION = sample("ANNOTATION_CREATED")["annotation"]


def test_an_acknowledged_revision_with_a_record_is_not_missing() -> None:
    assert oracle.missing([passage("ANNOTATION_CREATED")], [record("annotation", ANNOTATION)]) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"version": "2026-11-22T03:00:00Z"},  # another revision
        {"created_at": "2026-11-21T00:00:00Z"},  # another annotation under the same id
        {"data": ANNOTATION | {"result": []}},  # other content
        {"kind": "task"},
    ],
)
def test_an_acknowledged_revision_without_its_record_is_missing(changed: dict[str, Any]) -> None:
    found = oracle.missing([passage("ANNOTATION_CREATED")], [record("annotation", ANNOTATION, **changed)])
    assert len(found) == 1
    assert f"annotation {ANNOTATION['id']}" in found[0]


def test_what_nobody_acknowledged_is_not_asked_for() -> None:
    assert oracle.missing([passage("ANNOTATION_CREATED", status=None)], []) == []
    assert oracle.missing([passage("ANNOTATION_CREATED", status=503)], []) == []


def test_an_acknowledged_delete_needs_its_record_at_its_time() -> None:
    told = passage("ANNOTATIONS_DELETED")
    ids = [str(item["id"]) for item in told.payload["annotations"]]
    gone = [record("annotation", ANNOTATION, op="delete", id=id) for id in ids]
    assert oracle.missing([told], gone) == []
    late = [one | {"received_at": "2026-11-22T05:00:00Z"} for one in gone]
    assert len(oracle.missing([told], late)) == len(ids)
    assert len(oracle.missing([told], [])) == len(ids)


def label_studio() -> dict[str, list[dict[str, Any]]]:
    task = {"id": 1, "data": {"image": "a"}, "meta": {}, "inner_id": 1, "created_at": "2026-11-22T02:00:00Z"}
    project = {
        "id": 1,
        "title": "t",
        "description": "",
        "label_config": "<View/>",
        "created_at": "2026-11-22T01:00:00Z",
    }
    return oracle.label_studio_state(
        [task | {"annotations": [ANNOTATION], "predictions": [], "drafts": []}],
        [task | {"annotations": [ANNOTATION | {"unique_id": "u1"}], "drafts": []}],
        project,
    )


def test_equal_states_do_not_differ_however_numbers_and_times_are_written() -> None:
    state = copy.deepcopy(label_studio())
    state["annotation"][0]["lead_time"] = float(state["annotation"][0]["lead_time"])
    state["annotation"][0]["created_at"] = state["annotation"][0]["created_at"].replace("Z", "+00:00")
    state["task"][0]["meta"] = None
    assert oracle.differences(label_studio(), state) == []


@pytest.mark.parametrize(
    "name", ["result", "was_cancelled", "ground_truth", "lead_time", "updated_at", "unique_id"]
)
def test_every_field_of_an_annotation_counts(name: str) -> None:
    state = copy.deepcopy(label_studio())
    state["annotation"][0][name] = "2020-01-01T00:00:00Z" if name == "updated_at" else "something else"
    assert len(oracle.differences(label_studio(), state)) == 1


def test_a_thing_too_many_and_one_too_few_are_differences() -> None:
    state = copy.deepcopy(label_studio())
    state["annotation"] = []
    state["task"].append(state["task"][0] | {"id": 9})
    assert len(oracle.differences(label_studio(), state)) == 2


def test_a_thing_twice_in_the_state_is_doubled() -> None:
    state = copy.deepcopy(label_studio())
    assert oracle.doubled(state) == []
    state["annotation"].append(state["annotation"][0] | {"id": 77})
    assert len(oracle.doubled(state)) == 1  # the same unique_id
    state["annotation"].append(state["annotation"][0])
    assert len(oracle.doubled(state)) == 2


def test_a_label_studio_that_forgets_what_it_answered_is_found() -> None:
    ledger = Ledger()
    ledger.saved("create", ANNOTATION)
    assert oracle.forgotten_by_label_studio(ledger, label_studio()) == []
    ledger.saved("create", ANNOTATION | {"id": 4711})
    assert len(oracle.forgotten_by_label_studio(ledger, label_studio())) == 1
    ledger.may_go(annotations=[4711])
    assert oracle.forgotten_by_label_studio(ledger, label_studio()) == []


def seen() -> rebuild.Seen:
    task = {
        "data": {"image": "upload-1"},
        "meta": {},
        "annotations": [{"result": [], "by": "a@b.c"}],
        "predictions": [],
    }
    return rebuild.Seen(
        project={"title": "t"},
        tasks={"upload-1": [task]},
        pictures={"upload-1": b"png"},
        views=["v"],
        hooks=["h"],
        storages=[("labels", "images")],
    )


def test_a_restored_project_is_compared_in_every_part() -> None:
    assert rebuild.compare(seen(), seen()) == []
    for change in (
        {"project": {"title": "another"}},
        {"tasks": {}},
        {"pictures": {"upload-1": b"other"}},
        {"views": []},
        {"hooks": []},
        {"storages": []},
    ):
        other = rebuild.Seen(**(vars(seen()) | change))
        assert len(rebuild.compare(seen(), other)) == 1, change
    wrong_person = copy.deepcopy(seen())
    wrong_person.tasks["upload-1"][0]["annotations"][0]["by"] = "x@y.z"
    assert len(rebuild.compare(seen(), wrong_person)) == 1


@pytest.mark.parametrize("name", ["oracle", "ledger", "hooks", "annotators", "label_studio"])
def test_the_judge_imports_nothing_of_what_it_judges(name: str) -> None:
    tree = ast.parse((ROOT / "chaos" / f"{name}.py").read_text())
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for one in names:
            assert one.partition(".")[0] in {*sys.stdlib_module_names, "chaos", "httpx"}, one


def test_every_run_begins_with_all_that_are_named_and_twenty_faults_are_all_there_are() -> None:
    assert sorted(faults.in_order(random.Random(3), 11)) == sorted(faults.NAMED)
    twenty = faults.in_order(random.Random(3), 20)
    assert sorted(twenty) == sorted({*faults.NAMED, *faults.MORE})
    thirty = faults.in_order(random.Random(3), 30)
    assert len(thirty) == 30
    assert thirty[:20] == twenty
    assert thirty == faults.in_order(random.Random(3), 30)


def test_a_picture_keeps_its_name_through_an_upload() -> None:
    assert rebuild.picture_key("/data/upload/1/0a1b2c3d-upload-1003.png") == "upload-1003"
    assert rebuild.picture_key("/data/upload/7/99ff-upload-1003.aabbccddeeff.png") == "upload-1003"
    assert rebuild.picture_key("s3://labels/images/wild-1.png") == "s3://labels/images/wild-1.png"
