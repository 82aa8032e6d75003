"""Small stand-ins that several tests share: records made by hand, a clock, and a Label Studio fed with recorded answers."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.edges.label_studio import Downloaded
from bridge.errors import NotFound, TooLarge
from bridge.records import Op, Record, Source, format_time
from tests.conftest import sample

GONE = -1  # the id of a project that is not there any more
START = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """A moment, in seconds after the start of every story told in these tests."""
    return START + timedelta(seconds=seconds)


class Clock:
    """Our clock: goes on by a millisecond with each look, and further when told."""

    def __init__(self, now: datetime | None = None) -> None:
        self.time = now or datetime.now(UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def record(
    kind: str = "annotation",
    id: str = "1",
    *,
    op: Op = "put",
    born: float | None = 0,
    version: float | None = None,
    received: float = 10,
    observed: float | None = None,
    source: Source | None = None,
    event_id: str = "",
    **data: Any,
) -> Record:
    """A record with times in seconds of the story. A put's version is its time of birth unless given."""
    if op == "put":
        data = {"id": int(id), **data}
        version = version if version is not None else born
    return Record(
        kind=kind,
        op=op,
        id=id,
        created_at=None if born is None else at(born),
        version=None if version is None else at(version),
        event_id=event_id or f"{kind}-{id}-{op}-{received}",
        received_at=at(received),
        observed_at=None if observed is None else at(observed),
        source=source or ("webhook" if observed is None else "baseline"),
        event="TEST",
        data=data,
    )


def gone(
    kind: str = "annotation", id: str = "1", *, received: float, born: float | None = None, **more: Any
) -> Record:
    """A delete: by webhook, which names no incarnation, unless `born` is given."""
    return record(kind, id, op="delete", born=born, received=received, **more)


