"""Asking for exports and seeing how they are: for the sidecar and the workers alike.

A manifest in the bucket is the only proof that an export is whole. What was asked for and is not whole yet stands in one
Redis hash, so that the scheduler finds again what a killed worker or a lost queue left behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

import redis
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.edges.log import log_keys
from bridge.errors import NotFound
from bridge.export_manifest import Manifest
from bridge.exports import MANIFEST, Order, uid_of_export
from bridge.keys import ExportKey, Layout
from bridge.progress import of_meta
from bridge.records import format_time
from bridge.store import ObjectStore

State = Literal["queued", "running", "complete", "failed"]
Json = dict[str, Any]
PENDING_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for. `takes`: how often it was taken up again after its worker was killed."""

    order: Order
    asked_by: str
    asked_at: str
    state: State = "queued"
    message: str = ""
    job_id: str = ""
    takes: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes | str) -> Request:
        """Raises ValueError, KeyError or TypeError when it is none."""
        fields = json.loads(text)
        return cls(**(fields | {"order": Order.from_json(fields["order"])}))


@dataclass(frozen=True, kw_only=True)
class View:
    """One export as people see it. `progress`: done, total, unit, left_s and all of it in words, as far as it is known."""

    id: str
    uid: str
    format: str
    tasks: str
    state: State
    message: str = ""
    asked_by: str = ""
    asked_at: str = ""
    progress: Json | None = None
    manifest: Manifest | None = None

    def to_json(self) -> Json:
        fields: Json = {
            name: getattr(self, name)
            for name in (
                "id",
                "uid",
                "format",
                "tasks",
                "state",
                "message",
                "asked_by",
                "asked_at",
                "progress",
            )
        }
        if self.manifest is not None:
            said = self.manifest.to_json()
            files = [
                {name: value for name, value in one.items() if name != "key"}
                | {"path": f"/api/exports/{self.id}/files/{one['name']}"}
                for one in said["files"]
            ]
            fields |= {name: said[name] for name in ("counts", "baseline", "source", "created_at", "same_as")}
            fields["files"] = files
        return fields


def newest_source(store: ObjectStore, connection: redis.Redis | None, layout: Layout) -> str:
    """The newest log object in the bucket. Raises NotFound when there is none.

    Redis knows the last one asked to be written; only if the bucket has it is the rest of the list spared."""
    last: Any = connection.get(names.last_key(layout.uid)) if connection is not None else None
    start = last.decode() if last else ""
    newest = start if start and store.head(start) is not None else ""
    for info in log_keys(store, layout, after=start if newest else ""):
        newest = info.key
    if not newest:
        raise NotFound(
            f"the bucket holds nothing of the project {layout.uid} yet",
            hint="`python -m sidecar connect PROJECT` reads it into the bucket",
        )
    return newest


def order_of(layout: Layout, format: str, tasks: str, source_key: str) -> Order:
    """Raises ValueError when `source_key` is no log key of the project."""
    parsed = layout.parse_log(source_key)
    if parsed is None:
        raise ValueError(f"{source_key!r} is no log object of {layout.uid}")
    return Order(uid=layout.uid, format=format, tasks=tasks, source_key=source_key, position=parsed.position)


def ask(
    connection: redis.Redis, store: ObjectStore, layout: Layout, order: Order, by: str, now: datetime
) -> View:
    """Have an export made, unless it is there or under way: then that one is the answer."""
    manifest = read_manifest(store, layout, order.id)
    if manifest is not None:
        return _whole(manifest)
    request = Request(order=order, asked_by=by, asked_at=format_time(now))
    first = connection.hsetnx(names.EXPORTS, order.id, request.to_json())
    known = read_request(connection, order.id) or request
    if known.state == "failed":
        note(connection, order.id, known := request)
        connection.delete(names.export_pending(order.id))
        first = True
    if first:
        enqueue(connection, known)
    return look(connection, store, layout, order.id)


def enqueue(connection: redis.Redis, request: Request) -> bool:
    """Put its job on the queue, unless that was done a moment ago."""
    order = request.order
    if not connection.set(names.export_pending(order.id), 1, nx=True, px=PENDING_MS):
        return False
    job_id = queue.enqueue(connection, jobs.export(order.uid, order.format, order.tasks, order.source_key))
    current = read_request(connection, order.id)
    if current is not None and current.state == "queued":
        note(connection, order.id, replace(current, job_id=job_id))
    return True


