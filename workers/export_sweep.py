"""What the scheduler does for exports: takes up those whose worker died, and asks for those of EXPORT_CRON.

The times of EXPORT_CRON come from RQ's own cron (rq.cron.CronJob). Its CronScheduler is not used: it enqueues with
pickle, which our workers do not read, keeps no memory of times it missed, and would be one more process to watch.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import redis
from rq.cron import CronJob

from bridge import jobs
from bridge.edges import exports as registry
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.records import format_time, parse_time
from workers import context

log = logging.getLogger(__name__)
TAKES = 3
FAILURE_KEPT = timedelta(days=30)
TICK_KEPT_S = 7 * 24 * 3600


def tick(here: context.Context) -> None:
    """One look at everything."""
    for export_id in take_up(here.redis, here.now()):
        log.warning("the export %s had been left behind: enqueued it", export_id)
    if here.settings.export_cron:
        ask_by_cron(here.redis, here.settings.export_cron, here.now())


def take_up(connection: redis.Redis, now: datetime) -> list[str]:
    """Enqueue every export that was asked for, is not whole, and nobody is at. Returns the ids.

    After some times its worker seems to die of it: then it has failed, for a person to look at."""
    found = []
    for export_id, request in registry.requests(connection):
        if request.state == "failed":
            if (asked := parse_time(request.asked_at)) is not None and now - asked > FAILURE_KEPT:
                registry.forget(connection, export_id)
            continue
        if connection.exists(names.export_lock(export_id)) or (
            request.job_id and queue.is_under_way(connection, request.job_id)
        ):
            continue
        if request.takes >= TAKES:
            message = (
                f"the worker died of it {TAKES} times: look into the log of the worker of the queue "
                f"{jobs.EXPORTS!r}, give it more memory, and ask again"
            )
            registry.note(connection, export_id, replace(request, state="failed", message=message))
            continue
        takes = request.takes + (request.state == "running")
        if not registry.enqueue(connection, request):
            continue
        current = registry.read_request(connection, export_id)
        if current is not None:
            registry.note(connection, export_id, replace(current, takes=takes))
        found.append(export_id)
    return found


def ask_by_cron(connection: redis.Redis, expression: str, now: datetime) -> list[str]:
    """Ask for the exports of every connected project when a time of the cron line has come. Returns the uids.

    A time missed while no scheduler ran is made up for, once."""
    saved: Any = connection.hgetall(names.EXPORT_CRON)
    last = parse_time(saved[b"last"].decode()) if saved.get(b"expression") == expression.encode() else None
    if last is None:
        _remember(connection, expression, now)
        return []
    due = next_time(expression, last)
    if due > now:
        return []
    _remember(connection, expression, now)
    if not connection.set(names.export_cron_tick(format_time(due)), 1, nx=True, ex=TICK_KEPT_S):
        return []  # another scheduler was first
    wanted: Any = connection.smembers(names.WANTED)
    uids = sorted(raw.decode() for raw in wanted)
    for uid in uids:
        queue.enqueue(connection, jobs.export_trigger(uid, "EXPORT_CRON"))
    return uids


def _remember(connection: redis.Redis, expression: str, now: datetime) -> None:
    connection.hset(names.EXPORT_CRON, mapping={"expression": expression, "last": format_time(now)})


def next_time(expression: str, after: datetime) -> datetime:
    """The first time of a cron line after a time, in this machine's time zone."""
    job = CronJob(jobs.EXPORTS, func_name="workers.export.trigger", cron=expression)
    job.set_enqueue_time(after)
    if job.next_enqueue_time is None:
        raise ValueError(f"the cron line {expression!r} has no next time")
    return job.next_enqueue_time


def count_annotations(connection: redis.Redis, uid: str, made: int, every: int) -> bool:
    """Count annotations as they reach the log, and ask for exports after every so many. Returns whether it did.

    Called under the project's log lock, so nobody counts at the same time."""
    if every <= 0 or made <= 0:
        return False
    counted = int(connection.hincrby(names.EXPORT_COUNT, uid, made))
    if counted < every:
        return False
    queue.enqueue(connection, jobs.export_trigger(uid, f"{every} annotations"))
    connection.hset(names.EXPORT_COUNT, uid, counted % every)
    return True
