"""Annotations, drafts and views of a restored project. An annotation is sent under a `unique_id` that it keeps, so it can
be sent again: the second is answered 409, and then it is looked up whether the first is in *this* project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import NotFound, OutsideError, Refused
from bridge.keys import project_id_of
from bridge.restore import TaskSource
from bridge.restore_bodies import annotation_body, links, several_truths, unique_ids
from bridge.restore_check import missing_views, view_body
from workers.progress import Reporter
from workers.restore_target import Work, again, answered, uid_of

# More gain nothing: Label Studio's database is written by one at a time (docs/restore.md has the figures).
SIDE_BY_SIDE = 4


@dataclass(kw_only=True)
class Found:
    """What a page-by-page reading of the restored project showed, by new task id: `annotations` as import_id -> the
    annotation without its result, `predictions` whole, `drafts` as import_ids."""

    annotations: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)
    predictions: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    drafts: dict[int, set[int]] = field(default_factory=dict)

    def add(self, task: Mapping[str, Any]) -> None:
        id = int(task["id"])
        for one in task.get("annotations") or []:
            if one.get("import_id") is not None:
                light = {name: value for name, value in one.items() if name != "result"}
                self.annotations.setdefault(id, {})[int(one["import_id"])] = light
        self.predictions[id] = list(task.get("predictions") or [])
        self.drafts[id] = {int(one["import_id"]) for one in task.get("drafts") or [] if one.get("import_id")}


def send_annotations(work: Work, found: Found) -> None:
    """Send the annotations that are not there yet, several at a time."""
    for task in work.source.tasks:
        there = found.annotations.get(work.ids.tasks.get(task.id, -1), {})
        work.ids.annotations.update({id: int(one["id"]) for id, one in there.items()})
    todo = [
        (task, one)
        for task in work.source.tasks
        if task.id in work.ids.tasks
        for one in task.annotations
        if int(one["id"]) not in work.ids.annotations
    ]
    total = work.source.counts["annotations"]
    report = Reporter("annotations", total=total, now=work.here.now, done_at_start=total - len(todo))
    taken = _taken(work, todo)
    _rename(work, found)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        running: dict[Future[int | None], int] = {}
        waiting = iter(todo)
        try:
            while True:
                for task, one in waiting:
                    future = pool.submit(_annotate, work, task, dict(one), taken)
                    running[future] = int(one["id"])
                    if len(running) >= 2 * SIDE_BY_SIDE:
                        break
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    new = future.result()
                    old = running.pop(future)
                    if new is not None:
                        work.ids.annotations[old] = new
                report(len(work.ids.annotations))
                work.beat()
        except BaseException:
            for future in running:
                future.cancel()
            raise
    _link(work, found)


def _rename(work: Work, found: Found) -> None:
    """Give the annotations that came with their task, for the sake of their ground truth, the `unique_id` they had."""
    if work.order.bulk:
        return
    for task in work.source.tasks:
        if not several_truths(task):
            continue
        there = found.annotations.get(work.ids.tasks.get(task.id, -1), {})
        for one in task.annotations:
            sent = there.get(int(one["id"]))
            for unique_id in unique_ids(one, work.order) if sent is not None else ():
                try:
                    work.target.patch(f"/api/annotations/{(sent or {})['id']}/", {"unique_id": unique_id})
                    break
                except Refused as error:
                    if not answered(error, 500):  # so Label Studio answers where it is taken
                        raise
        work.beat()


def _taken(work: Work, todo: Sequence[tuple[TaskSource, Mapping[str, Any]]]) -> set[str]:
    """The `unique_id`s that the original project holds, if it is in the target too: no need to be told so one by one."""
    if not todo:
        return set()
    id = project_id_of(work.order.uid)
    try:
        project = again(work, lambda: work.target.project(id))
    except NotFound:
        return set()
    if uid_of(project) != work.order.uid:
        return set()
    ids = list(dict.fromkeys(task.id for task, _ in todo))
    found: set[str] = set()
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        for task in again(work, lambda some=some: work.target.exported(id, some)):  # type: ignore[misc]
            found |= {str(one.get("unique_id")) for one in task.get("annotations") or []}
        work.beat()
    return found


def _annotate(work: Work, task: TaskSource, annotation: Mapping[str, Any], taken: set[str]) -> int | None:
    """Send one, and return its new id; None where Label Studio refuses it. Called in a thread."""
    new_task, old = work.ids.tasks[task.id], int(annotation["id"])
    body = annotation_body(annotation, work.ids)
    for unique_id in unique_ids(annotation, work.order):
        if unique_id in taken:
            continue
        try:
            answer = again(
                work,
                lambda unique_id=unique_id: work.target.post(  # type: ignore[misc]
                    f"/api/tasks/{new_task}/annotations", body | {"unique_id": unique_id}
                ),
            )
            return int(answer["id"])
        except Refused as error:
            if answered(error, 400):
                work.leave_out("annotation", old, str(error))
                return None
            if not answered(error, 409):
                raise
        there = _in_task(work, new_task, old)
        if there is not None:
            return there
    work.leave_out("annotation", old, "every unique_id that it could have is taken by another annotation")
    return None


def _in_task(work: Work, task_id: int, old: int) -> int | None:
    """The annotation that was sent for `old`, if it is in this task."""
    task = again(work, lambda: work.target.get(f"/api/tasks/{task_id}/"))
    same = [one["id"] for one in task.get("annotations") or [] if one.get("import_id") == old]
    return int(same[0]) if same else None


def _link(work: Work, found: Found) -> None:
    """Name the parents that were not there yet when an annotation was sent."""
    for task in work.source.tasks:
        there = found.annotations.get(work.ids.tasks.get(task.id, -1), {})
        for one in task.annotations:
            id = work.ids.annotations.get(int(one["id"]))
            wanted = links(one, work.ids)
            if id is None or not wanted:
                continue
            before = there.get(int(one["id"]))
            # Sent in this run with its prediction named, and no parent annotation: nothing to add.
            if before is None and "parent_annotation" not in wanted and not work.order.bulk:
                continue
            if before is not None and all(before.get(name) == value for name, value in wanted.items()):
                continue
            again(work, lambda id=id, wanted=wanted: work.target.patch(f"/api/annotations/{id}/", wanted))  # type: ignore[misc]
            work.beat()


def drafts(work: Work, found: Found) -> None:
    """Send our own drafts. Label Studio makes whoever sends a draft its author, so others' cannot come back."""
    if not any(task.drafts for task in work.source.tasks):
        return
    us = str(again(work, lambda: work.target.get("/api/current-user/whoami"))["email"]).casefold()
    for task in work.source.tasks:
        new_task = work.ids.tasks.get(task.id)
        for draft in task.drafts if new_task is not None else ():
            if _email(work, draft.get("user")).casefold() != us:
                work.leave_out(
                    "draft",
                    draft["id"],
                    "another person's draft: Label Studio would make it ours",
                    lost=False,
                )
                continue
            if int(draft["id"]) in found.drafts.get(int(new_task or 0), set()):
                continue
            parent = draft.get("annotation")
            where = (
                f"/annotations/{work.ids.annotations.get(parent)}" if parent in work.ids.annotations else ""
            )
            body = {name: draft.get(name) for name in ("result", "lead_time", "was_postponed")}
            try:
                work.target.post(f"/api/tasks/{new_task}{where}/drafts", body | {"import_id": draft["id"]})
            except OutsideError as error:
                if not answered(error, 400):
                    raise
                work.leave_out("draft", draft["id"], str(error))
            work.beat()


def _email(work: Work, user: Any) -> str:
    """A draft's author as /api/tasks (an e-mail address) or a model (an id) names him."""
    text = str(user or "")
    if "@" in text:
        return work.order.users.get(text.casefold(), text)
    recorded = work.source.users.get(int(text), {}) if text.isdecimal() else {}
    email = str(recorded.get("email") or "")
    return work.order.users.get(text, work.order.users.get(email.casefold(), email))


def views(work: Work) -> None:
    """Make the tabs of the data manager that are not there yet."""
    there = again(work, lambda: work.target.views(work.project_id))
    for view in missing_views(work.source.views, there):
        try:
            work.target.post("/api/dm/views/", view_body(view, work.project_id))
        except OutsideError as error:
            if not answered(error, 400):
                raise
            work.leave_out("view", view["id"], str(error))
        work.beat()


def pairs(work: Work) -> Iterator[tuple[TaskSource, int]]:
    """Each task that is there again, with its new id."""
    for task in work.source.tasks:
        if task.id in work.ids.tasks:
            yield task, work.ids.tasks[task.id]
