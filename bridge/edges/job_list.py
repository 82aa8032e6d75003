"""RQ's jobs as people see them: list, show, retry, cancel. All of it through RQ 3.0.0's own calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from rq import Queue
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges.queue import FAILURE, open_queue
from bridge.errors import NotFound, SenderError, Unavailable
from bridge.failures import reason_of
from bridge.progress import Progress, of_meta
from bridge.records import format_time

QUEUED, RUNNING, WAITING, FAILED, STOPPED = "queued", "running", "waits to retry", "failed", "stopped"
STATES = (RUNNING, QUEUED, WAITING, FAILED, STOPPED)
STOP_WAIT_S = 10.0
_WORDS = {
    JobStatus.QUEUED: QUEUED,
    JobStatus.STARTED: RUNNING,
    JobStatus.SCHEDULED: WAITING,
    JobStatus.FAILED: FAILED,
    JobStatus.STOPPED: STOPPED,
}


@dataclass(frozen=True, kw_only=True)
class JobInfo:
    """One job. `reason`: why its last try failed, "" where none did; `traceback` only of one that failed for good."""

    id: str
    queue: str
    state: str
    about: str
    name: str
    args: tuple[Any, ...]
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    next_try_at: datetime | None
    tries_left: int
    progress: Progress | None
    reason: str
    traceback: str
    worker: str

    def to_json(self) -> dict[str, Any]:
        """Without the traceback."""
        times = {
            name: None if value is None else format_time(value)
            for name in ("created_at", "started_at", "ended_at", "next_try_at")
            for value in [getattr(self, name)]
        }
        progress = (
            None if self.progress is None else self.progress.to_json() | {"left_s": self.progress.left_s}
        )
        return {
            "id": self.id,
            "queue": self.queue,
            "state": self.state,
            "about": self.about,
            "job": self.name,
            "args": list(self.args),
            **times,
            "tries_left": self.tries_left,
            "progress": progress,
            "reason": self.reason,
            "worker": self.worker,
        }


def listed(connection: Redis) -> list[JobInfo]:
    """Every job of our queues: running first, then queued, waiting, failed and stopped; the newest of each first."""
    found = [_info(job, queue) for queue in _queues(connection) for job in _fetch(queue, _ids(queue))]
    oldest = datetime.min.replace(tzinfo=UTC)
    found.sort(key=lambda job: job.created_at or oldest, reverse=True)
    return sorted(found, key=lambda job: STATES.index(job.state) if job.state in STATES else len(STATES))


def show(connection: Redis, id: str) -> JobInfo:
    """A job by its id or the beginning of it. Raises NotFound, or SenderError when several begin so."""
    job, queue = _find(connection, id)
    return _info(job, queue)


def retry(connection: Redis, id: str) -> JobInfo:
    """Run a failed, stopped or waiting job now, with all its tries. Raises NotFound and SenderError."""
    job, queue = _find(connection, id)
    state = _state(job)
    if state not in (FAILED, STOPPED, WAITING):
        raise SenderError(f"job {job.id} is {state}: there is nothing to retry")
    registry = queue.scheduled_job_registry if state == WAITING else queue.failed_job_registry
    if not registry.remove(job):
        raise SenderError(f"job {job.id} has just been taken up by somebody else")
    job.retries_left = len(job.retry_intervals) if job.retry_intervals else None
    job.started_at = job.ended_at = None
    queue.enqueue_job(job)
    return _info(job, queue)


def cancel(connection: Redis, id: str, *, sleep: Callable[[float], None] = time.sleep) -> str:
    """Take a job away, and say in words what was done. Raises NotFound, SenderError, Unavailable.

    A running one is stopped and then kept as stopped, for `retry`; any other is forgotten."""
    job, queue = _find(connection, id)
    if _state(job) != RUNNING:
        try:
            job.cancel()
        except InvalidJobOperation:
            pass  # cancelled already, by hand
        job.delete()
        return "cancelled"
    if queue.name == jobs.LIVE:
        raise SenderError(
            f"job {job.id} carries events into the bucket and ends by itself within 30 s",
            hint="to stop it, stop the worker of the queue `live`: what is in the stream stays there",
        )
    try:
        send_stop_job_command(connection, job.id, serializer=JSONSerializer)
    except InvalidJobOperation as error:
        raise SenderError(f"job {job.id} has ended meanwhile") from error
    for _ in range(int(STOP_WAIT_S / 0.2)):
        try:
            if job.get_status() != JobStatus.STARTED:
                return "stopped"
        except (InvalidJobOperation, NoSuchJobError):
            return "it had ended before it could be stopped"
        sleep(0.2)
    raise Unavailable(
        f"its worker {job.worker_name} has not stopped job {job.id} within {STOP_WAIT_S:.0f} s",
        hint="if that worker is dead, the scheduler takes the job up within two minutes; cancel it then",
    )


def _queues(connection: Redis) -> list[Queue]:
    return [open_queue(connection, name) for name in jobs.QUEUES]


def _ids(queue: Queue) -> list[str]:
    """Asked for in the order in which a job passes through, so that one on its way is not missed."""
    ids = [
        *queue.get_job_ids(),
        *queue.intermediate_queue.get_job_ids(),
        *queue.started_job_registry.get_job_ids(cleanup=False),
        *queue.scheduled_job_registry.get_job_ids(cleanup=False),
        *queue.failed_job_registry.get_job_ids(cleanup=False),
    ]
    return list(dict.fromkeys(ids))


def _fetch(queue: Queue, ids: list[str]) -> Iterator[Job]:
    """Those that are still there."""
    found = Job.fetch_many(ids, connection=queue.connection, serializer=JSONSerializer) if ids else []
    yield from (job for job in found if job is not None)


def _find(connection: Redis, id: str) -> tuple[Job, Queue]:
    same = [
        (job_id, queue) for queue in _queues(connection) for job_id in _ids(queue) if job_id.startswith(id)
    ]
    exact = [pair for pair in same if pair[0] == id] or same
    if len(exact) > 1:
        raise SenderError(f"{len(exact)} jobs begin with {id!r}: give more of the id")
    for job_id, queue in exact:
        for job in _fetch(queue, [job_id]):
            return job, queue
    raise NotFound(f"there is no job {id!r}", hint="`jobs list` shows them; one that succeeded is not kept")


def _state(job: Job) -> str:
    status = job.get_status(refresh=False)
    return _WORDS.get(status, str(getattr(status, "value", status)))


def _info(job: Job, queue: Queue) -> JobInfo:
    state = _state(job)
    result = Result.fetch_latest(job, serializer=JSONSerializer) if state in (FAILED, STOPPED) else None
    stored = (result.exc_string or "") if result is not None else ""
    noted = job.meta.get(FAILURE) if isinstance(job.meta, dict) else None
    return JobInfo(
        id=job.id,
        queue=queue.name,
        state=state,
        about=job.description or job.func_name or "",
        name=job.func_name or "",
        args=tuple(job.args),
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        next_try_at=queue.scheduled_job_registry.get_scheduled_time(job) if state == WAITING else None,
        tries_left=job.retries_left or 0,
        progress=of_meta(job.meta) if isinstance(job.meta, dict) else None,
        reason=reason_of(stored) if state == STOPPED or not noted else str(noted),
        traceback=stored,
        worker=job.worker_name or "",
    )
