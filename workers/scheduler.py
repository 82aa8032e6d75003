"""`python -m workers scheduler`: looks every few seconds for work that a queue has forgotten.

Queues lose things: a worker is killed, Redis is restored from an older file, an enqueue fails after the entry was
written. What is waiting is in the streams and in the `wanted` set, so it can be found again. RQ's own scheduler (for
retries with a wait) runs inside the workers.
"""

from __future__ import annotations

import logging
import threading

import redis

from bridge import jobs
from bridge.edges import queue, stream
from bridge.edges import redis as names
from bridge.edges.log import forget, lost_newest
from bridge.errors import BridgeError
from bridge.reconcile import LIGHT
from workers import context, export_sweep, metrics, prelabel_sweep, reconcile_sweep, snapshot
from workers.job_sweep import Sweep

log = logging.getLogger(__name__)
FORGOTTEN_AFTER_S = 3.0
BASELINE_AGAIN_MS = 60_000
CURRENT_AGAIN_MS = 30_000
REREAD_PAUSE_MS = 60_000
BUCKET_CHECK_S = 30.0


def sweep(connection: redis.Redis) -> list[str]:
    """Enqueue a drain for every stream whose oldest entry has waited for 3 s without a worker at it. Returns the uids."""
    found = []
    for uid in stream.uids(connection):
        if stream.lag_s(connection, uid) < FORGOTTEN_AFTER_S or connection.exists(names.log_lock(uid)):
            continue
        if connection.set(names.pending(uid), 1, nx=True, px=stream.PENDING_MS):
            queue.enqueue(connection, jobs.drain(uid))
            found.append(uid)
    return found


def sweep_baselines(connection: redis.Redis) -> list[str]:
    """Enqueue every wanted baseline that is neither complete nor being read (its worker died). Returns the uids."""
    found = []
    for uid in stream.named_projects(connection, names.WANTED):
        state = connection.hget(names.baseline(uid), "state")
        if state in (b"complete", b"failed") or connection.exists(names.baseline_lock(uid)):
            continue
        if connection.set(names.baseline_pending(uid), 1, nx=True, px=BASELINE_AGAIN_MS):
            queue.enqueue(connection, jobs.baseline(uid, jobs.NOT_FINISHED))
            found.append(uid)
    return found


def sweep_rereads(connection: redis.Redis) -> list[str]:
    """Enqueue a comparison of every project that an event asked to have read again, or its baseline where that is not
    complete. Returns the uids.

    The wish stays until no reading is under way: one that has begun may have passed the change already."""
    found = []
    for uid in stream.named_projects(connection, names.REREAD):
        if connection.exists(names.baseline_lock(uid), names.reconcile_lock(uid)):
            continue
        if not connection.set(names.reread_pause(uid), 1, nx=True, px=REREAD_PAUSE_MS):
            continue
        connection.srem(names.REREAD, uid)
        if connection.hget(names.baseline(uid), "state") == b"complete":
            queue.enqueue(connection, jobs.reconcile(uid, LIGHT))
        else:
            queue.enqueue(connection, jobs.baseline(uid, "an event without a payload"))
        found.append(uid)
    return found


def sweep_current(connection: redis.Redis) -> list[str]:
    """Enqueue a refresh of every current/ that is behind its log (its job was lost). Returns the uids."""
    found = []
    for uid in stream.uids(connection):
        if uid == stream.CONTROL:
            continue
        behind = connection.get(names.last_key(uid)) != connection.get(names.current_cursor(uid))
        if not behind or connection.exists(names.current_lock(uid)):
            continue
        if connection.set(names.current_pending(uid), 1, nx=True, px=CURRENT_AGAIN_MS):
            queue.enqueue(connection, jobs.current(uid))
            found.append(uid)
    return found


def check_buckets(here: context.Context) -> list[str]:
    """Find projects whose log is gone from the bucket, and read them again. Returns the uids."""
    lost = []
    for uid in stream.named_projects(here.redis, names.WANTED):
        if lost_newest(here.store, here.redis, here.layout(uid)):
            log.error(
                "the bucket has lost the log of %s: everything Label Studio still has is read into it again",
                uid,
            )
            forget(here.redis, uid)
            queue.enqueue(here.redis, jobs.baseline(uid, "the bucket lost the log"))
            lost.append(uid)
    return lost


def run(here: context.Context, stop: threading.Event) -> None:
    """Sweep until told to stop; trouble with Redis or the bucket is said once, and the next tick tries again."""
    said = ""
    job_sweep = Sweep(here.redis)
    prelabels = prelabel_sweep.Sweep(here.redis)
    ticks_to_check = 0.0
    while not stop.is_set():
        try:
            for uid in sweep(here.redis):
                log.info("events of %s had been waiting: enqueued a drain", uid)
            for uid in sweep_baselines(here.redis):
                log.info("the baseline of %s is not finished: enqueued it", uid)
            sweep_rereads(here.redis)
            sweep_current(here.redis)
            metrics.sweep(here.redis)
            snapshot.sweep(here)
            export_sweep.tick(here)
            reconcile_sweep.tick(here)
            job_sweep.tick()
            prelabels.tick()
            ticks_to_check -= here.settings.sweep_seconds
            if ticks_to_check <= 0:
                ticks_to_check = BUCKET_CHECK_S
                check_buckets(here)
            said = ""
        except (redis.RedisError, BridgeError) as error:
            if str(error) != said:
                log.error("the sweep could not look: %s", error)
                said = str(error)
        stop.wait(here.settings.sweep_seconds)
    try:
        job_sweep.stop()
    except redis.RedisError:
        pass  # its lock runs out by itself within a minute
