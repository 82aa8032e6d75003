"""A restored project beside what the record says, field by field. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bridge.compare import Difference, field_differences
from bridge.records import canonical
from bridge.restore import Order, Source, TaskSource
from bridge.restore_bodies import Ids, prediction_body, project_body, rewritten, task_meta, unique_ids

# `import_id` holds the recorded id; what it held before is in the task's meta.
_ANNOTATION_IGNORED = frozenset({"import_id"})


def project_differences(source: Source, order: Order, found: Mapping[str, Any]) -> Iterator[Difference]:
    recorded = project_body(source.project, order.title)
    if recorded.get("show_collab_predictions") is False:
        recorded["model_version"] = ""  # Label Studio empties it itself
    for one in field_differences("project", recorded, found, ignore=frozenset({"created_by"})):
        if one.recorded is None and one.field not in recorded:
            continue  # Label Studio's default for a setting of which the record says nothing
        yield _field("project", order.uid, one.field, one.recorded, one.found)


def task_differences(
    source: TaskSource, order: Order, ids: Ids, found: Mapping[str, Any], unique: Mapping[int, str]
) -> Iterator[Difference]:
    """One task with its annotations and predictions, `found` as /api/tasks shows it with all fields. `unique`: the
    `unique_id`s of its annotations by their new ids, as the export shows them."""
    recorded = {
        "data": rewritten(source.data.get("data") or {}, ids.uploads),
        "meta": task_meta(source, order),
        "inner_id": source.data.get("inner_id"),
    }
    ignored = frozenset() if recorded["inner_id"] is not None else frozenset({"inner_id"})
    for one in field_differences("task", recorded, found, ignore=ignored):
        yield _field("task", str(source.id), one.field, one.recorded, one.found)
    yield from _annotations(source, order, ids, found, unique)
    yield from _predictions(source, int(found["id"]), found.get("predictions") or [])


def _annotations(
    source: TaskSource, order: Order, ids: Ids, found: Mapping[str, Any], unique: Mapping[int, str]
) -> Iterator[Difference]:
    there: dict[Any, Mapping[str, Any]] = {}
    for annotation in found.get("annotations") or []:
        if annotation.get("import_id") in (None, *there):
            yield Difference(kind="annotation", id=f"new {annotation['id']}", what="unexpected")
        else:
            there[annotation["import_id"]] = annotation
    for annotation in source.annotations:
        id = str(annotation["id"])
        again = there.pop(annotation["id"], None)
        if again is None:
            yield Difference(kind="annotation", id=id, what="missing")
            continue
        expected = dict(annotation) | {
            **{name: bool(annotation.get(name)) for name in ("was_cancelled", "ground_truth")},
            "result": annotation.get("result") or [],
            "completed_by": ids.users.get(annotation.get("completed_by")),
            "task": found["id"],
            "parent_prediction": ids.predictions.get(annotation.get("parent_prediction") or -1),
            "parent_annotation": ids.annotations.get(annotation.get("parent_annotation") or -1),
        }
        for one in field_differences("annotation", expected, again, ignore=_ANNOTATION_IGNORED):
            yield _field("annotation", id, one.field, one.recorded, one.found)
        allowed = unique_ids(annotation, order)
        if not order.bulk and unique.get(int(again["id"])) not in allowed:
            yield _field("annotation", id, "unique_id", allowed[0], unique.get(int(again["id"])))
    for again in there.values():
        yield Difference(kind="annotation", id=f"new {again['id']}", what="unexpected")


def prediction_key(prediction: Mapping[str, Any]) -> bytes:
    """What makes two predictions of a task the same: Label Studio keeps no mark of ours on them."""
    body = prediction_body(prediction, 0)
    return canonical([body["result"], body["score"], body["model_version"]])


def match_predictions(
    recorded: Iterable[Mapping[str, Any]], found: Iterable[Mapping[str, Any]]
) -> tuple[dict[int, int], list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Of one task: recorded id -> id in the target, those that are missing, and those that are too many."""
    free: dict[bytes, list[Mapping[str, Any]]] = {}
    for one in sorted(found, key=lambda one: int(one["id"])):
        free.setdefault(prediction_key(one), []).append(one)
    ids: dict[int, int] = {}
    missing = []
    for one in recorded:
        same = free.get(prediction_key(one))
        if same:
            ids[int(one["id"])] = int(same.pop(0)["id"])
        else:
            missing.append(one)
    return ids, missing, [one for same in free.values() for one in same]


def _predictions(
    source: TaskSource, task_id: int, found: Iterable[Mapping[str, Any]]
) -> Iterator[Difference]:
    _, missing, extra = match_predictions(source.predictions, found)
    for one in missing:
        yield Difference(kind="prediction", id=str(one["id"]), what="missing")
    for one in extra:
        yield Difference(kind="prediction", id=f"new {one['id']}", what="unexpected")


def view_body(view: Mapping[str, Any], project_id: int) -> dict[str, Any]:
    return {"project": project_id, "data": view.get("data") or {}, "order": view.get("order") or 0}


def missing_views(
    recorded: Iterable[Mapping[str, Any]], found: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Those of which the target has no equal one; two equal ones are two."""
    there = Counter(canonical([one.get("data") or {}, one.get("order") or 0]) for one in found)
    missing = []
    for one in recorded:
        key = canonical([one.get("data") or {}, one.get("order") or 0])
        if there[key]:
            there[key] -= 1
        else:
            missing.append(one)
    return missing


def view_differences(source: Source, found: Iterable[Mapping[str, Any]]) -> Iterator[Difference]:
    """Views that are missing. More than recorded is no difference: Label Studio makes one when somebody looks."""
    for one in missing_views(source.views, found):
        yield Difference(kind="view", id=str(one["id"]), what="missing")


def _field(kind: str, id: str, field: str, recorded: Any, found: Any) -> Difference:
    return Difference(kind=kind, id=id, what="field", field=field, recorded=recorded, found=found)
