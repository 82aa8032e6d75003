"""How things are, gathered: for the command line and the API. What cannot be asked is said, the rest still shown."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis import Redis

from bridge.edges import redis as names
from bridge.edges import repairs, stream
from bridge.errors import BridgeError
from bridge.keys import project_id_of
from bridge.settings import MIB
from sidecar.clients import Clients, address_of
from sidecar.gather import gather
from sidecar.parts import ml_backend, storage, webhook
from sidecar.plan import MISSING, OK, Found, Json, Project, Wanted, wanted
from sidecar.spool import spool_of

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """Label Studio, Redis or the bucket: whether it answers, and what it said."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """How far the reading of a whole project is. `state` is unknown where Redis has forgotten it."""

    state: str
    done: int = 0
    total: int | None = None
    started_at: str = ""
    updated_at: str = ""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class ProjectStatus:
    """One project. The words of `webhook`, `ml_backend`, `storage`: ok, missing, drifted: …, unknown: …, not used;
    None where nobody asked. `waiting` and `lag_s` (age of the oldest event not in the bucket) are None without Redis.
    `media_failed`: uploaded files that could not be copied into the bucket. `held`: why deletions wait for a person.
    `absent_since`: since when Label Studio does not have the project."""

    uid: str
    id: int
    title: str | None
    connected: bool
    webhook: str
    ml_backend: str | None = None
    storage: str | None = None
    baseline: Baseline | None = None
    waiting: int | None = None
    lag_s: float | None = None
    trouble: str = ""
    media_failed: int = 0
    held: str = ""
    absent_since: str = ""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Everything `status` shows. Numbers that could not be had are None."""

    neighbours: Sequence[Neighbour]
    projects: Sequence[ProjectStatus]
    unassigned_waiting: int | None
    quarantine: int | None
    spool_entries: int | None
    spool_bytes: int | None
    spool_warning: str = ""
    missed: Sequence[
        str
    ] = ()  # projects of which an event was refused, or "all": read again when Redis is back

    @property
    def ok(self) -> bool:
        return all(neighbour.ok for neighbour in self.neighbours)

    def to_json(self) -> Json:
        return {"ok": self.ok} | dataclasses.asdict(self)


# --- deciding


def baseline_of(fields: dict[bytes, bytes]) -> Baseline:
    """From the hash that the worker keeps; an empty one is unknown."""
    said = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
    total = said.get("total", "")
    return Baseline(
        state=said.get("state", "unknown"),
        done=int(said["done"]) if said.get("done", "").isdecimal() else 0,
        total=int(total) if total.isdecimal() else None,
        started_at=said.get("started_at", ""),
        updated_at=said.get("updated_at", ""),
        message=said.get("message", ""),
    )


# --- gathering


def status(clients: Clients, only: Project | int | None = None) -> Status:
    """How everything is, or one project (an id when Label Studio cannot be asked for it) and its surroundings.

    Raises nothing of the outside world: a neighbour that is down is a line of its own, and is asked once."""
    redis_is, known = _redis(clients)
    up = redis_is.ok
    label_studio_is, projects = _projects(clients, known, up, only if isinstance(only, Project) else None)
    if not isinstance(only, Project):
        listed = {project.uid for project in projects}
        unlisted = [uid for uid in known if uid not in listed and only in (None, project_id_of(uid))]
        projects += [_unlisted(clients, uid, up, listed=label_studio_is.ok) for uid in unlisted]
    entries, size, warning, missed = _spool(clients)
    return Status(
        neighbours=[label_studio_is, redis_is, _bucket(clients)],
        projects=projects,
        unassigned_waiting=_ask(clients, up, lambda redis: stream.waiting(redis, stream.CONTROL)),
        quarantine=_ask(clients, up, stream.quarantine_size),
        spool_entries=entries,
        spool_bytes=size,
        spool_warning=warning,
        missed=missed,
    )


def project_status(clients: Clients, project: Project) -> ProjectStatus:
    """One project alone. Raises nothing of the outside world."""
    want = wanted(clients.settings, project.id)
    return _project_status(clients, project, want, gather(clients, project, want, check=False), asked=True)


