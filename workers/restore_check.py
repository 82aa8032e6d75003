"""Reading a restored project back: for going on where a run was cut off, and for the comparison at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge import restore_check
from bridge.compare import Difference
from bridge.restore import Source
from bridge.restore_bodies import original_of, rewritten, several_truths, unique_ids
from bridge.restore_check import match_predictions
from workers.progress import Reporter
from workers.restore_annotate import Found
from workers.restore_target import Work, again, pages

NAMED = 200  # how many differences, and how many things left out, the report names


def some_came_with_tasks(source: Source) -> bool:
    return any(several_truths(task) for task in source.tasks)


def read(work: Work) -> Found:
    """What is there of annotations, predictions and drafts.

    A task that was sent while its file could not be is given the file's address now, and one whose number was still to
    be set its number."""
    found = Found()
    source = {task.id: task for task in work.source.tasks}
    for page in pages(work):
        for task in page:
            found.add(task)
            recorded = source.get(original_of(task.get("meta"), work.order.id) or -1)
            mended: dict[str, Any] = {}
            if recorded is not None:
                data = rewritten(recorded.data.get("data") or {}, work.ids.uploads)
                if task["data"] == recorded.data.get("data") != data:
                    mended["data"] = data
                if recorded.data.get("inner_id") not in (None, task.get("inner_id")):
                    mended["inner_id"] = recorded.data["inner_id"]
            if mended:
                path = f"/api/tasks/{task['id']}/"
                again(work, lambda path=path, mended=mended: work.target.patch(path, mended))  # type: ignore[misc]
    return found


def learn_predictions(work: Work, there: Mapping[int, list[dict[str, Any]]]) -> None:
    """Which recorded prediction became which."""
    for task in work.source.tasks:
        ids, _, _ = match_predictions(task.predictions, there.get(work.ids.tasks.get(task.id, -1), []))
        work.ids.predictions.update(ids)


@dataclass(kw_only=True)
class Compared:
    """What came of the comparison. `unique`: by new annotation id. `unique_ids`: how many were kept, derived, new."""

    differences: list[Difference] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    unique: dict[int, str] = field(default_factory=dict)
    unique_ids: dict[str, int] = field(default_factory=lambda: {"kept": 0, "derived": 0, "new": 0})

    def ids_text(self, work: Work) -> str:
        """The map of ids, one JSON object a line."""
        lines: list[dict[str, Any]] = [
            {"kind": "user", "recorded": old, "now": new} for old, new in work.ids.users.items()
        ]
        lines += [{"kind": "upload", "recorded": old, "now": new} for old, new in work.ids.uploads.items()]
        for task in work.source.tasks:
            base = {"recorded": task.id, "created_at": task.data.get("created_at")}
            lines.append({"kind": "task", **base, "now": work.ids.tasks.get(task.id)})
            for one in task.annotations:
                new = work.ids.annotations.get(int(one["id"]))
                times = {name: one.get(name) for name in ("created_at", "updated_at", "unique_id")}
                now = {"now": new, "unique_id_now": self.unique.get(new or -1)}
                lines.append({"kind": "annotation", "recorded": one["id"], **times, **now})
            for one in task.predictions:
                now = {"now": work.ids.predictions.get(int(one["id"]))}
                lines.append(
                    {"kind": "prediction", "recorded": one["id"], "created_at": one.get("created_at"), **now}
                )
        return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def compare(work: Work) -> Compared:
    """Read the whole project again and compare every field with the record."""
    found = Compared(counts=dict.fromkeys(("tasks", "annotations", "predictions", "drafts"), 0))
    source = {task.id: task for task in work.source.tasks}
    report = Reporter("tasks compared", total=len(source), now=work.here.now)
    seen: set[int] = set()
    project = again(work, lambda: work.target.project(work.project_id))
    found.differences += restore_check.project_differences(work.source, work.order, project)
    for page in pages(work):
        _learn(work, page, source)
        unique = _unique_ids(work, page)
        found.unique |= unique
        for task in page:
            for kind in ("annotations", "predictions", "drafts"):
                found.counts[kind] += len(task.get(kind) or [])
            found.counts["tasks"] += 1
            original = original_of(task.get("meta"), work.order.id)
            if original is None or original not in source or original in seen:
                found.differences.append(Difference(kind="task", id=f"new {task['id']}", what="unexpected"))
                continue
            seen.add(original)
            found.differences += restore_check.task_differences(
                source[original], work.order, work.ids, task, unique
            )
        report(len(seen))
    found.differences += [
        Difference(kind="task", id=str(id), what="missing") for id in source if id not in seen
    ]
    views = again(work, lambda: work.target.views(work.project_id))
    found.counts["views"] = len(views)
    found.differences += restore_check.view_differences(work.source, views)
    _count_unique(work, found)
    return found


def _learn(work: Work, page: list[dict[str, Any]], source: Mapping[int, Any]) -> None:
    """The ids of what a page shows: a comparison alone has learned none before."""
    for task in page:
        original = original_of(task.get("meta"), work.order.id)
        if original is None or original not in source:
            continue
        work.ids.tasks.setdefault(original, int(task["id"]))
        for one in task.get("annotations") or []:
            if one.get("import_id") is not None:
                work.ids.annotations.setdefault(int(one["import_id"]), int(one["id"]))
        ids, _, _ = match_predictions(source[original].predictions, task.get("predictions") or [])
        work.ids.predictions.update(ids)


def _unique_ids(work: Work, page: list[dict[str, Any]]) -> dict[int, str]:
    """The page's annotations' `unique_id`s by new id: only an export shows them."""
    ids = [int(task["id"]) for task in page if task.get("annotations")]
    exported = again(work, lambda: work.target.exported(work.project_id, ids)) if ids else []
    return {
        int(one["id"]): str(one["unique_id"])
        for task in exported
        for one in task.get("annotations") or []
        if one.get("unique_id")
    }


def _count_unique(work: Work, found: Compared) -> None:
    for task in work.source.tasks:
        for one in task.annotations:
            now = found.unique.get(work.ids.annotations.get(int(one["id"]), -1))
            if now is None:
                continue
            if now == one.get("unique_id"):
                found.unique_ids["kept"] += 1
            else:
                found.unique_ids["derived" if now in unique_ids(one, work.order) else "new"] += 1
