"""What the tests of pre-labelling share: a Label Studio that holds tasks and predictions, and an ML backend over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.managers import BaseManager
from typing import Any

from rq import SimpleWorker
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges.queue import open_queue
from bridge.errors import NotFound, Refused
from bridge.settings import WorkersSettings
from workers import context, prelabel

CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="circle"/></RectangleLabels></View>'
)
BORN = "2026-11-22T06:00:00.000000Z"
UID = "7.1795327200"


def region(name: str = "label") -> dict[str, Any]:
    value = {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": 0, "rectanglelabels": ["circle"]}
    size = {"original_width": 10, "original_height": 10, "image_rotation": 0}
    return {
        "id": "r1",
        "from_name": name,
        "to_name": "image",
        "type": "rectanglelabels",
        "value": value,
        **size,
    }


class Studio:
    """As much of Label Studio 1.23.2 as pre-labelling asks for, with its habits: an import is all or nothing where a task
    is gone, and drops silently what `drops` says.

    `fail` holds errors raised by the next imports; with `after_write` they come when the predictions are made; `refuses`
    says of an import why it is refused. `page_max` is its TASK_API_PAGE_SIZE_MAX."""

    def __init__(self, count: int) -> None:
        self.tasks = {
            id: {"id": id, "data": {"image": f"s3://b/{id}.png"}, "total_annotations": 0}
            for id in range(1, count + 1)
        }
        self.predictions: list[dict[str, Any]] = []
        self.imports: list[int] = []
        self.drops: Callable[[dict[str, Any]], bool] = lambda row: False
        self.fail: list[Exception] = []
        self.after_write = False
        self.refuses: Callable[[list[dict[str, Any]]], str] = lambda rows: ""
        self.page_max = 1_000_000
        self.shows, self.chosen = True, "ours"
        self.backend_version = "shapes.t0.3,0.5.m1"
        self.before_import: Callable[[], None] = lambda: None
        self.views: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def project(self, project_id: int) -> dict[str, Any]:
        shown = {"show_collab_predictions": self.shows, "model_version": self.chosen}
        return {"id": project_id, "created_at": BORN, "label_config": CONFIG} | shown

    def ml_backends(self, project_id: int) -> list[dict[str, Any]]:
        return [{"id": 1, "title": "ours", "model_version": self.backend_version}]

    def get(self, path: str, **params: Any) -> Any:
        if path == f"/api/projects/{UID.partition('.')[0]}":
            return {"id": 7, "title": "birds", "created_at": BORN}
        if path.startswith("/api/dm/views/"):
            id = int(path.split("/")[4])
            if id not in self.views:
                raise NotFound(f"GET {path}: no such tab")
            return self.views[id]
        assert path == "/api/tasks", path
        query = json.loads(params["query"])
        with self._lock:
            fitting = [task for task in self.tasks.values() if self._fits(task, query["filters"]["items"])]
        most = min(params["page_size"], self.page_max)
        found = sorted(fitting, key=lambda task: task["id"])[:most]
        if not found:
            raise NotFound("GET /api/tasks: Invalid page.")
        columns = params["include"].split(",")
        rows = [{name: value for name, value in task.items() if name in columns} for task in found]
        if "predictions_model_versions" in columns:
            for row in rows:
                parts = set(",".join(self.versions_of(row["id"])).split(","))
                row["predictions_model_versions"] = ",".join(sorted(parts))[:500]
        return {"tasks": rows, "total": len(fitting)}

    def _fits(self, task: dict[str, Any], conditions: Sequence[dict[str, Any]]) -> bool:
        for one in conditions:
            name, operator, value = one["filter"].rpartition(":")[2], one["operator"], one["value"]
            if name == "predictions_model_versions":
                assert (operator, value) == ("empty", False)
                if not self.versions_of(task["id"]):
                    return False
                continue
            mine = len(self.versions_of(task["id"])) if name == "total_predictions" else task[name]
            if operator == "in_list" and mine not in value:
                return False
            if operator == "greater" and not mine > value:
                return False
            if operator == "equal" and mine != value:
                return False
        return True

    def versions_of(self, task_id: int) -> list[str]:
        return [one["model_version"] for one in self.predictions if one["task"] == task_id]

    def post(self, path: str, body: Any, *, timeout_s: float | None = None, **params: Any) -> Any:
        assert path == "/api/projects/7/import/predictions"
        self.before_import()
        if self.fail and not self.after_write:
            raise self.fail.pop(0)
        with self._lock:
            if why := self.refuses(body):
                raise Refused(f"POST {path}: {why}")
            self.imports.append(len(body))
            if any(row["task"] not in self.tasks for row in body):
                raise Refused(f"POST {path}: 400 invalid task")
            made = [row for row in body if not self.drops(row)]
            for row in made:
                self.predictions.append({"id": len(self.predictions) + 1, **row})
        if self.fail:
            raise self.fail.pop(0)
        return {"created": len(made)}

    def tasks_by_id(self, project_id: int, ids: list[int]) -> list[dict[str, Any]]:
        return [
            {**self.tasks[id], "predictions": [p for p in self.predictions if p["task"] == id]}
            for id in ids
            if id in self.tasks
        ]

    def delete(self, path: str) -> None:
        id = int(path.split("/")[3])
        if id not in [one["id"] for one in self.predictions]:
            raise NotFound(path)
        self.predictions = [one for one in self.predictions if one["id"] != id]

    def made(self) -> list[tuple[int, str]]:
        """Task and version of every prediction."""
        return [(one["task"], one["model_version"]) for one in self.predictions]

    def add_prediction(self, task_id: int, version: str) -> None:
        row = {"id": len(self.predictions) + 1, "task": task_id, "result": [], "model_version": version}
        self.predictions.append(row)


class Backend:
    """What a fake ML backend does; `answers` holds what the next requests to /predict get instead of predictions."""

    def __init__(self) -> None:
        self.version = "shapes.t0.3,0.5.m1"
        self.asked: list[list[int]] = []
        self.params: list[dict[str, Any]] = []
        self.listed: list[str] = ["shapes.t0.3,0.5.m1"]
        self.possible: list[str] | None = None
        self.warnings: list[str] = []
        self.setup_status = 200
        self.item: Callable[[dict[str, Any]], Any] = lambda task: {
            "result": [region()],
            "score": 0.5,
            "model_version": self.version,
        }
        self.hangs: Callable[[list[int]], bool] = lambda ids: False
        self.statuses: list[int] = []
        self.drop_results = 0
        self.release = threading.Event()
        self.password: str | None = None
        self.url = ""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/setup":
            if self.setup_status != 200:
                return self.setup_status, {"error": "the labeling config is no XML"}
            return 200, {"model_version": self.version, "warnings": self.warnings}
        if path == f"/versions?project={UID}":
            beside = {} if self.possible is None else {"possible": self.possible}
            return 200, {"versions": self.listed} | beside
        assert path == "/predict"
        ids = [task["id"] for task in body["tasks"]]
        self.asked.append(ids)
        self.params.append(body["params"])
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            return status, {"error": "busy" if status == 503 else "broken"}
        if self.hangs(ids):
            self.release.wait(10)
        items = [self.item(task) for task in body["tasks"]]
        if self.drop_results and len(items) > self.drop_results:
            items = items[: self.drop_results]
        return 200, {"results": items}


@contextmanager
def serving(backend: Backend) -> Iterator[str]:
    """The backend's address for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, answer = backend.answer(self.command, self.path, body)
            if backend.password and self.headers.get("Authorization") != backend.password:
                status, answer = 401, {"error": "user name or password is missing or wrong"}
            data = json.dumps(answer).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the caller has given up

        do_GET = do_POST = _do

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    backend.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield backend.url
    finally:
        backend.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Shared(BaseManager):
    """A process that holds a Studio for several workers: `shared_studio`."""


Shared.register(
    "Studio",
    Studio,
    exposed=("project", "ml_backends", "get", "post", "tasks_by_id", "delete", "made"),
)


def take_jobs(settings: WorkersSettings, studio: Any) -> None:
    """What a worker of the queue does until it is empty; for a process of its own."""
    here = context.Context(settings, label_studio=studio)
    context.install(here)
    queue = open_queue(here.redis, jobs.PRELABEL)
    SimpleWorker([queue], connection=here.redis, serializer=JSONSerializer).work(
        burst=True, logging_level="CRITICAL"
    )


def do_chunk(settings: WorkersSettings, studio: Any, id: str, name: str) -> None:
    """One chunk, for a process that is killed meanwhile."""
    context.install(context.Context(settings, label_studio=studio))
    prelabel.chunk(UID, id, name)
