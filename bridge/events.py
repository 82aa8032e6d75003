"""Label Studio's webhooks: headers and bytes in, an envelope at the door, records in the worker.

The door (`check_secret`, `read_envelope`) finds out as little as it needs to answer at once. The worker (`records_of`)
turns the kept body into records. Bodies were recorded from Label Studio 1.23.2: tests/samples/.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.errors import SenderError, Unauthorized
from bridge.keys import project_uid
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
    if not isinstance(payload.get("action"), str):
        raise Malformed("the body has no 'action'", hint="is the sender Label Studio?")
    return payload


def _uid_of(project: Mapping[str, Any]) -> str | None:
    """The uid, or None without `created_at` (PROJECT_DELETED): it is never guessed."""
    if not isinstance(project.get("id"), int) or not isinstance(project.get("created_at"), str):
        return None
    try:
        created_at = parse_time(project["created_at"])
    except ValueError as error:
        raise Malformed(f"project.created_at: {error}") from error
    return None if created_at is None else project_uid(project["id"], created_at)


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
                delete(kind, str(item["id"]), stamp)
                for kind, name in (("annotation", "annotations"), ("task", "tasks"))
                for item in _listed(payload, name)
            ]
            return deletes + _sightings("project", _listed(payload, "project"), stamp)
        tasks = _listed(payload, "task") + _listed(payload, "tasks")
        annotations = _listed(payload, "annotation") + _listed(payload, "annotations")
        task_created = {task.get("id"): task.get("created_at") for task in tasks}
        return [
            *_sightings("project", _listed(payload, "project"), stamp),
            *_sightings("task", tasks, stamp),
            *(
                put("annotation", annotation, stamp, task_created_at=task_created.get(annotation.get("task")))
                for annotation in annotations
            ),
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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
    return [put(kind, item, stamp) for item in items if item.get("created_at")]


def _inferences(payload: Mapping[str, Any], stamp: Stamp) -> list[Record]:
    try:
        return [put("inference", item, stamp) for item in _listed(payload, "inferences")]
    except ValueError as error:
        raise Malformed(f"{stamp.event}: {error}") from error


def upload_paths(task_data: Mapping[str, Any]) -> list[str]:
    """The files of a task that exist in Label Studio alone: `/data/upload/…` anywhere in its data."""
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, str):
            path = value.partition("?")[0]
            if path.startswith("/data/upload/") and ".." not in path:
                found.append(path)
        elif isinstance(value, Mapping):
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    look(task_data)
    return list(dict.fromkeys(found))
