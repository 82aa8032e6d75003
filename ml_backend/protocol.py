"""Label Studio's ML protocol (1.23.2): request bodies in, answers out. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import SenderError
from ml_backend.predict import TaskResult

_MOST_NAME = 200  # letters of a project's uid or a version, far more than there are


@dataclass(frozen=True, kw_only=True)
class SetupRequest:
    """`project` is "ID.epoch", or "" when the sender is not Label Studio. `extra_params`: any JSON, kept by Label Studio
    with the backend; `tells_params`: whether the sender named them at all, as Label Studio does and our jobs do not. `access_token`: the project creator's legacy token, which is mostly disabled."""

    project: str
    label_config: str
    extra_params: Any = None
    tells_params: bool = False
    hostname: str = ""
    access_token: str = field(default="", repr=False)

    @property
    def wanted_version(self) -> str | None:
        """What `extra_params` say: {"model_version": "…"}, as JSON or as a text that holds it. Other shapes say nothing."""
        params = self.extra_params
        if isinstance(params, str):
            try:
                params = json.loads(params)
            except (ValueError, RecursionError):
                return None
        wanted = params.get("model_version") if isinstance(params, dict) else None
        return wanted.strip() or None if isinstance(wanted, str) and _is_name(wanted) else None


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """Any number of tasks: "Retrieve predictions" sends all that were selected in one request.

    `params`: what comes beside the tasks, `context` among it. `wanted_version`: `params.model_version`, or ""."""

    project: str
    label_config: str
    tasks: tuple[Any, ...]
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)  # passwords are among them
    wanted_version: str = ""
    by_job: bool = False  # asked for by our own pre-labelling job


def read_setup(body: bytes) -> SetupRequest:
    """Raises SenderError saying what is wrong; not for what `extra_params` are."""
    fields = _object(body)
    hostname, token = fields.get("hostname"), fields.get("access_token")
    return SetupRequest(
        project=_project(fields),
        label_config=_text(fields, "schema"),
        extra_params=fields.get("extra_params"),
        tells_params="extra_params" in fields,
        hostname=hostname if isinstance(hostname, str) else "",
        access_token=token if isinstance(token, str) else "",
    )


def read_predict(body: bytes) -> PredictRequest:
    """Raises SenderError saying what is wrong."""
    fields = _object(body)
    tasks = fields.get("tasks")
    if not isinstance(tasks, list):
        raise SenderError(
            "'tasks' is missing or no list", hint='send {"tasks": […], "label_config": "<View>…"}'
        )
    params = fields.get("params")
    params = params if isinstance(params, dict) else {}
    wanted = params.get("model_version")
    if wanted is not None and not isinstance(wanted, str):
        raise SenderError(f"params.model_version is a JSON {_kind(wanted)}; a text is expected")
    if wanted is not None and not _is_name(wanted):
        raise SenderError("params.model_version is no name of a version")
    return PredictRequest(
        project=_project(fields),
        label_config=_text(fields, "label_config"),
        tasks=tuple(tasks),
        params=params,
        wanted_version=(wanted or "").strip(),
        by_job=isinstance(fields.get("params"), dict) and bool(fields["params"].get("prelabel")),
    )


def read_event(body: bytes) -> tuple[str, dict[str, Any]]:
    """The action of a webhook, and all that it says. Raises SenderError."""
    fields = _object(body)
    return _text(fields, "action"), fields


def predictions(results: Sequence[TaskResult], *, model_version: str) -> list[Any]:
    """One item a task, in order: Label Studio matches them by position, and drops all when the number differs.

    A task whose own fault it is gets an empty result. One that failed for a passing reason gets no `result` at all:
    Label Studio then stores nothing for it and asks again, where an empty prediction of this version would stay.
    `error` is ignored by Label Studio when storing, and shown where it shows the answer itself (test a backend); so is
    `unfilled`, by which our pre-labelling job knows an empty result that says nothing about the picture."""
    return [_prediction(result, model_version) for result in results]


def _prediction(result: TaskResult, model_version: str) -> Any:
    if result.given and result.problem is None:
        several = [{**one, "model_version": model_version} for one in result.given]
        return several[0] if len(several) == 1 else several
    item: dict[str, Any] = {"score": result.score, "model_version": model_version}
    if result.problem is None or not result.problem.passing:
        item["result"] = list(result.regions)
    if result.problem is not None:
        item["error"] = str(result.problem)
    return item | ({"unfilled": True} if result.unfilled else {})


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SenderError(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise SenderError(f"the body is a JSON {_kind(fields)}; an object is expected")
    return fields


def _project(fields: dict[str, Any]) -> str:
    """It goes into log lines and files: only what can be one."""
    project = _text(fields, "project", required=False)
    if not _is_name(project):
        raise SenderError("'project' is no project of Label Studio", hint='it is named like "7.1795312966"')
    return project


def _is_name(text: str) -> bool:
    return len(text) <= _MOST_NAME and text.isprintable()


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
