"""Enqueueing jobs on RQ, by name and with JSON arguments."""

from __future__ import annotations

from redis import Redis
from rq import Queue, Retry
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job as RqJob
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from bridge.jobs import Job

FAILURE_KEPT_S = 30 * 24 * 3600
FAILURE = (
    "failure"  # in job.meta: why the last try failed; RQ itself keeps nothing of it while tries are left
)
_ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)


def open_queue(connection: Redis, name: str) -> Queue:
    return Queue(name, connection=connection, serializer=JSONSerializer)


def enqueue(connection: Redis, job: Job, *, at_front: bool = False) -> str:
    """Put a job on its queue and return its id."""
    queued = open_queue(connection, job.queue).enqueue_call(
        job.name,
        args=list(job.args),
        timeout=job.timeout_s,
        result_ttl=0,
        failure_ttl=FAILURE_KEPT_S,
        description=job.about,
        retry=Retry(max=len(job.retry_waits_s), interval=list(job.retry_waits_s))
        if job.retry_waits_s
        else None,
        at_front=at_front or job.at_front,
    )
    return str(queued.id)


def is_under_way(connection: Redis, id: str) -> bool:
    """Whether a job waits, runs, or waits for its next try."""
    try:
        return RqJob.fetch(id, connection=connection, serializer=JSONSerializer).get_status() not in _ENDED
    except (NoSuchJobError, InvalidJobOperation):  # gone, perhaps between the two questions
        return False


def note_failure(job: RqJob, message: str) -> None:
    """Keep why a try failed beside the job, for people to see while it waits for the next."""
    job.meta[FAILURE] = message
    job.save_meta()  # type: ignore[no-untyped-call]
