"""The Label Studio that a project is restored into: what of it is there already, and calls that may be made again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bridge.edges.label_studio import LabelStudio
from bridge.errors import NotFound, OutsideError, Refused, Unavailable
from bridge.keys import project_uid
from bridge.records import parse_time
from bridge.restore import LeftOut, Order, Source
from bridge.restore_bodies import Ids, original_of
from bridge.settings import LabelStudioSettings
from workers import context

T = TypeVar("T")
MARKERS_PAGE = 1000
TASKS_PAGE = 250
TRIES = 4
BACK_OFF_S = 1.0


@dataclass(kw_only=True)
class Work:
    """One run: what it stands on and what it has found out. `beat` keeps the lock, and says how far we are."""

    here: context.Context
    target: LabelStudio
    order: Order
    source: Source
    beat: Callable[[], None]
    sleep: Callable[[float], None] = time.sleep
    project_id: int = 0
    uid: str = ""
    ids: Ids = field(default_factory=Ids)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, kind: str, id: object, reason: str, *, lost: bool = True) -> None:
        self.left_out.append(LeftOut(kind=kind, id=str(id), reason=reason, lost=lost))


def open_target(here: context.Context, order: Order) -> LabelStudio:
    """The Label Studio of our settings, or another with RESTORE_API_KEY."""
    ours = here.settings.label_studio
    if order.to == ours.url:
        return here.label_studio
    if here.settings.restore_api_key is None:
        raise Refused(
            f"there is no token for {order.to}; that of {ours.url} is not sent anywhere else",
            hint="put a token of its own into the workers' RESTORE_API_KEY",
        )
    return LabelStudio(LabelStudioSettings(url=order.to, api_key=here.settings.restore_api_key))


def answered(error: Exception, status: int) -> bool:
    """Whether Label Studio itself answered with this status (bridge/edges/label_studio.py, `_ours`)."""
    return isinstance(error, OutsideError) and f": {status} " in str(error)


def again(work: Work, call: Callable[[], T]) -> T:
    """For calls that may be repeated: a few more tries where waiting helps. A 500 is SQLite being locked, as a rule.

    Raises what the last try raised; Unavailable for a 500."""
    for number in range(TRIES):
        try:
            return call()
        except OutsideError as error:
            if not error.retryable and not answered(error, 500):
                raise
            if number == TRIES - 1:
                raise error if error.retryable else Unavailable(str(error)) from error
        work.sleep(BACK_OFF_S * 2**number)
    raise AssertionError("unreachable")


def unclear(error: OutsideError) -> bool:
    """Whether what was asked may have been done all the same."""
    return error.retryable or not any(answered(error, status) for status in (400, 401, 403, 404, 409, 413))


@dataclass(kw_only=True)
class Present:
    """The tasks of the restored project: recorded id -> ids, the lowest first; and the highest inner_id of all."""

    tasks: dict[int, list[int]] = field(default_factory=dict)
    inner_id: int = 0
    others: int = 0  # tasks that did not come from this restore

    @property
    def ids(self) -> dict[int, int]:
        return {original: found[0] for original, found in self.tasks.items()}

    @property
    def doubles(self) -> list[int]:
        return [id for found in self.tasks.values() for id in found[1:]]


def present(work: Work) -> Present:
    """Which tasks are there already, by the meta that they were sent with."""
    found = Present()
    after = 0
    while page := again(work, lambda after=after: _markers(work.target, work.project_id, after)):  # type: ignore[misc]
        for task in page:
            original = original_of(task.get("meta"), work.order.id)
            if original is None:
                found.others += 1
            else:
                found.tasks.setdefault(original, []).append(int(task["id"]))
            found.inner_id = max(found.inner_id, int(task.get("inner_id") or 0))
        after = int(page[-1]["id"])
        work.beat()
    return found


def _markers(target: LabelStudio, project_id: int, after: int) -> list[dict[str, Any]]:
    query = {
        "filters": {
            "conjunction": "and",
            "items": [{"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after}],
        },
        "ordering": ["tasks:id"],
    }
    try:
        answer = target.get(
            "/api/tasks",
            project=project_id,
            include="id,inner_id,meta",
            page=1,
            page_size=MARKERS_PAGE,
            query=json.dumps(query),
        )
    except NotFound as error:
        if "Invalid page" in str(error):
            return []
        raise
    return list(answer["tasks"])


def pages(work: Work) -> Iterator[list[dict[str, Any]]]:
    """The restored project's tasks whole, page after page."""
    after = 0
    while page := again(
        work,
        lambda after=after: work.target.tasks_after(work.project_id, after, page_size=TASKS_PAGE),  # type: ignore[misc]
    ):
        yield page
        after = int(page[-1]["id"])
        work.beat()


def find_project(target: LabelStudio, order: Order, noted: str | None) -> dict[str, Any] | None:
    """The project that an earlier run of this restore made: by the note in the bucket, by the mark in the description
    of one that is not whole yet, or by the meta of its first task."""
    listed = list(_projects(target))
    for project in listed:
        if noted is not None and uid_of(project) == noted:
            return project
    for project in listed:
        if order.marker in (project.get("description") or ""):
            return project
    for project in listed:
        if project.get("title") == order.title:
            first = _markers(target, int(project["id"]), 0)[:1]
            if first and original_of(first[0].get("meta"), order.id) is not None:
                return project
    return None


def _projects(target: LabelStudio) -> Iterator[dict[str, Any]]:
    page = 1
    while True:
        answer = target.get(
            "/api/projects", page=page, page_size=200, include="id,title,created_at,description"
        )
        yield from answer["results"]
        if not answer.get("next"):
            return
        page += 1


def uid_of(project: Mapping[str, Any]) -> str:
    """Label Studio's uid of a project. Raises Refused where it has no created_at."""
    created_at = parse_time(project.get("created_at"))
    if created_at is None:
        raise Refused(f"Label Studio's project {project.get('id')} has no created_at")
    return project_uid(int(project["id"]), created_at)
