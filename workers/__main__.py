"""`python -m workers QUEUE…` and `python -m workers scheduler`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback

import redis
from rq import SimpleWorker, Worker
from rq.exceptions import AbandonedJobError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker, WorkerStatus

from bridge import jobs
from bridge.edges.environment import read_environment, set_up_logging
from bridge.edges.queue import note_failure, open_queue
from bridge.errors import BridgeError, SettingsError
from bridge.failures import killed, reason_of
from bridge.settings import WorkersSettings
from workers import context, scheduler
from workers.job_sweep import HEARTBEAT_S, say_it_died

STOP_AGAIN_S = 3.0
USAGE = f"""usage: python -m workers QUEUE [QUEUE …]
       python -m workers scheduler

Takes jobs from the named queues, the first named first. Queues: {", ".join(jobs.QUEUES)}.
The scheduler looks every few seconds for work that was forgotten; run one of it (more do no harm).
Settings come from the environment and an optional .env; the README lists them."""


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 after a stop by signal, 1 for wrong settings or no Redis, 2 for wrong arguments."""
    if any(word in ("-h", "--help") for word in arguments):
        print(USAGE)
        return 0
    unknown = [name for name in arguments if name not in (*jobs.QUEUES, "scheduler")]
    if not arguments or unknown or ("scheduler" in arguments and len(arguments) > 1):
        problem = (
            f"unknown queue: {', '.join(unknown)}"
            if unknown
            else "name one or more queues, or scheduler alone"
        )
        print(f"{problem}\n{USAGE}", file=sys.stderr)
        return 2
    try:
        settings = WorkersSettings.from_env(read_environment(os.environ))
        set_up_logging(settings.log_level)
        here = context.Context(settings)
        here.redis.ping()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    except redis.RedisError as error:
        print(f"no Redis at REDIS_URL ({error}): start it, or correct REDIS_URL", file=sys.stderr)
        return 1
    context.install(here)
    return _run_scheduler(here) if arguments == ["scheduler"] else _run_worker(here, arguments)


def _run_scheduler(here: context.Context) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logging.getLogger(__name__).info("scheduler is looking every %g s", here.settings.sweep_seconds)
    scheduler.run(here, stop)
    return 0


def _run_worker(here: context.Context, names: list[str]) -> int:
    # Imported before the fork, so that a job starts in milliseconds.
    import workers.archive
    import workers.baseline
    import workers.current
    import workers.export
    import workers.media
    import workers.metrics
    import workers.prelabel
    import workers.reconcile
    import workers.reconcile_sweep
    import workers.restore
    import workers.snapshot  # noqa: F401

    logging.getLogger(__name__).info("worker takes jobs from %s", ", ".join(names))
    # A drain is short, small and bounded: done in this process it reaches the bucket in a tenth of the time that a
    # forked child needs to make its clients. Longer jobs get a process of their own, whose memory goes with it.
    kind = _QuickWorker if names == [jobs.LIVE] else _ForkingWorker
    worker = kind(
        [open_queue(here.redis, name) for name in names],
        connection=here.redis,
        serializer=JSONSerializer,
        job_monitoring_interval=HEARTBEAT_S,
        work_horse_killed_handler=_say_what_killed,
    )
    worker.push_exc_handler(_say_what_failed)
    logging.getLogger("rq.worker").addFilter(lambda said: "exception raised while executing" not in said.msg)
    worker.work(with_scheduler=True, logging_level="WARNING")
    return 0


class _Stoppable(BaseWorker):
    """RQ ends an idle worker by an exception in its signal handler. Where that lands in a finalizer Python swallows it, and
    the worker would go on until it is killed: then a second signal ends it."""

    def _shutdown(self) -> None:
        again = threading.Timer(STOP_AGAIN_S, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        if self.get_state() != WorkerStatus.BUSY:
            again.start()
        super()._shutdown()  # type: ignore[no-untyped-call]


class _QuickWorker(_Stoppable, SimpleWorker):
    pass


class _ForkingWorker(_Stoppable, Worker):
    pass


def _say_what_failed(job: Job, kind: type[BaseException], error: BaseException, _: object) -> bool:
    """One line for an error whose message says what to do; the traceback only for what is our fault."""
    if isinstance(error, AbandonedJobError):
        return say_it_died(job)
    expected = isinstance(error, BridgeError)
    logging.getLogger("workers").error(
        "%s failed: %s", job.description, error, exc_info=None if expected else error
    )
    note_failure(job, reason_of("".join(traceback.format_exception_only(kind, error))))
    return True


def _say_what_killed(job: Job, _: int, status: int, __: object) -> None:
    """Called in the worker when a job's process is gone without having said why."""
    message = killed(os.WTERMSIG(status) if status and os.WIFSIGNALED(status) else None)
    logging.getLogger("workers").error("%s failed: %s", job.description, message)
    note_failure(job, message)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