def read_request(connection: redis.Redis, export_id: str) -> Request | None:
    raw: Any = connection.hget(names.EXPORTS, export_id)
    return None if raw is None else _request(raw)


def _request(raw: bytes) -> Request | None:
    try:
        return Request.from_json(raw)
    except (ValueError, KeyError, TypeError):
        return None  # written by another version; asking again writes it anew


def requests(connection: redis.Redis) -> Iterator[tuple[str, Request]]:
    """Everything that was asked for and is not whole."""
    found: Any = connection.hgetall(names.EXPORTS)
    for export_id, raw in sorted(found.items()):
        request = _request(raw)
        if request is not None:
            yield export_id.decode(), request


def note(connection: redis.Redis, export_id: str, request: Request) -> None:
    connection.hset(names.EXPORTS, export_id, request.to_json())


def forget(connection: redis.Redis, export_id: str) -> None:
    """It is whole, or given up: nobody need look after it."""
    connection.hdel(names.EXPORTS, export_id)
    connection.delete(names.export_pending(export_id))


def read_manifest(store: ObjectStore, layout: Layout, export_id: str) -> Manifest | None:
    """The manifest, or None while the export is not whole."""
    key = layout.export(ExportKey(export_id=export_id, name=MANIFEST))
    try:
        return Manifest.from_json(json.loads(store.get(key)))
    except NotFound as error:
        if "NoSuchBucket" in str(error):
            raise
        return None
    except (ValueError, KeyError, TypeError):
        return None  # cut short, or of another version: not whole


def look(connection: redis.Redis | None, store: ObjectStore, layout: Layout, export_id: str) -> View:
    """How an export is. Raises NotFound when nobody asked for it."""
    manifest = read_manifest(store, layout, export_id)
    if manifest is not None:
        return _whole(manifest)
    request = read_request(connection, export_id) if connection is not None else None
    if request is None or connection is None:
        raise NotFound(
            f"there is no export {export_id}",
            hint="`python -m sidecar export list PROJECT` shows those there are",
        )
    return _asked(connection, export_id, request)


def listed(
    connection: redis.Redis | None, store: ObjectStore, layout: Layout, count: int = 100
) -> list[View]:
    """The exports of a project, newest first: those under way or failed, and those that are whole."""
    whole = {
        key.export_id
        for info in store.keys(layout.exports_prefix)
        if (key := layout.parse_export(info.key)) and key.name == MANIFEST
    }
    asked = {}
    if connection is not None:
        asked = {
            id: one for id, one in requests(connection) if one.order.uid == layout.uid and id not in whole
        }
    found = []
    for export_id in sorted(whole | asked.keys(), reverse=True)[:count]:
        if export_id in asked and connection is not None:
            found.append(_asked(connection, export_id, asked[export_id]))
        elif (manifest := read_manifest(store, layout, export_id)) is not None:
            found.append(_whole(manifest))
    return found


def _whole(manifest: Manifest) -> View:
    return View(
        id=manifest.export_id,
        uid=uid_of_export(manifest.export_id),
        format=manifest.format,
        tasks=str(manifest.options.get("tasks", "")),
        state="complete",
        asked_by=str(manifest.source.get("asked_by", "")),
        manifest=manifest,
    )


def _asked(connection: redis.Redis, export_id: str, request: Request) -> View:
    return View(
        id=export_id,
        uid=request.order.uid,
        format=request.order.format,
        tasks=request.order.tasks,
        state=request.state,
        message=request.message,
        asked_by=request.asked_by,
        asked_at=request.asked_at,
        progress=_progress(connection, request) if request.state == "running" else None,
    )


def _progress(connection: redis.Redis, request: Request) -> Json | None:
    try:
        job = Job.fetch(request.job_id, connection=connection, serializer=JSONSerializer)
    except (NoSuchJobError, ValueError):
        return None
    found = of_meta(job.meta)
    if found is None:
        return None
    said = {name: getattr(found, name) for name in ("done", "total", "unit", "left_s")}
    return said | {"words": found.words()}
