"""A Label Studio and a Redis in memory, as exact as connecting needs them. Behaviour was seen on Label Studio 1.23.2."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import redis

from bridge.edges import stream
from bridge.errors import NotFound, Refused, Unavailable
from bridge.jobs import Job
from bridge.settings import SidecarSettings
from bridge.store import MemoryStore
from sidecar.clients import Clients

ENVIRON = {
    "LABEL_STUDIO_URL": "http://studio:8080",
    "LABEL_STUDIO_API_KEY": "secret-studio-token",
    "REDIS_URL": "redis://user:secret-redis-pass@redis:6379/0",
    "AWS_ENDPOINT_URL_S3": "http://store:9000",
    "AWS_ACCESS_KEY_ID": "secret-access-id",
    "AWS_SECRET_ACCESS_KEY": "secret-access-key",
    "BUCKET": "pictures",
    "WEBHOOK_SECRET": "secret-of-the-webhook",
    "API_TOKEN": "secret-api-token",
    "SIDECAR_URL": "http://sidecar:9100",
    "ML_BACKEND_URL": "http://ml:9090",
    "BASIC_AUTH_USER": "bridge",
    "BASIC_AUTH_PASS": "secret-ml-pass",
}
UID = "3.1795312966"
CREATED_AT = "2026-11-22T02:02:46.000000Z"
_HIDDEN = {"basic_auth_pass", "aws_access_key_id", "aws_secret_access_key"}


class FakeLabelStudio:
    """Projects, webhooks, ML backends and import storages. `ml_password` is what the ML backends accept."""

    def __init__(self, *, ml_password: str = "secret-ml-pass") -> None:
        self.rows: dict[str, dict[int, dict[str, Any]]] = {"webhooks": {}, "ml": {}, "s3": {}, "projects": {}}
        self.ml_password = ml_password
        self.down = False
        self.storage_keys = "secret-access-key"  # the keys the store accepts
        self.storage_refusal = ""
        self.refuse: dict[str, str] = {}  # "METHOD /path" -> what Label Studio says
        self.changes: list[str] = []
        self._ids = itertools.count(1)
        self.add_project(3, "Animals")

    def add_project(self, id: int, title: str, **fields: Any) -> None:
        row = {"id": id, "title": title, "created_at": CREATED_AT, "model_version": "", "task_number": 0}
        self.rows["projects"][id] = row | {"show_collab_predictions": True} | fields

    def add(self, kind: str, **fields: Any) -> dict[str, Any]:
        id = next(self._ids)
        self.rows[kind][id] = {"id": id, "project": 3} | fields
        return self.rows[kind][id]

    # --- the verbs of bridge.edges.label_studio.LabelStudio

    def get(self, path: str, **params: Any) -> Any:
        if self.down:
            raise Unavailable("no answer from Label Studio")
        if (said := self.refuse.get(f"GET {path}")) is not None:
            raise Refused(said)
        kind, id = _parse(path)
        if id is not None:
            return _shown(self._row(kind, id))
        rows = self.rows[kind].values()
        return [_shown(row) for row in rows if params.get("project") in (None, row["project"])]

    def post(self, path: str, body: Any, *, timeout_s: float | None = None, **_: Any) -> Any:
        return self.request("POST", path, json=body)

    def delete(self, path: str) -> None:
        self.request("DELETE", path)

    def projects(self) -> Iterator[dict[str, Any]]:
        if self.down:
            raise Unavailable("no answer from Label Studio")
        yield from self.rows["projects"].values()

    def request(self, method: str, path: str, *, json: Any = None) -> Any:
        if self.down:
            raise Unavailable("no answer from Label Studio")
        if path.endswith("/validate"):
            self._check_storage(self._row("s3", json["id"]) | json)
            return None
        self.changes.append(f"{method} {path}")
        if (said := self.refuse.get(f"{method} {path}")) is not None:
            raise Refused(said)
        if path.endswith("/sync"):
            return self._sync(int(path.split("/")[-2]))
        kind, id = _parse(path)
        if method == "DELETE":
            assert id is not None
            return self._delete(kind, id)
        row = {"id": next(self._ids)} | json if method == "POST" else self._row(kind, id or 0) | json
        if kind == "ml":
            self._check_ml(json)
            row = {"extra_params": None} | row | {"state": "CO", "readable_state": "Connected"}
            row["basic_auth_pass_is_set"] = bool(row.get("basic_auth_pass"))
        if kind == "s3":
            self._check_storage(row)
            row = {"status": "initialized", "last_sync": None} | row
        if kind == "webhooks":
            row["actions"] = json.get("actions", [])  # A PATCH without actions empties them.
        self.rows[kind][row["id"]] = row
        if kind == "ml" and method == "POST":
            self._after_ml(row)
        return _shown(row)

    # --- what Label Studio does by itself

    def _row(self, kind: str, id: int) -> dict[str, Any]:
        if id not in self.rows[kind]:
            raise NotFound("not found")
        return self.rows[kind][id]

    def _delete(self, kind: str, id: int) -> None:
        row = self._row(kind, id)
        del self.rows[kind][id]
        project = self.rows["projects"].get(row.get("project", 0))
        if kind == "ml" and project and project["model_version"] == row["title"]:
            project["model_version"] = ""

    def _check_ml(self, sent: dict[str, Any]) -> None:
        """With what was sent alone, whatever is kept."""
        if self.ml_password and sent.get("basic_auth_pass") != self.ml_password:
            raise Refused("authentication parameters were either not provided or are incorrect.")

    def _check_storage(self, row: dict[str, Any]) -> None:
        if self.storage_refusal or row.get("aws_secret_access_key") != self.storage_keys:
            raise Refused("Debugging info is not available for s3 endpoints on domain: .")

    def _after_ml(self, row: dict[str, Any]) -> None:
        url = f"{row['url']}/webhook"
        if all(hook["url"] != url for hook in self.rows["webhooks"].values()):
            self.add("webhooks", project=row["project"], url=url, send_for_all_actions=True, headers={})
        project = self.rows["projects"][row["project"]]
        project["model_version"] = project["model_version"] or row["title"]

    def _sync(self, id: int) -> dict[str, Any]:
        row = self._row("s3", id)
        row |= {"status": "completed", "last_sync": CREATED_AT, "last_sync_count": 2}
        self.rows["projects"][row["project"]]["task_number"] += 2
        return row


def _parse(path: str) -> tuple[str, int | None]:
    parts = [part for part in path.removeprefix("/api/").split("/") if part != "storages" and part]
    return parts[0], int(parts[1]) if len(parts) > 1 else None


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _HIDDEN}


class FakeRedis:
    """The few commands that connecting and status use. `down` makes every one of them fail."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.down = False

    def __getattribute__(self, name: str) -> Any:
        if (
            name not in ("down", "data")
            and not name.startswith("__")
            and object.__getattribute__(self, "down")
        ):
            raise redis.ConnectionError("refused")
        return object.__getattribute__(self, name)

    def sadd(self, key: str, *values: str) -> None:
        self.data.setdefault(key, set()).update(value.encode() for value in values)

    def srem(self, key: str, *values: str) -> None:
        self.data.setdefault(key, set()).difference_update(value.encode() for value in values)

    def smembers(self, key: str) -> set[bytes]:
        return set(self.data.get(key, set()))

    def hset(self, key: str, *, mapping: dict[str, Any]) -> None:
        self.data.setdefault(key, {}).update({k.encode(): str(v).encode() for k, v in mapping.items()})

    def hget(self, key: str, name: str) -> bytes | None:
        return self.data.get(key, {}).get(name.encode())

    def hdel(self, key: str, *names: str) -> None:
        for name in names:
            self.data.get(key, {}).pop(name.encode(), None)

    def hlen(self, name: str) -> int:
        return len(self.hgetall(name))

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        return dict(self.data.get(key, {}))

    def set(self, key: str, value: Any, **_: Any) -> None:
        self.data[key] = str(value).encode()

    def get(self, key: str) -> bytes | None:
        return self.data.get(key)

    def xlen(self, key: str) -> int:
        return len(self.data.get(key, []))

    def xrange(self, key: str, min: str = "-", max: str = "+", count: int | None = None) -> list[Any]:
        """All of a stream, or the one entry that is both `min` and `max`."""
        found = self.data.get(key, [])
        return [item for item in found if min == "-" or item[0] == min.encode()][:count]

    def register_script(self, script: str) -> Callable[..., Any]:
        """Knows the one script that status runs."""
        assert script == stream.OLDEST_ID
        return lambda keys: next((id for id, _ in self.xrange(keys[0], count=1)), None)

    def xrevrange(self, key: str, count: int | None = None) -> list[Any]:
        return self.data.get(key, [])[::-1][:count]


class World:
    """Everything a command stands on, and what it enqueued."""

    def __init__(self, **environ: str) -> None:
        self.settings = SidecarSettings.from_env(ENVIRON | {"SPOOL_DIR": "no-such-folder"} | environ)
        self.studio = FakeLabelStudio()
        self.redis = FakeRedis()
        self.store = MemoryStore()
        self.store.put("images/cat.jpg", b"cat")
        self.enqueued: list[Job] = []
        self.bucket_error: Exception | None = None

    @property
    def clients(self) -> Clients:
        def check_bucket() -> None:
            if self.bucket_error:
                raise self.bucket_error

        def enqueue(_: Any, job: Job) -> str:
            self.enqueued.append(job)
            return "job"

        return Clients(
            settings=self.settings,
            label_studio=self.studio,  # type: ignore[arg-type]
            redis=self.redis,  # type: ignore[arg-type]
            store=self.store,
            check_bucket=check_bucket,
            enqueue=enqueue,
        )