def _project_status(
    clients: Clients, project: Project, want: Wanted, found: Found, *, asked: bool, redis_up: bool = True
) -> ProjectStatus:
    webhook_word = webhook.word(want, found)
    return ProjectStatus(
        uid=project.uid,
        id=project.id,
        title=project.title,
        connected=webhook_word == OK,
        webhook=webhook_word,
        ml_backend=ml_backend.word(want, found) if asked else None,
        storage=storage.word(want, found) if asked else None,
        **(_ask(clients, redis_up, lambda redis: _in_redis(redis, project.uid)) or {}),
    )


def _unlisted(clients: Clients, uid: str, redis_up: bool, *, listed: bool) -> ProjectStatus:
    """A project we have a record of, which this Label Studio does not list (or which it cannot be asked about)."""
    return ProjectStatus(
        uid=uid,
        id=project_id_of(uid),
        title=None,
        connected=False,
        webhook=f"{MISSING}: this Label Studio has no such project" if listed else "unknown",
        **(_ask(clients, redis_up, lambda redis: _in_redis(redis, uid)) or {}),
    )


def _in_redis(redis: Redis, uid: str) -> dict[str, Any]:
    """The fields of a ProjectStatus that Redis knows."""
    trouble: Any = redis.get(names.trouble(uid))
    hash: Any = redis.hgetall(names.baseline(uid))
    return {
        "baseline": baseline_of(hash),
        "waiting": stream.waiting(redis, uid),
        "lag_s": round(stream.lag_s(redis, uid), 1),
        "trouble": trouble.decode(errors="replace") if trouble else "",
        "media_failed": int(redis.hlen(names.media_failed(uid))),
        "held": repairs.held_of(redis, uid).get("reason", ""),
        "absent_since": repairs.absent_since(redis, uid),
    }


def _projects(
    clients: Clients, known: list[str], redis_up: bool, only: Project | None
) -> tuple[Neighbour, list[ProjectStatus]]:
    """Every project, in order of id. Only those with a webhook of ours, or known to Redis, cost requests of their own."""
    name, address = "Label Studio", clients.settings.label_studio.url
    try:
        hooks = list(clients.label_studio.get("/api/webhooks/"))
        listed = [only] if only else [Project.of(body) for body in clients.label_studio.projects()]
    except BridgeError as error:
        return Neighbour(name=name, ok=False, detail=str(error)), []
    found = []
    for project in sorted(listed, key=lambda p: p.id):
        want = wanted(clients.settings, project.id)
        mine = [hook for hook in hooks if hook.get("project") == project.id]
        light = Found(webhooks=mine)
        asked = only is not None or project.uid in known or webhook.trouble(want, light) != MISSING
        whole = gather(clients, project, want, webhooks=mine, check=False) if asked else light
        found.append(_project_status(clients, project, want, whole, asked=asked, redis_up=redis_up))
    return Neighbour(name=name, ok=True, detail=address), found


def _redis(clients: Clients) -> tuple[Neighbour, list[str]]:
    """Whether Redis answers, and the projects it knows of."""
    try:
        with clients.redis_says() as redis:
            wished: Any = redis.smembers(names.WANTED)
            known = {uid.decode() for uid in wished} | set(stream.uids(redis))
    except BridgeError as error:
        return Neighbour(name="Redis", ok=False, detail=str(error)), []
    detail = address_of(clients.settings.redis_url)
    return Neighbour(name="Redis", ok=True, detail=detail), sorted(known - {stream.CONTROL})


def _bucket(clients: Clients) -> Neighbour:
    s3 = clients.settings.s3
    try:
        clients.check_bucket()
    except BridgeError as error:
        return Neighbour(name="bucket", ok=False, detail=str(error))
    return Neighbour(name="bucket", ok=True, detail=f"{s3.bucket} at {s3.endpoint_url}")


def _ask(clients: Clients, up: bool, question: Callable[[Redis], T]) -> T | None:
    """Ask Redis, unless it was down a moment ago: a hung one costs seconds each time."""
    if not up:
        return None
    try:
        with clients.redis_says() as redis:
            return question(redis)
    except BridgeError:
        return None


def _spool(clients: Clients) -> tuple[int | None, int | None, str, list[str]]:
    """Entries, bytes, what is alarming about it, and the projects that the door had to refuse events of."""
    settings = clients.settings
    try:
        spool = spool_of(settings.spool_dir, settings.spool_max_mib * MIB)
        if spool is None:
            return 0, 0, "", []
        fill = spool.fill()
        return *spool.size(), str(fill) if fill.is_high else "", spool.missed.names()
    except (OSError, sqlite3.Error) as error:
        return None, None, f"it cannot be read: {error}", []
