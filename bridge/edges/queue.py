"""Enqueueing jobs on RQ, by name and with JSON arguments."""

from __future__ import annotations

from redis import Redis
from rq import Queue, Retry
from rq.serializers import JSONSerializer

from bridge.jobs import Job

FAILURE_KEPT_S = 30 * 24 * 3600


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
        at_front=at_front,
    )
    return str(queued.id)
