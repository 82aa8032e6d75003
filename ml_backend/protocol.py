"""Label Studio's ML protocol (1.23.2): request bodies in, answers out. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge.errors import SenderError
from ml_backend.predict import TaskResult


@dataclass(frozen=True, kw_only=True)
class SetupRequest:
    """`project` is "ID.epoch", or "" when the sender is not Label Studio."""

    project: str
    label_config: str


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """Any number of tasks: "Retrieve predictions" sends all that were selected in one request."""

    project: str
    label_config: str
    tasks: tuple[Any, ...]


def read_setup(body: bytes) -> SetupRequest:
    """Raises SenderError saying what is wrong. `extra_params` may be any JSON and is not used; `access_token` is not
    either: Label Studio sends the project creator's legacy token, which is mostly disabled."""
    fields = _object(body)
    return SetupRequest(
        project=_text(fields, "project", required=False), label_config=_text(fields, "schema")
    )


def read_predict(body: bytes) -> PredictRequest:
    """Raises SenderError saying what is wrong."""
    fields = _object(body)
    tasks = fields.get("tasks")
    if not isinstance(tasks, list):
        raise SenderError(
            "'tasks' is missing or no list", hint='send {"tasks": […], "label_config": "<View>…"}'
        )
    return PredictRequest(
        project=_text(fields, "project", required=False),
        label_config=_text(fields, "label_config"),
        tasks=tuple(tasks),
    )


def read_action(body: bytes) -> str:
    """The action of a webhook. Raises SenderError."""
    return _text(_object(body), "action")


def predictions(results: Sequence[TaskResult], *, model_version: str) -> list[dict[str, Any]]:
    """One item a task, in order: Label Studio matches them by position, and drops all when the number differs.

    A task whose own fault it is gets an empty result. One that failed for a passing reason gets no `result` at all:
    Label Studio then stores nothing for it and asks again, where an empty prediction of this version would stay.
    `error` is ignored by Label Studio when storing, and shown where it shows the answer itself (test a backend)."""
    return [_prediction(result, model_version) for result in results]


def _prediction(result: TaskResult, model_version: str) -> dict[str, Any]:
    item: dict[str, Any] = {"score": result.score, "model_version": model_version}
    if result.problem is None or not result.problem.passing:
        item["result"] = list(result.regions)
    if result.problem is not None:
        item["error"] = str(result.problem)
    return item


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SenderError(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise SenderError(f"the body is a JSON {_kind(fields)}; an object is expected")
    return fields


def _text(fields: dict[str, Any], name: str, *, required: bool = True) -> str:
    value = fields.get(name)
    if isinstance(value, str):
        return value
    if value is None and not required:
        return ""
    if isinstance(value, int) and not required:
        return str(value)
    raise SenderError(f"{name!r} is missing or no text", hint="is the sender Label Studio?")


def _kind(value: Any) -> str:
    return {list: "list", str: "text", bool: "boolean", type(None): "null"}.get(type(value), "number")
