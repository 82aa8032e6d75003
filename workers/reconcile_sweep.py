"""What the scheduler does for reconcile: enqueues each project's next look, and finds projects nobody has connected."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import redis

from bridge import hooks, jobs
from bridge.edges import queue, stream
from bridge.edges import redis as names
from bridge.errors import BridgeError, OutsideError
from bridge.reconcile import FULL, INCREMENTAL, LIGHT
from bridge.records import format_time
from bridge.restore import MARK
from bridge.settings import WorkersSettings
from workers import context
from workers.export_sweep import next_time
from workers.reading import time_of, uid_of

log = logging.getLogger(__name__)
# How long a look that was asked for is not asked for again: an enqueue that was lost costs this much. While the queue is
# long a second one can come; it finds the lock held, or nothing to do.
PENDING_MS = 2 * 60_000
# A run that failed, or whose worker died, is not asked for again at once.
AGAIN_AFTER = timedelta(seconds=60)


def due(settings: WorkersSettings, saved: Mapping[str, str], now: datetime) -> str | None:
    """Which look at a project is due: the deepest one. `saved`: what Redis knows of its last ones. Pure."""
    tried_at = time_of(saved.get("tried_at"))
    if tried_at is not None and tried_at <= now < tried_at + min(
        AGAIN_AFTER, timedelta(seconds=settings.reconcile_seconds or AGAIN_AFTER.total_seconds())
    ):
        return None
    if settings.reconcile_full_cron:
        done_at = time_of(saved.get(f"{FULL}_done_at"))
        if done_at is not None and next_time(settings.reconcile_full_cron, done_at) <= now:
            return FULL
    every = {
        LIGHT: timedelta(minutes=settings.reconcile_light_minutes),
        INCREMENTAL: timedelta(seconds=settings.reconcile_seconds),
    }
    for depth, period in every.items():
        done_at = time_of(saved.get(f"{depth}_done_at"))
        # A clock that was ahead and jumped back must not stop us until then.
        if period and (done_at is None or not done_at <= now < done_at + period):
            return depth
    return None


def tick(here: context.Context) -> list[tuple[str, str]]:
    """Enqueue what is due. Returns (uid, depth) of each."""
    found = []
    for uid in stream.named_projects(here.redis, names.WANTED):
        # While the baseline reads everything anyway, there is nothing to compare.
        if here.redis.hget(names.baseline(uid), "state") != b"complete" or here.redis.exists(
            names.baseline_lock(uid), names.reconcile_lock(uid)
        ):
            continue
        said: Any = here.redis.hgetall(names.reconcile(uid))
        saved = {name.decode(): value.decode() for name, value in said.items()}
        if not saved.get(f"{FULL}_done_at"):
            # The baseline has just read everything: the first full comparison is the next one by the clock.
            here.redis.hset(names.reconcile(uid), f"{FULL}_done_at", format_time(here.now()))
        depth = due(here.settings, saved, here.now())
        if depth is not None and ask(here.redis, uid, depth):
            found.append((uid, depth))
    look_for_projects(here)
    return found


def ask(connection: redis.Redis, uid: str, depth: str) -> bool:
    """Enqueue a look, unless one waits already. The job takes the mark away when it begins."""
    if not connection.set(names.reconcile_pending(uid), depth, nx=True, px=PENDING_MS):
        return False
    queue.enqueue(connection, jobs.reconcile(uid, depth))
    return True


def tasks_deleted(connection: redis.Redis, uid: str) -> None:
    """Have a project looked at soon: annotations of a task that was deleted as a duplicate were moved to another one
    without a word (facts on Label Studio: remove_duplicates), and are hidden in the record until that is known."""
    if connection.hget(names.baseline(uid), "state") == b"complete":
        connection.sadd(names.REREAD, uid)


def look_for_projects(here: context.Context) -> bool:
    """Have a worker list Label Studio's projects, as often as all tasks are listed."""
    minutes = here.settings.reconcile_light_minutes
    if not minutes or not here.redis.set(names.RECONCILE_PROJECTS, 1, nx=True, ex=minutes * 60):
        return False
    queue.enqueue(here.redis, jobs.new_projects())
    return True


def find_projects() -> None:
    """Note which projects nobody has connected; connect them if CONNECT_NEW_PROJECTS says so."""
    here = context.current()
    wanted: Any = here.redis.smembers(names.WANTED)
    try:
        listed = {uid_of(project): project for project in here.label_studio.projects()}
    except OutsideError as error:
        log.error("cannot look for new projects: %s", error)
        return
    missing = {uid: project for uid, project in listed.items() if uid.encode() not in wanted}
    if here.settings.connect_new_projects and here.settings.webhook_secret:
        # One that we have read before was disconnected by a person.
        new = [uid for uid in missing if not here.redis.exists(names.baseline(uid))]
        connected = {uid for uid in new if _connect(here, uid, missing[uid])}
        missing = {uid: project for uid, project in missing.items() if uid not in connected}
    pipe = here.redis.pipeline(transaction=True)
    pipe.delete(names.UNCONNECTED)
    if missing:
        titles = {uid: str(project.get("title") or "") for uid, project in missing.items()}
        pipe.hset(names.UNCONNECTED, mapping=dict(titles))
    pipe.execute()


def _connect(here: context.Context, uid: str, project: dict[str, Any]) -> bool:
    """Register the webhook, and have everything read. The ML backend and the pictures are left to `connect`."""
    assert here.settings.webhook_secret is not None
    want = hooks.wanted_hook(project["id"], here.settings.sidecar_url, here.settings.webhook_secret)
    try:
        if MARK in (here.label_studio.project(project["id"]).get("description") or ""):
            return False  # a restore is at it, and connects it when it is whole
        repair = hooks.repair_of(want, here.label_studio.webhooks(project["id"]))
        if repair is not None:
            here.label_studio.request(repair.method, repair.path, json=repair.body)
    except BridgeError as error:
        log.error("the new project %s cannot be connected: %s", uid, error)
        return False
    here.redis.sadd(names.WANTED, uid)
    queue.enqueue(here.redis, jobs.baseline(uid, "a new project"))
    log.info("connected the new project %s", uid)
    return True
