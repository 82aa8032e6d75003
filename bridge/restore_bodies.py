"""The bodies that a restore sends to Label Studio, and how it knows its own work again. Pure.

The ids and times that Label Studio gives itself stay in the task's `meta`, under META. That is also how a restore
knows its own work again: what carries its id was sent by it, so a run that was killed goes on where it stopped.

Facts about Label Studio were tried on 1.23.2 (docs/restore.md).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from bridge.records import PROJECT_FIELDS
from bridge.restore import Media, Order, TaskSource

META = "restored_from"
_SPACE = uuid.UUID("6f0a0a0e-6d4c-5c8e-9f0f-0c0b5a6b7c1d")
_STEM_MAX = 40
_SHA = 12
_UPLOADED = re.compile(rf"\.([0-9a-f]{{{_SHA}}})(?:_\w{{7}})?(?:\.[A-Za-z0-9]{{1,10}})?$")


@dataclass(kw_only=True)
class Ids:
    """What became what: recorded id -> id in the target; upload path -> new path. `users` has None for no author."""

    users: dict[int | None, int] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    tasks: dict[int, int] = field(default_factory=dict)
    annotations: dict[int, int] = field(default_factory=dict)
    predictions: dict[int, int] = field(default_factory=dict)


def project_body(project: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Every setting that Label Studio takes. Who created a project it decides itself."""
    kept = {
        name: project[name]
        for name in PROJECT_FIELDS
        if project.get(name) is not None and name != "created_by"
    }
    return kept | {"title": title}


def rewritten(value: Any, uploads: Mapping[str, str]) -> Any:
    """Task data whose upload paths lead to the files sent again; what follows a `?` stays."""
    if isinstance(value, str):
        path, mark, query = value.partition("?")
        return uploads[path] + mark + query if path in uploads else value
    if isinstance(value, Mapping):
        return {name: rewritten(item, uploads) for name, item in value.items()}
    if isinstance(value, list):
        return [rewritten(item, uploads) for item in value]
    return value


def upload_name(media: Media) -> str:
    """The name a file is sent under: its own, and the beginning of its checksum, by which `uploaded` knows it again."""
    name = re.sub(r"^[0-9a-f]{8}-", "", PurePosixPath(unquote(media.path)).name)
    path = PurePosixPath(name)
    stem = re.sub(rf"\.[0-9a-f]{{{_SHA}}}$", "", path.stem)
    return f"{stem[:_STEM_MAX]}.{media.sha256[:_SHA]}{path.suffix}"


def uploaded(names: Mapping[str, Any]) -> dict[str, Any]:
    """Of the files that Label Studio lists: beginning of the checksum -> whatever `names` holds for it."""
    return {found[1]: value for name, value in names.items() if (found := _UPLOADED.search(name))}


def task_meta(task: TaskSource, order: Order) -> dict[str, Any]:
    """The recorded meta, and beside it what Label Studio cannot take back. An earlier restore's block is kept inside."""
    recorded = task.data.get("meta")
    block: dict[str, Any] = {
        "restore": order.id,
        "project": order.uid,
        "task": task.id,
        "inner_id": task.data.get("inner_id"),
        "created_at": task.data.get("created_at"),
        "updated_at": task.data.get("updated_at"),
        "annotations": [
            {
                name: one.get(name)
                for name in ("id", "unique_id", "import_id", "created_at", "updated_at", "completed_by")
                if one.get(name) is not None
            }
            for one in task.annotations
        ],
        "predictions": [
            {name: one.get(name) for name in ("id", "created_at") if one.get(name) is not None}
            for one in task.predictions
        ],
    }
    if isinstance(recorded, Mapping):
        if META in recorded:
            block["before"] = recorded[META]
        return {**recorded, META: block}
    return {META: block if recorded is None else block | {"meta": recorded}}


def original_of(meta: Any, restore: str) -> int | None:
    """The recorded id of the task that this restore sent with this meta; None for any other task."""
    block = meta.get(META) if isinstance(meta, Mapping) else None
    if (
        not isinstance(block, Mapping)
        or block.get("restore") != restore
        or not isinstance(block.get("task"), int)
    ):
        return None
    return int(block["task"])


