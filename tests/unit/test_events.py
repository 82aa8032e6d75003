"""Webhooks: who may knock, what the door finds out, and what the worker makes of a body."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.errors import Unauthorized
from bridge.events import (
    PROJECT_HOOK_ACTIONS,
    SECRET_HEADER,
    Malformed,
    check_secret,
    read_envelope,
    records_of,
    upload_paths,
)
from bridge.records import Record
from tests.conftest import SAMPLES, sample, sample_bytes
from tests.fakes import at

EVERY_SAMPLE = sorted(path.stem for path in SAMPLES.glob("[A-Z]*.json"))
PROJECT = {"id": 3, "created_at": "2026-11-22T01:22:46.5Z"}
TASK = {"id": 7, "created_at": "2026-11-22T02:00:00Z", "updated_at": "2026-11-22T02:00:00Z", "data": {}}


def read(body: Any, **more: Any) -> list[Record]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return records_of(text, event_id="e-1", received_at=at(0), **more)


def named(records: list[Record]) -> list[tuple[str, str, str]]:
    return [(one.op, one.kind, one.id) for one in records]


# --- the door


def test_the_right_secret_opens() -> None:
    check_secret({SECRET_HEADER: "a-webhook-secret"}, "a-webhook-secret")


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "is missing"),
        ({SECRET_HEADER: ""}, "is missing"),
        ({SECRET_HEADER: "a-webhook-secre"}, "is wrong"),
        ({SECRET_HEADER: "étoile"}, "is wrong"),
    ],
)
def test_a_wrong_secret_is_told_what_to_do(headers: dict[str, str], words: str) -> None:
    with pytest.raises(Unauthorized, match=words) as caught:
        check_secret(headers, "a-webhook-secret")
    assert "sidecar connect" in str(caught.value)
    assert "a-webhook-secret" not in str(caught.value)


@pytest.mark.parametrize("name", EVERY_SAMPLE)
def test_the_door_reads_every_recorded_body(name: str) -> None:
    envelope = read_envelope(sample_bytes(name))
    assert envelope.action == name
    project = sample(name)["project"]
    assert envelope.project_id == project["id"]
    assert envelope.has_payload
    # PROJECT_DELETED has no created_at: which project was meant is never guessed.
    assert (envelope.uid is None) == ("created_at" not in project)


def test_a_body_without_a_payload_is_no_error() -> None:
    envelope = read_envelope(b'{"action": "ANNOTATION_CREATED"}')
    assert (envelope.uid, envelope.project_id, envelope.has_payload) == (None, None, False)


def test_tasks_deleted_at_once_come_without_a_project() -> None:
    envelope = read_envelope(b'{"action": "TASKS_DELETED", "tasks": [{"id": 1}]}')
    assert (envelope.uid, envelope.has_payload) == (None, True)


NO_BODY = [
    b"",
    b"not JSON",
    b"\xff\xfe",
    b"[" * 100_000,  # too deep for any reader
    b"[1, 2]",
    b"null",
    b'"TASKS_CREATED"',
    b"{}",
    b'{"action": null}',
    b'{"action": ["TASKS_CREATED"]}',
    b'{"action": ""}',
    b'{"action": "\\ud83d"}',  # half an emoji would not fit into Redis
    b'{"action": "' + b"A" * 101 + b'"}',
    b'{"action": "TASKS CREATED\\n"}',  # would forge a log line
]


@pytest.mark.parametrize("body", NO_BODY, ids=lambda body: repr(body[:24]))
def test_what_is_no_webhook_is_malformed_for_door_and_worker(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_envelope(body)
    with pytest.raises(Malformed):
        read(body)


@pytest.mark.parametrize(
    "project",
    [
        {"id": 3, "created_at": "yesterday"},
        {"id": 3, "created_at": "2026-11-22T01:22:46"},  # no zone
        {"id": 3, "created_at": "0001-01-01T00:00:00+05:00"},  # out of range
        {"id": 3, "created_at": "1960-01-01T00:00:00Z"},  # its uid would be no key
        {"id": -3, "created_at": "2026-11-22T01:22:46Z"},
        {"id": 10**40, "created_at": "2026-11-22T01:22:46Z"},
        {"id": True, "created_at": "2026-11-22T01:22:46Z"},
    ],
)
def test_a_project_that_names_no_place_in_the_bucket_is_malformed(project: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match="project"):
        read_envelope(json.dumps({"action": "PROJECT_UPDATED", "project": project}).encode())


@pytest.mark.parametrize(
    "project", [None, 3, "3", [3], {}, {"id": 3}, {"id": "3", "created_at": "2026-11-22T01:22:46Z"}]
)
def test_a_project_that_cannot_be_told_has_no_uid(project: Any) -> None:
    assert read_envelope(json.dumps({"action": "X", "project": project, "n": 1}).encode()).uid is None


# --- the worker


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ANNOTATION_CREATED", [("put", "project"), ("put", "task"), ("put", "annotation")]),
        ("ANNOTATION_UPDATED", [("put", "project"), ("put", "task"), ("put", "annotation")]),
        # One annotation and one task in lists, from "predictions to annotations".
        (
            "ANNOTATIONS_CREATED",
            [("put", "project"), ("put", "task"), ("put", "task"), *[("put", "annotation")] * 2],
        ),
        ("ANNOTATIONS_DELETED", [("delete", "annotation"), ("delete", "annotation"), ("put", "project")]),
        ("TASKS_CREATED", [("put", "project"), ("put", "task"), ("put", "task")]),
        ("TASKS_DELETED", [("delete", "task"), ("put", "project")]),
        ("PROJECT_CREATED", [("put", "project")]),
        ("PROJECT_UPDATED", [("put", "project")]),
        ("PROJECT_DELETED", []),
        ("LABEL_LINK_UPDATED", [("put", "project")]),
        ("LABEL_LINK_DELETED", [("put", "project")]),
        ("START_TRAINING", [("put", "project")]),
    ],
)
def test_every_recorded_body_becomes_records(name: str, expected: list[tuple[str, str]]) -> None:
    made = read(sample_bytes(name))
    assert {(one.op, one.kind) for one in made} == set(expected)
    assert all(one.event == name and one.source == "webhook" and one.event_id == "e-1" for one in made)
    for one in made:
        assert Record.from_json(one.to_json()) == one


def test_no_recorded_body_is_without_its_row_above() -> None:
    assert len(EVERY_SAMPLE) == 12


@pytest.mark.parametrize("name", EVERY_SAMPLE)
def test_no_secret_of_a_body_reaches_a_record(name: str) -> None:
    body = sample(name)
    body["project"] |= {"token": "an-invite-token", "task_data_password": "hush", "task_data_login": "login"}
    text = "".join(one.to_json() for one in read(body))
    for secret in ("an-invite-token", "recorded-invite-token", "hush", "task_data_login"):
        assert secret not in text


def test_an_annotation_says_which_life_of_its_task_it_belongs_to() -> None:
    body = sample("ANNOTATION_CREATED")
    annotation = next(one for one in read(body) if one.kind == "annotation")
    assert annotation.data["task_created_at"] == body["task"]["created_at"]
    assert annotation.data["unique_id"] == body["annotation"]["unique_id"]


def test_an_action_that_we_do_not_know_is_recorded_by_what_it_holds() -> None:
    made = read({"action": "TASKS_PONDERED", "tasks": [TASK], "project": PROJECT})
    assert named(made) == [("put", "project", "3"), ("put", "task", "7")]


def test_a_delete_speaks_of_ids_alone() -> None:
    (made,) = read({"action": "TASKS_DELETED", "tasks": [{"id": 7}], "project": {"id": 3}})
    assert (made.op, made.id, made.created_at, made.version) == ("delete", "7", None, None)


def test_five_thousand_tasks_are_one_body() -> None:
    body = {"action": "TASKS_CREATED", "tasks": [TASK | {"id": id} for id in range(5000)], "project": PROJECT}
    made = read(body)
    assert len(made) == 5001
    assert len({one.id for one in made if one.kind == "task"}) == 5000


@pytest.mark.parametrize(
    "body",
    [
        # A task without an id.
        {"action": "TASKS_CREATED", "tasks": [{"created_at": TASK["created_at"]}]},
        # Ids are whole numbers: they become part of keys.
        {"action": "TASKS_CREATED", "tasks": [TASK | {"id": "../../etc"}]},
        {"action": "TASKS_DELETED", "tasks": [{"id": None}]},
        {"action": "TASKS_DELETED", "tasks": [{"id": True}]},
        {"action": "TASKS_DELETED", "tasks": [{}]},
        {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": -1}]},
        # Not objects.
        {"action": "TASKS_DELETED", "tasks": [7]},
        {"action": "TASKS_CREATED", "tasks": "7"},
        {"action": "TASKS_CREATED", "tasks": [[TASK]]},
        # Times that are none.
        {"action": "TASKS_CREATED", "tasks": [TASK | {"created_at": "soon"}]},
        {"action": "TASKS_CREATED", "tasks": [TASK | {"created_at": 5}]},
        {"action": "TASKS_CREATED", "tasks": [TASK | {"updated_at": "2026-11-22T02:00:00"}]},
        {"action": "TASKS_CREATED", "tasks": [TASK | {"created_at": "0001-01-01T00:00:00+05:00"}]},
        # An annotation of no known birth.
        {"action": "ANNOTATION_CREATED", "annotation": {"id": 1, "task": 7}, "task": TASK},
        {"action": "ANNOTATION_CREATED", "annotation": TASK | {"task": [7]}, "task": TASK},
    ],
)
def test_a_body_that_cannot_be_read_is_malformed(body: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match=body["action"]):
        read(body)


def test_a_body_nested_too_deep_to_be_written_is_malformed() -> None:
    deep: Any = 1
    for _ in range(700):
        deep = [deep]
    with pytest.raises(Malformed):
        read({"action": "TASKS_CREATED", "tasks": [TASK | {"data": {"deep": deep}}], "project": PROJECT})


def test_half_an_emoji_in_a_text_is_written_and_read_back() -> None:
    body = (
        b'{"action": "TASKS_CREATED", "tasks": ['
        + json.dumps(TASK | {"data": {"text": "\ud83d"}}).encode()
        + b"]}"
    )
    (made,) = read(body)
    line = made.to_json().encode()
    assert Record.from_json(line).data["data"] == {"text": "\ud83d"}
    assert len(made.hash) == 64


def test_what_the_model_did_becomes_inference_records() -> None:
    body = {"action": "INFERENCE", "inferences": [{"id": "a-1", "task": 7, "score": 0.5}]}
    (made,) = read(body, source="ml_backend")
    assert (made.kind, made.id, made.source) == ("inference", "a-1", "ml_backend")


@pytest.mark.parametrize("items", [[{}], [{"id": None}], ["x"], "x"])
def test_an_inference_that_cannot_be_read_is_malformed(items: Any) -> None:
    with pytest.raises(Malformed):
        read({"action": "INFERENCE", "inferences": items}, source="ml_backend")


def test_a_project_hook_asks_for_no_organization_only_action() -> None:
    assert not {"PROJECT_CREATED", "PROJECT_DELETED"} & set(PROJECT_HOOK_ACTIONS)


# --- uploads


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        ({"image": "/data/upload/4/a.png"}, ["/data/upload/4/a.png"]),
        ({"image": "/data/upload/4/a.png?d=x"}, ["/data/upload/4/a.png"]),
        ({"a": ["/data/upload/1/a", {"b": "/data/upload/1/b"}], "c": "/data/upload/1/a"}, ["/data/upload/1/a", "/data/upload/1/b"]),
        # Dots in a name are a name; dots as a folder lead elsewhere.
        ({"image": "/data/upload/4/a..b.png"}, ["/data/upload/4/a..b.png"]),
        ({"image": "/data/upload/../../etc/passwd"}, []),
        # What lies elsewhere is not Label Studio's alone.
        ({"image": "s3://bucket/data/upload/a.png"}, []),
        ({"image": "http://elsewhere/data/upload/4/a.png"}, []),
        ({"image": "/data/local-files/?d=a.png"}, []),
        ({"n": 1, "none": None, "yes": True}, []),
        ({}, []),
    ],
)  # fmt: skip
def test_the_uploads_of_a_task_are_found(data: dict[str, Any], paths: list[str]) -> None:
    assert upload_paths(data) == paths
