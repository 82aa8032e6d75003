"""Label Studio's webhooks: headers and bytes in, an envelope at the door, records in the worker.

The door (`check_secret`, `read_envelope`) finds out as little as it needs to answer at once. The worker (`records_of`)
turns the kept body into records. Bodies were recorded from Label Studio 1.23.2: tests/samples/.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.errors import SenderError, Unauthorized
from bridge.keys import project_id_of, project_uid
from bridge.records import Record, Stamp, delete, parse_time, put

SECRET_HEADER = "X-Webhook-Secret"
# Project hooks may not ask for PROJECT_CREATED/DELETED: "organization-only" (facts/label-studio.md, 0.2).
PROJECT_HOOK_ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_DELETED",
    "PROJECT_UPDATED",
)
INFERENCE = "INFERENCE"
ANNOTATION_MADE = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED")
_ACTION = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class Malformed(SenderError):
    """The body is no webhook of Label Studio; it is kept in the quarantine."""


def check_secret(headers: Mapping[str, str], secret: str) -> None:
    """Raise Unauthorized unless the secret header is right. Compared in constant time, before anything is decoded."""
    given = headers.get(SECRET_HEADER, "")
    if not hmac.compare_digest(given.encode(), secret.encode()):
        reason = "is wrong" if given else "is missing"
        raise Unauthorized(
            f"the header {SECRET_HEADER} {reason}",
            hint="run `python -m sidecar connect PROJECT` to register the webhook with the present WEBHOOK_SECRET",
        )


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What the door needs to know of a body. `uid` is None where the payload cannot tell which project it means."""

    action: str
    uid: str | None
    project_id: int | None
    has_payload: bool


def read_envelope(body: bytes) -> Envelope:
    """Raises Malformed, saying what is wrong with the body and what to do."""
    payload = _decode(body)
    project = payload.get("project")
    has_payload = len(payload) > 1
    if not isinstance(project, Mapping):
        return Envelope(action=payload["action"], uid=None, project_id=None, has_payload=has_payload)
    return Envelope(
        action=payload["action"],
        uid=_uid_of(project),
        project_id=project["id"] if isinstance(project.get("id"), int) else None,
        has_payload=has_payload,
    )


def _decode(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise Malformed(f"the body is a JSON {type(payload).__name__}, not an object")
    action = payload.get("action")
    if not isinstance(action, str) or not _ACTION.fullmatch(action):
        raise Malformed("the body has no 'action' such as TASKS_CREATED", hint="is the sender Label Studio?")
    return payload


def _uid_of(project: Mapping[str, Any]) -> str | None:
    """The uid, or None without `created_at` (PROJECT_DELETED): it is never guessed."""
    if not isinstance(project.get("id"), int) or not isinstance(project.get("created_at"), str):
        return None
    try:
        created_at = parse_time(project["created_at"])
    except ValueError as error:
        raise Malformed(f"project.created_at: {error}") from error
    if created_at is None:
        return None
    uid = project_uid(project["id"], created_at)
    try:
        project_id_of(uid)
    except ValueError as error:
        raise Malformed(f"project: {error}") from error
    return uid


def records_of(body: bytes, *, event_id: str, received_at: datetime, source: str = "webhook") -> list[Record]:
    """The records a kept body says, deletes first. Raises Malformed when a part of it cannot be read.

    Every full task, annotation and project in the payload is a sighting of that thing, whatever the action is called:
    an action that a later Label Studio adds is recorded too. Ids alone mean a delete only in a `…_DELETED`.
    """
    payload = _decode(body)
    action = payload["action"]
    if source == "ml_backend":
        stamp = Stamp(event_id=event_id, received_at=received_at, source="ml_backend", event=action)
        return _inferences(payload, stamp)
    stamp = Stamp(event_id=event_id, received_at=received_at, source="webhook", event=action)
    try:
        if action.endswith("_DELETED"):
            deletes = [
                delete(kind, str(_id_of(kind, item)), stamp)
                for kind, name in (("annotation", "annotations"), ("task", "tasks"))
                for item in _listed(payload, name)
            ]
            return deletes + _checked(_sightings("project", _listed(payload, "project"), stamp))
        tasks = _listed(payload, "task") + _listed(payload, "tasks")
        annotations = _listed(payload, "annotation") + _listed(payload, "annotations")
        task_created = {task.get("id"): task.get("created_at") for task in tasks}
        records = [
            *_sightings("project", _listed(payload, "project"), stamp),
            *_sightings("task", tasks, stamp),
        ]
        for annotation in annotations:
            _id_of("annotation", annotation)
            if not annotation.get("created_at"):
                raise ValueError(f"annotation {annotation['id']} has no 'created_at'")
            owner = task_created.get(annotation.get("task"))
            records.append(put("annotation", annotation, stamp, task_created_at=owner))
        return _checked(records)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Malformed(f"{action}: {error}") from error


def _listed(payload: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = payload.get(name)
    if value is None:
        return []
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, dict):
            raise ValueError(f"'{name}' holds a {type(item).__name__} where an object is expected")
    return items


def _sightings(kind: str, items: list[dict[str, Any]], stamp: Stamp) -> list[Record]:
    """Full objects only: without `created_at` the incarnation would be a guess."""
    found = [item for item in items if item.get("created_at")]
    for item in found:
        _id_of(kind, item)
    return [put(kind, item, stamp) for item in found]


def _checked(records: list[Record]) -> list[Record]:
    """What is nested too deep to be written is found out here, not under the drain's lock. Raises RecursionError."""
    for record in records:
        _ = record.hash
    return records


def _id_of(kind: str, item: Mapping[str, Any]) -> int:
    """Label Studio's ids are whole numbers; anything else would end up in a key of the bucket."""
    id = item.get("id")
    if not isinstance(id, int) or isinstance(id, bool) or id < 0:
        raise ValueError(f"a {kind} without a whole number as its id: {id!r}")
    return id


def _inferences(payload: Mapping[str, Any], stamp: Stamp) -> list[Record]:
    try:
        records = [put("inference", item, stamp) for item in _listed(payload, "inferences")]
        return _checked(records)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Malformed(f"{stamp.event}: {error}") from error


def upload_paths(task_data: Mapping[str, Any]) -> list[str]:
    """The files of a task that exist in Label Studio alone: `/data/upload/…` anywhere in its data."""
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, str):
            path = value.partition("?")[0]
            if path.startswith("/data/upload/") and ".." not in path.split("/"):
                found.append(path)
        elif isinstance(value, Mapping):
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    look(task_data)
    return list(dict.fromkeys(found))
