"""Reconcile as the commands and the API ask for it; comparing is a worker's job."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from bridge import jobs
from bridge.edges import job_list, queue, repairs
from bridge.edges import redis as names
from bridge.errors import NotFound, Unavailable
from bridge.progress import Progress
from bridge.reconcile import FULL
from sidecar.clients import Clients

WAIT_S = 3600.0
POLL_S = 0.3
SAID = ("done", "stopped", "failed")


def connected(clients: Clients) -> list[str]:
    """The uids of the connected projects. Raises Unavailable."""
    with clients.redis_says() as connection:
        found: Any = connection.smembers(names.WANTED)
    return sorted(raw.decode() for raw in found)


def ask(clients: Clients, uid: str, mode: str, depth: str = FULL) -> tuple[str, str]:
    """Have a worker compare a project; returns the token of its result and the job's id. Raises Unavailable."""
    token = uuid.uuid4().hex
    with clients.redis_says() as connection:
        return token, clients.enqueue(connection, jobs.reconcile(uid, depth, mode, token))


def wait(
    clients: Clients,
    token: str,
    job_id: str,
    *,
    wait_s: float = WAIT_S,
    say: Callable[[Progress], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """The result, once there is one. Raises Unavailable when the job fails, or when `wait_s` have passed."""
    deadline = clock() + wait_s
    result: dict[str, Any] | None = None
    while clock() < deadline:
        with clients.redis_says() as connection:
            under_way = queue.is_under_way(connection, job_id)
            result = repairs.read_result(connection, token)
            if result is not None and result["state"] in SAID:
                return result
            if not under_way:
                break
            progress = _progress(connection, job_id)
        if progress is not None:
            say(progress)
        sleep(POLL_S)
    why = f": {result['message']}" if result else ""
    raise Unavailable(
        f"no result of the reconcile job {job_id} yet{why}",
        hint="is a worker of the queue `reconcile` running? `python -m sidecar jobs list` shows what waits",
    )


def _progress(connection: Any, job_id: str) -> Progress | None:
    try:
        return job_list.show(connection, job_id).progress
    except NotFound:
        return None


def overview(clients: Clients, uids: list[str], count: int) -> dict[str, Any]:
    """The newest repairs of these projects, what is held for a person, and how each last look ended."""
    with clients.redis_says() as connection:
        projects = []
        for uid in uids:
            projects.append(
                {
                    "uid": uid,
                    "held": repairs.held_of(connection, uid),
                    "absent_since": repairs.absent_since(connection, uid),
                    **{
                        f"{depth}_done_at": repairs.done_at(connection, uid, depth)
                        for depth in ("incremental", "light", "full")
                    },
                }
            )
        titles: Any = connection.hgetall(names.UNCONNECTED)
        return {
            "projects": projects,
            "not_connected": {uid.decode(): title.decode() for uid, title in titles.items()},
            "repairs": repairs.newest(connection, uids, count),
        }