def task_body(task: TaskSource, order: Order, ids: Ids) -> dict[str, Any]:
    """One task as the import takes it; `inner_id` is for `POST /api/tasks/` alone, the import counts by itself."""
    body = {"data": rewritten(task.data.get("data") or {}, ids.uploads), "meta": task_meta(task, order)}
    if task.data.get("allow_skip") is False:
        body["allow_skip"] = False
    if order.bulk or several_truths(task):
        body["annotations"] = [annotation_body(one, ids) for one in task.annotations]
        for one in body["annotations"]:
            one["id"] = one.pop("import_id")  # the import takes it for `import_id`
    return body


def several_truths(task: TaskSource) -> bool:
    """Whether more than one annotation is ground truth: sent one by one, each would take it from the one before."""
    return sum(bool(one.get("ground_truth")) for one in task.annotations) > 1


def annotation_body(annotation: Mapping[str, Any], ids: Ids) -> dict[str, Any]:
    """One annotation without its `unique_id`. `ground_truth` is always said: left out, the import makes it true."""
    body: dict[str, Any] = {
        "result": annotation.get("result") or [],
        "was_cancelled": bool(annotation.get("was_cancelled")),
        "ground_truth": bool(annotation.get("ground_truth")),
        "completed_by": ids.users[annotation.get("completed_by")],
        "import_id": annotation["id"],
    }
    for name in ("lead_time", "draft_created_at", "last_action"):
        if annotation.get(name) is not None:
            body[name] = annotation[name]
    return body | links(annotation, ids)


def links(annotation: Mapping[str, Any], ids: Ids) -> dict[str, int]:
    """The prediction or annotation that it was made from, as far as these are there again already."""
    found = {
        "parent_prediction": ids.predictions.get(annotation.get("parent_prediction") or -1),
        "parent_annotation": ids.annotations.get(annotation.get("parent_annotation") or -1),
    }
    return {name: id for name, id in found.items() if id is not None}


def unique_ids(annotation: Mapping[str, Any], order: Order) -> list[str]:
    """The `unique_id`s to try, best first: its own, then one that follows from this restore and the annotation."""
    own = annotation.get("unique_id")
    named = own or f"{annotation['id']}@{annotation.get('created_at')}"
    derived = str(uuid.uuid5(_SPACE, f"{order.id}/{named}"))
    return [own, derived] if isinstance(own, str) and _is_uuid(own) else [derived]


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def prediction_body(prediction: Mapping[str, Any], task_id: int) -> dict[str, Any]:
    return {
        "task": task_id,
        "result": prediction.get("result") or [],
        "score": prediction.get("score"),
        "model_version": prediction.get("model_version"),
    }


@dataclass(frozen=True, kw_only=True)
class Import:
    """Tasks to send in one request. `alone`: its one task has to be told its `inner_id`, which the import cannot."""

    tasks: Sequence[TaskSource]
    alone: bool = False


def imports(
    tasks: Sequence[TaskSource], newest_inner_id: int, *, most: int, most_bytes: int
) -> Iterator[Import]:
    """Requests in order. The import numbers tasks on from the project's highest `inner_id`; where the record has a gap
    (a task was deleted), one task is sent alone with its number, and the import counts on from there."""
    chunk: list[TaskSource] = []
    size = 0
    for task in tasks:
        inner_id = task.data.get("inner_id")
        length = len(json.dumps(task.data, default=str))
        next_one = newest_inner_id + 1
        fits = not isinstance(inner_id, int) or inner_id == next_one
        if chunk and (not fits or len(chunk) >= most or size + length > most_bytes):
            yield Import(tasks=chunk)
            chunk, size = [], 0
        if fits:
            chunk.append(task)
            size += length
            newest_inner_id = next_one
        else:
            yield Import(tasks=[task], alone=True)
            newest_inner_id = max(newest_inner_id, int(inner_id or 0))
    if chunk:
        yield Import(tasks=chunk)
