"""A project's metrics/ as the commands and the API hand it out; computing it is a worker's job."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from bridge import jobs
from bridge.edges import job_list, queue
from bridge.edges import redis as names
from bridge.errors import Corrupt, NotFound, OutsideError, Unavailable
from bridge.keys import Layout, project_id_of
from sidecar.clients import Clients
from sidecar.gather import find_project

WAIT_S = 120.0


def uid_of(clients: Clients, given: str) -> str:
    """The uid of a project given by id, title or uid. With Label Studio away, an id is looked up among the connected
    projects. Raises what `find_project` raises."""
    try:
        project_id_of(given)
        return given
    except ValueError:
        pass
    try:
        return find_project(clients.label_studio, given).uid
    except OutsideError as error:
        if isinstance(error, NotFound) or not given.isdecimal():
            raise
        with clients.redis_says() as connection:
            known = {
                raw.decode() for name in (names.WANTED, names.STREAMS) for raw in connection.smembers(name)
            }
        same = [uid for uid in known if uid.partition(".")[0] == given]
        if not same:
            raise
        return max(same, key=lambda uid: int(uid.partition(".")[2]))


def summary(clients: Clients, uid: str) -> dict[str, Any]:
    """The newest summary. Raises NotFound while there is none."""
    layout = Layout(uid, clients.settings.s3.bucket_prefix)
    try:
        found = json.loads(clients.store.get(layout.metrics_summary))
    except NotFound as error:
        raise NotFound(
            f"there are no metrics of project {uid} yet",
            hint=f"`python -m sidecar metrics {uid} --refresh` makes them",
        ) from error
    except ValueError as error:
        raise Corrupt(
            f"{layout.metrics_summary} is not JSON",
            hint=f"`python -m sidecar metrics {uid} --refresh` makes it anew",
        ) from error
    if not isinstance(found, dict):
        raise Corrupt(f"{layout.metrics_summary} is no JSON object")
    return found


def refresh(clients: Clients, uid: str) -> str:
    """Ask a worker for new metrics; returns the job's id."""
    with clients.redis_says() as connection:
        return clients.enqueue(connection, jobs.metrics(uid))


def wait(
    clients: Clients,
    uid: str,
    job_id: str,
    *,
    wait_s: float = WAIT_S,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Until the job is done. Raises Unavailable when it fails, or when `wait_s` have passed."""
    deadline = clock() + wait_s
    while clock() < deadline:
        with clients.redis_says() as connection:
            if not queue.is_under_way(connection, job_id) and not connection.exists(names.metrics_lock(uid)):
                break
        sleep(0.2)
    with clients.redis_says() as connection:
        try:
            job = job_list.show(connection, job_id)
        except NotFound:
            return  # RQ keeps none that succeeded
    if job.state in (job_list.FAILED, job_list.STOPPED):
        raise Unavailable(f"the job failed: {job.reason}", hint=f"`python -m sidecar jobs show {job_id}`")
    why = f": {job.reason}" if job.reason else ""
    raise Unavailable(
        f"the metrics are not made after {wait_s:.0f} s (job {job_id} {job.state}{why})",
        hint="is a worker of the queue `metrics` running? `python -m sidecar jobs list` shows what waits",
    )
