"""A Label Studio to restore into, in memory: what its API does with the calls of a restore, tried on 1.23.2.

Every call can be made to fail: before it does anything, or after it has done it (the answer is lost)."""

from __future__ import annotations

import copy
import json
import threading
from pathlib import Path
from typing import Any

from bridge.errors import NotFound, Refused, Unavailable

Json = dict[str, Any]


class Killed(BaseException):
    """As SIGKILL ends a process."""


class FakeTarget:
    """`fail_at` is the number of the call (from 1) that ends in `error`; with `afterwards` it is done first."""

    def __init__(self) -> None:
        self.projects_by_id: dict[int, Json] = {}
        self.tasks: dict[int, Json] = {}
        self.annotations: dict[int, Json] = {}
        self.predictions: dict[int, Json] = {}
        self.drafts: dict[int, Json] = {}
        self.files: list[Json] = []
        self.views_made: list[Json] = []
        self.hooks: list[Json] = []
        self.storages: list[Json] = []
        self.people: list[Json] = [{"id": 1, "email": "us@example.com"}]
        self.unique: set[str] = set()
        self.refused_labels: set[str] = (
            set()
        )  # predictions with this from_name are dropped by the bulk import
        self.calls = 0
        self.fail_at = 0
        self.afterwards = False
        self.error: BaseException = Killed()
        self._ids = 100
        self._lock = threading.Lock()

    def _id(self) -> int:
        self._ids += 1
        return self._ids

    def _call(self, method: str, path: str, body: Any = None, params: Json | None = None) -> Any:
        with self._lock:  # annotations come from several threads
            self.calls += 1
            now = self.calls == self.fail_at
            if now and not self.afterwards:
                raise self.error
            answer = copy.deepcopy(self._answer(method, path.strip("/").split("/")[1:], body, params or {}))
            if now:
                raise self.error
            return answer

    # --- what the job calls

    def get(self, path: str, **params: Any) -> Any:
        return self._call("GET", path, params=params)

    def post(self, path: str, body: Any, *, timeout_s: float | None = None, **params: Any) -> Any:
        return self._call("POST", path, copy.deepcopy(body), params)

    def patch(self, path: str, body: Any) -> Any:
        return self._call("PATCH", path, copy.deepcopy(body))

    def delete(self, path: str) -> None:
        self._call("DELETE", path)

    def request(self, method: str, path: str, *, json: Any = None) -> None:
        self._call(method, path, json)

    def project(self, project_id: int) -> Json:
        found: Json = self.get(f"/api/projects/{project_id}/")
        return found

    def projects(self) -> list[Json]:
        return list(self.projects_by_id.values())

    def users(self) -> list[Json]:
        found: list[Json] = self.get("/api/users/")
        return found

    def views(self, project_id: int) -> list[Json]:
        found: list[Json] = self.get("/api/dm/views/", project=project_id)
        return found

    def uploads(self, project_id: int) -> list[Json]:
        found: list[Json] = self.get(f"/api/projects/{project_id}/file-uploads")
        return found

    def upload(self, project_id: int, files: dict[str, Path]) -> None:
        sent = {name: path.read_bytes() for name, path in files.items()}
        self._call("POST", f"/api/projects/{project_id}/upload", sent)

    def tasks_after(self, project_id: int, after_id: int, *, page_size: int) -> list[Json]:
        found: list[Json] = self._call(
            "GET", "/api/tasks", params={"project": project_id, "after": after_id, "page_size": page_size}
        )["tasks"]
        return found

    def exported(self, project_id: int, task_ids: list[int]) -> list[Json]:
        found: list[Json] = self._call("GET", f"/api/projects/{project_id}/export", params={"ids": task_ids})
        return found

    # --- what it does

    def _answer(self, method: str, path: list[str], body: Any, params: Json) -> Any:
        match [method, *path]:
            case ["GET", "projects"]:
                return {"results": list(self.projects_by_id.values()), "next": None}
            case ["POST", "projects"]:
                id = self._id()
                made = {"model_version": "", **body, "id": id, "created_at": "2026-11-22T07:00:00.000000Z"}
                self.projects_by_id[id] = made
                return made
            case ["GET", "projects", id]:
                return self._found(self.projects_by_id, id)
            case ["PATCH", "projects", id]:
                self._found(self.projects_by_id, id).update(body)
                return self.projects_by_id[int(id)]
            case ["GET", "users"]:
                return self.people
            case ["POST", "users"]:
                if any(user["email"] == body["email"] for user in self.people):
                    raise Refused("POST /api/users/: 400 user with this email address already exists.")
                self.people.append({**body, "id": self._id()})
                return self.people[-1]
            case ["GET", "current-user", "whoami"]:
                return self.people[0]
            case ["GET", "projects", id, "file-uploads"]:
                return [file for file in self.files if file["project"] == int(id)]
            case ["POST", "projects", id, "upload"]:
                for name, content in body.items():
                    file = f"upload/{id}/{self._id():08x}-{name}"
                    self.files.append(
                        {"project": int(id), "file": file, "size": len(content), "bytes": content}
                    )
                return {}
            case ["GET", "projects", id, "export"]:
                return [self._whole(self.tasks[task], unique=True) for task in params["ids"]]
            case ["GET", "tasks"]:
                return {"tasks": self._page(params)}
            case ["POST", "projects", id, "import"]:
                return {"task_ids": [self._import(int(id), task) for task in body]}
            case ["POST", "tasks"]:
                return self._task(body["project"], body)
            case ["GET", "tasks", id]:
                return self._whole(self._found(self.tasks, id))
            case ["PATCH", "tasks", id]:
                self._found(self.tasks, id).update(body)
                return self.tasks[int(id)]
            case ["DELETE", "tasks", id]:
                self._found(self.tasks, id)
                del self.tasks[int(id)]
                return None
            case ["POST", "tasks", id, "annotations"]:
                return self._annotate(int(id), body)
            case ["PATCH", "annotations", id]:
                self._found(self.annotations, id).update(body)
                return self.annotations[int(id)]
            case ["POST", "tasks", id, *_, "drafts"]:
                self.drafts[self._id()] = {**body, "task": int(id), "user": self.people[0]["email"]}
                return {}
            case ["POST", "projects", id, "import", "predictions"]:
                fits = [one for one in body if not self._dropped(one)]
                for one in fits:
                    self._predict(one)
                return {"created": len(fits)}
            case ["POST", "predictions"]:
                return self._predict(body)
            case ["GET", "predictions"]:
                mine = {task["id"] for task in self.tasks.values() if task["project"] == params["project"]}
                return [one for one in self.predictions.values() if one["task"] in mine]
            case ["GET", "webhooks"]:
                return [hook for hook in self.hooks if hook["project"] == params["project"]]
            case ["POST", "webhooks"]:
                self.hooks.append({**body, "id": self._id()})
                return self.hooks[-1]
            case ["GET", "ml"] | ["GET", "storages", *_]:
                return []
            case ["POST", "storages", *where]:
                self.storages.append({**body, "where": "/".join(where)})
                return {}
            case ["GET", "dm", "views"]:
                return [view for view in self.views_made if view["project"] == params["project"]]
            case ["POST", "dm", "views"]:
                self.views_made.append({**body, "id": self._id(), "user": 1})
                return self.views_made[-1]
        raise AssertionError(f"no such call: {method} {path}")

    def _found(self, where: dict[int, Json], id: str) -> Json:
        if int(id) not in where:
            raise NotFound(f"/api/{id}: 404 not found")
        return where[int(id)]

    def _page(self, params: Json) -> list[Json]:
        after = params.get("after")
        if after is None:
            after = json.loads(params["query"])["filters"]["items"][0]["value"]
        mine = [
            task
            for id, task in sorted(self.tasks.items())
            if id > after and task["project"] == params["project"]
        ]
        return [self._whole(task) for task in mine[: params["page_size"]]]

    def _whole(self, task: Json, *, unique: bool = False) -> Json:
        hidden = () if unique else ("unique_id",)
        annotations = [
            {name: value for name, value in one.items() if name not in hidden}
            for one in self.annotations.values()
            if one["task"] == task["id"]
        ]
        others = {
            name: [one for one in where.values() if one["task"] == task["id"]]
            for name, where in (("predictions", self.predictions), ("drafts", self.drafts))
        }
        return {**task, "annotations": annotations, **others}

    def _task(self, project: int, body: Json) -> Json:
        if body["data"].get("refused"):
            raise Refused("POST import: 400 this data does not fit")
        inner = max(
            (task["inner_id"] for task in self.tasks.values() if task["project"] == project), default=0
        )
        id = self._id()
        kept = {name: body.get(name) for name in ("data", "meta")}
        self.tasks[id] = {"id": id, "project": project, "inner_id": body.get("inner_id") or inner + 1, **kept}
        return self.tasks[id]

    def _import(self, project: int, body: Json) -> int:
        id = int(self._task(project, body)["id"])
        for one in body.get("annotations", []):
            made = self._annotation(id, {**one, "import_id": one["id"], "unique_id": f"made-{self._id()}"})
            made["parent_prediction"] = made["parent_annotation"] = None
        return id

    def _annotate(self, task: int, body: Json) -> Json:
        self._found(self.tasks, str(task))
        if body["unique_id"] in self.unique:
            raise Refused("POST annotations: 409 Annotation with this unique id already exists")
        if body["ground_truth"]:
            for one in self.annotations.values():
                if one["task"] == task:
                    one["ground_truth"] = False
        return self._annotation(task, body)

    def _annotation(self, task: int, body: Json) -> Json:
        id = self._id()
        self.unique.add(body["unique_id"])
        self.annotations[id] = {
            "parent_prediction": None,
            "parent_annotation": None,
            **body,
            "id": id,
            "task": task,
        }
        return self.annotations[id]

    def _dropped(self, prediction: Json) -> bool:
        return any(region.get("from_name") in self.refused_labels for region in prediction["result"])

    def _predict(self, body: Json) -> Json:
        id = self._id()
        self.predictions[id] = {**body, "id": id}
        return self.predictions[id]

    # --- what a test looks at

    def everything(self, project_id: int) -> list[Any]:
        """The project as a person sees it, without ids."""
        found = []
        for task in sorted(self.tasks.values(), key=lambda task: int(task["id"])):
            if task["project"] != project_id:
                continue
            whole = self._whole(task, unique=True)
            inner = [
                sorted(
                    json.dumps({k: v for k, v in one.items() if k not in _IDS}, sort_keys=True)
                    for one in whole[kind]
                )
                for kind in ("annotations", "predictions", "drafts")
            ]
            found.append((task["inner_id"], json.dumps(task["meta"], sort_keys=True), inner))
        return found


_IDS = ("id", "task", "parent_prediction", "parent_annotation", "project")


def unclear() -> Unavailable:
    return Unavailable("no answer from Label Studio")