class FakeLabelStudio:
    """What our edge of Label Studio answers, from answers recorded with 1.23.2 (tests/samples/api_*.json).

    `fail` maps a method's name to errors raised by its next calls; `asked` holds the names of the methods called."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {
            name: sample(f"api_{name}")
            for name in (
                "project",
                "users",
                "storages",
                "webhooks",
                "ml_backends",
                "views",
                "tasks",
                "export",
            )
        }
        self.files: dict[str, bytes] = {"/data/upload/4/cea5609f-%C3%89toile_1.PNG": b"a drawn star"}
        self.fail: dict[str, list[Exception]] = {}
        self.asked: list[str] = []
        self.changed: list[tuple[str, str]] = []  # method and path of every request that changes something
        self.elsewhere: list[dict[str, Any]] = []  # other projects in the same Label Studio
        self.now: datetime | None = None

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The tasks, to be changed by a test; the export follows for annotations."""
        found: list[dict[str, Any]] = self.answer["tasks"]["tasks"]
        return found

    def _called(self, name: str) -> None:
        self.asked.append(name)
        if self.fail.get(name):
            raise self.fail[name].pop(0)

    def _listed(self, name: str) -> Any:
        self._called(name)
        return copy.deepcopy(self.answer[name])

    def project(self, project_id: int) -> dict[str, Any]:
        found: dict[str, Any] = self._listed("project")
        for other in self.elsewhere:
            if other["id"] == project_id and found["id"] != GONE:
                return copy.deepcopy(other)
        if found["id"] != project_id:
            raise NotFound("No Project matches the given query.")
        return found

    @property
    def requests(self) -> int:
        return len(self.asked)

    def projects(self) -> Iterator[dict[str, Any]]:
        self._called("projects")
        there = self.answer["project"]
        yield from copy.deepcopy([*([there] if there["id"] != GONE else []), *self.elsewhere])

    def _lines(self, name: str, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        self._called(name)
        fields = ("id", "created_at", "updated_at")
        return [
            {field: task[field] for field in fields}
            | {
                "total_annotations": sum(not a["was_cancelled"] for a in task["annotations"]),
                "cancelled_annotations": sum(a["was_cancelled"] for a in task["annotations"]),
                "total_predictions": len(task["predictions"]),
            }
            for task in sorted(self.tasks, key=lambda task: task["id"])
            if wanted(task)
        ]

    def task_counts_after(self, project_id: int, after_id: int, *, page_size: int) -> list[dict[str, Any]]:
        return self._lines("task_counts_after", lambda task: task["id"] > after_id)[:page_size]

    def tasks_updated_since(
        self, project_id: int, since: datetime, after_id: int, *, page_size: int
    ) -> list[dict[str, Any]]:
        def wanted(task: dict[str, Any]) -> bool:
            return task["id"] > after_id and datetime.fromisoformat(task["updated_at"]) > since

        return self._lines("tasks_updated_since", wanted)[:page_size]

    def tasks_by_id(self, project_id: int, ids: list[int]) -> list[dict[str, Any]]:
        self._called("tasks_by_id")
        return copy.deepcopy([task for task in self.tasks if task["id"] in ids])

    def get(self, path: str) -> dict[str, Any]:
        """One thing by its own address. Raises NotFound."""
        self._called(f"GET {path}")
        kind, id = path.strip("/").removeprefix("api/").rsplit("/", 1)
        things: dict[str, list[dict[str, Any]]] = {
            "tasks": self.tasks,
            "annotations": [
                a | {"project": task["project"]} for task in self.tasks for a in task["annotations"]
            ],
            "predictions": [one for task in self.tasks for one in task["predictions"]],
            "drafts": [one for task in self.answer["export"] for one in task["drafts"]],
            "users": self.answer["users"],
            "webhooks": self.answer["webhooks"],
            "dm/views": self.answer["views"],
        }
        for item in things.get(kind, []):
            if str(item["id"]) == id:
                return copy.deepcopy(item)
        raise NotFound(f"GET {path}: No such thing matches the given query.")

    def request(self, method: str, path: str, *, json: Any = None) -> None:
        """Only what reconcile does to webhooks."""
        self._called(f"{method} {path}")
        self.changed.append((method, path))
        hooks = self.answer["webhooks"]
        if method == "POST":
            hooks.append(json | {"id": max((hook["id"] for hook in hooks), default=0) + 1})
        else:
            next(hook for hook in hooks if f"/{hook['id']}/" in path).update(json)

    def users(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._listed("users")
        return found

    def webhooks(self, project_id: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._listed("webhooks")
        return found

    def ml_backends(self, project_id: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._listed("ml_backends")
        return found

    def views(self, project_id: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._listed("views")
        return found

    def storages(self, project_id: int) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
        answer = self._listed("storages")
        for direction in ("import", "export"):
            yield direction, "s3", answer[direction]
            yield direction, "localfiles", []

    def tasks_after(self, project_id: int, after_id: int, *, page_size: int) -> list[dict[str, Any]]:
        self._called("tasks_after")
        later = sorted((task for task in self.tasks if task["id"] > after_id), key=lambda task: task["id"])
        return copy.deepcopy(later[:page_size])

    def exported(self, project_id: int, task_ids: list[int]) -> list[dict[str, Any]]:
        self._called("exported")
        return copy.deepcopy([task for task in self.answer["export"] if task["id"] in task_ids])

    def download(self, path: str, target: Path, *, max_bytes: int) -> Downloaded:
        self._called("download")
        if path not in self.files:
            raise NotFound(f"GET {path}: Label Studio has no such file")
        body = self.files[path]
        if len(body) > max_bytes:
            raise TooLarge(f"GET {path}: the file has more than {max_bytes} bytes")
        target.write_bytes(body)
        return Downloaded(
            sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body), content_type="image/png"
        )

    # --- what people do in it meanwhile

    def annotation(self, id: int) -> dict[str, Any]:
        """An annotation, to be changed by a test."""
        return next(a for task in self.tasks for a in task["annotations"] if a["id"] == id)

    def add_tasks(self, count: int) -> None:
        """More tasks without annotations, with ids after the last."""
        last = max(task["id"] for task in self.tasks)
        for id in range(last + 1, last + count + 1):
            new = copy.deepcopy(self.tasks[0]) | {"id": id, "data": {"image": f"s3://pictures/{id}.png"}}
            self.tasks.append(new)
        self.answer["project"]["task_number"] = len(self.tasks)


def seconds_text(seconds: float) -> str:
    """A moment of the story as Label Studio writes it."""
    return format_time(at(seconds))
