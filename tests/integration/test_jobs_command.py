"""`jobs` with real jobs in a real Redis; and workers that are killed: their jobs are taken up again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from rq.job import Job, JobStatus
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.edges.queue import open_queue
from bridge.edges.s3 import S3Store
from bridge.failures import DIED
from bridge.settings import WorkersSettings
from sidecar.cli import cli
from sidecar.clients import Clients
from tests.unit.sidecar.fakes import ENVIRON, FakeLabelStudio
from workers.job_sweep import Sweep, take_up

ROOT = Path(__file__).parents[2]
UID = "3.1795312966"
AFTER_THE_HEARTBEAT_S = 75.0


@pytest.fixture
def clients(redis_client: redis.Redis, store: S3Store) -> Clients:
    from bridge.settings import SidecarSettings

    return Clients(
        settings=SidecarSettings.from_env(ENVIRON),
        label_studio=FakeLabelStudio(),  # type: ignore[arg-type]
        redis=redis_client,
        store=store,
        check_bucket=lambda: None,
    )


@pytest.fixture
def hung_store() -> Iterator[str]:
    """The address of a store that takes every connection and never answers."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(50)
        yield f"http://127.0.0.1:{one.getsockname()[1]}"


class Workers:
    """Real worker processes; those left over are killed at the end with all their children."""

    def __init__(self, settings: WorkersSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *queues: str, s3_url: str | None = None) -> subprocess.Popen[bytes]:
        s3 = self._settings.s3
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
            "PYTHONPATH": str(ROOT),
            "LABEL_STUDIO_URL": "http://127.0.0.1:9",
            "LABEL_STUDIO_API_KEY": "0" * 40,
            "REDIS_URL": self._settings.redis_url,
            "AWS_ENDPOINT_URL_S3": s3_url or s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": s3.access_key_id,
            "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
            "BUCKET": s3.bucket,
            "BUCKET_PREFIX": s3.bucket_prefix,
        }
        with (self._folder / f"worker-{len(self.started)}.log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers", *queues],
                cwd=self._folder,
                env=environment,
                stdout=output,
                stderr=output,
            )
        self.started.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """As when the machine goes away: the worker and everything it has started, all at once."""
        family = [process.pid, *children(process.pid)]
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.wait()


@pytest.fixture
def workers(workers_settings: WorkersSettings, tmp_path: Path, store: S3Store) -> Iterator[Workers]:
    made = Workers(workers_settings, tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            made.kill(process)


def children(pid: int) -> list[int]:
    try:
        found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*found, *(below for child in found for below in children(child))]


def sidecar(clients: Clients, *words: str) -> Result:
    return CliRunner().invoke(cli, ["jobs", *words], obj=clients, prog_name="python -m sidecar")


def listed(clients: Clients, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sidecar(clients, "list", "--json", *words).stdout)
    return found


def wait_for(what: str, check: Callable[[], object], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.1)


def status(connection: redis.Redis, id: str) -> JobStatus | None:
    if not Job.exists(id, connection=connection):
        return None
    return Job.fetch(id, connection=connection, serializer=JSONSerializer).get_status()


def fail_for_good(connection: redis.Redis, job: jobs.Job, text: str) -> str:
    """A job whose last try has failed, kept as RQ keeps it."""
    id = queue.enqueue(connection, job)
    one = Job.fetch(id, connection=connection, serializer=JSONSerializer)
    one.retries_left = 0
    with connection.pipeline() as pipe:
        one.set_status(JobStatus.FAILED, pipeline=pipe)
        one._handle_failure(text, pipe)
        pipe.execute()
    open_queue(connection, job.queue).remove(one)
    return id


TRACEBACK = """Traceback (most recent call last):
  File "workers/metrics.py", line 1, in refresh
    raise Unavailable("the bucket is away", hint="start it")
bridge.errors.Unavailable: the bucket is away (start it)
"""


def test_without_jobs_the_list_says_so(clients: Clients) -> None:
    assert "There are no jobs" in sidecar(clients, "list").output


def test_the_list_shows_what_waits_and_why_others_failed(clients: Clients) -> None:
    queue.enqueue(clients.redis, jobs.current(UID))
    id = fail_for_good(clients.redis, jobs.metrics(UID), TRACEBACK)
    shown = sidecar(clients, "list").output
    assert f"refresh current/ of {UID}" in shown
    assert "the bucket is away (start it)" in shown
    assert f"`python -m sidecar jobs retry {id[:8]}`" in shown
    assert "Traceback" not in shown
    assert [job["state"] for job in listed(clients)] == ["queued", "failed"]
    assert [job["id"] for job in listed(clients, "--failed")] == [id]
    assert listed(clients, "--queue", "media") == []


def test_show_begins_with_the_message_and_has_the_traceback_only_when_asked(clients: Clients) -> None:
    id = fail_for_good(clients.redis, jobs.metrics(UID), TRACEBACK)
    shown = sidecar(clients, "show", id[:8]).output
    assert shown.splitlines()[0] == "the bucket is away (start it)"
    assert "Traceback" not in shown
    assert "Traceback (most recent call last)" in sidecar(clients, "show", id, "--traceback").output
    as_json = json.loads(sidecar(clients, "show", id, "--json").stdout)
    assert as_json["reason"] == "the bucket is away (start it)"
    assert "traceback" not in as_json


def test_an_unknown_job_and_an_unclear_id_are_named(clients: Clients) -> None:
    for _ in range(40):  # with sixteen first digits, two begin alike
        queue.enqueue(clients.redis, jobs.current(UID))
    for word in ("show", "retry", "cancel"):
        unknown = sidecar(clients, word, "no-such-job")
        assert unknown.exit_code == 1
        assert "no-such-job" in unknown.stderr
    first = {job["id"][0] for job in listed(clients)}
    assert any("give more of the id" in sidecar(clients, "show", one).stderr for one in first)


def test_retry_gives_a_failed_job_all_its_tries_again(clients: Clients) -> None:
    id = fail_for_good(clients.redis, jobs.metrics(UID), TRACEBACK)
    assert sidecar(clients, "retry", id[:8]).exit_code == 0
    [job] = listed(clients)
    assert (job["id"], job["state"], job["tries_left"]) == (id, "queued", 4)
    again = sidecar(clients, "retry", id)
    assert again.exit_code == 1
    assert "queued" in again.stderr


@pytest.mark.parametrize("failed", [True, False])
def test_cancel_takes_a_job_away(clients: Clients, failed: bool) -> None:
    id = (
        fail_for_good(clients.redis, jobs.metrics(UID), TRACEBACK)
        if failed
        else queue.enqueue(clients.redis, jobs.metrics(UID))
    )
    assert "cancelled" in sidecar(clients, "cancel", id).output
    assert listed(clients) == []
    assert len(open_queue(clients.redis, jobs.METRICS)) == 0
    assert not Job.exists(id, connection=clients.redis)


def test_redis_away_is_one_line(clients: Clients) -> None:
    from dataclasses import replace

    from bridge.edges.redis import ingest_client

    away = replace(clients, redis=ingest_client("redis://127.0.0.1:9/0"))
    shown = sidecar(away, "list")
    assert shown.exit_code == 1
    assert "no answer from Redis" in shown.stderr
    assert "Traceback" not in shown.output


# --- with real workers


def test_a_failing_job_waits_longer_each_time_and_says_why(clients: Clients, workers: Workers) -> None:
    """The bucket of this worker is nowhere: the job fails, and waits for its second of five tries."""
    id = queue.enqueue(clients.redis, jobs.metrics(UID))
    workers.start(jobs.METRICS, s3_url="http://127.0.0.1:9")
    wait_for("the first try to fail", lambda: status(clients.redis, id) == JobStatus.SCHEDULED, 60)
    wait_for("its reason", lambda: listed(clients)[0]["reason"])
    [job] = listed(clients)
    assert (job["state"], job["tries_left"]) == ("waits to retry", 3)
    assert "127.0.0.1:9" in job["reason"]
    assert "tried again in" in sidecar(clients, "list").output
    assert sidecar(clients, "retry", id).exit_code == 0


def test_a_running_job_is_stopped_and_can_be_retried(
    clients: Clients, workers: Workers, hung_store: str
) -> None:
    id = queue.enqueue(clients.redis, jobs.metrics(UID))
    workers.start(jobs.METRICS, s3_url=hung_store)
    wait_for("the job to run", lambda: status(clients.redis, id) == JobStatus.STARTED)
    wait_for("the work-horse", lambda: clients.redis.exists(names.metrics_lock(UID)))
    assert listed(clients)[0]["state"] == "running"
    assert "nothing to retry" in sidecar(clients, "retry", id).stderr
    assert "stopped" in sidecar(clients, "cancel", id).output
    [job] = listed(clients, "--failed")
    assert (job["state"], job["reason"]) == ("stopped", "stopped by a person")
    again = sidecar(clients, "retry", id)
    assert again.exit_code == 0, again.output


def test_a_killed_work_horse_costs_one_try(clients: Clients, workers: Workers, hung_store: str) -> None:
    id = queue.enqueue(clients.redis, jobs.metrics(UID))
    worker = workers.start(jobs.METRICS, s3_url=hung_store)
    wait_for("the work-horse", lambda: clients.redis.exists(names.metrics_lock(UID)))
    for pid in children(worker.pid):
        if os.getpgid(pid) == pid:  # RQ gives each work-horse a group of its own
            os.kill(pid, signal.SIGKILL)
    wait_for("the retry", lambda: status(clients.redis, id) == JobStatus.SCHEDULED)
    assert "signal 9" in listed(clients)[0]["reason"]


def test_the_job_of_a_killed_worker_is_taken_up_and_finished_by_another(
    clients: Clients, workers: Workers, hung_store: str
) -> None:
    connection = clients.redis
    id = queue.enqueue(connection, jobs.metrics(UID))
    worker = workers.start(jobs.METRICS, s3_url=hung_store)
    wait_for("the work-horse", lambda: connection.exists(names.metrics_lock(UID)))
    workers.kill(worker)
    assert take_up(connection, now=time.time()) == [], "its heartbeat has not run out yet"
    assert status(connection, id) == JobStatus.STARTED
    assert take_up(connection, now=time.time() + AFTER_THE_HEARTBEAT_S) == [id]
    [job] = listed(clients)
    assert (job["state"], job["reason"], job["tries_left"]) == ("waits to retry", DIED, 3)

    # The lock of the dead worker's scheduler outlives it by a minute; here that minute has passed. So it has for the
    # lock of the job itself.
    assert connection.delete(RQScheduler.get_locking_key(jobs.METRICS)) == 1
    connection.delete(names.metrics_lock(UID))
    now = time.time()
    sweep = Sweep(connection, clock=lambda: now)
    for _ in range(5):
        now += 6
        sweep.tick()
    wait_for("its wait to end", lambda: sweep.tick() or _tick(sweep, id, connection), 20)
    workers.start(jobs.METRICS)
    wait_for("another worker to finish it", lambda: status(connection, id) is None)
    assert json.loads(clients.store.get(f"team-a/projects/{UID}/metrics/summary.json"))["project"] == UID
    sweep.stop()
    assert not connection.exists(RQScheduler.get_locking_key(jobs.METRICS))


def _tick(sweep: Sweep, id: str, connection: redis.Redis) -> bool:
    sweep._looked_at = float("-inf")
    sweep.tick()
    return status(connection, id) == JobStatus.QUEUED


def test_a_job_without_tries_left_fails_in_words_when_its_worker_dies(
    clients: Clients, workers: Workers, hung_store: str
) -> None:
    id = queue.enqueue(clients.redis, jobs.metrics(UID))
    worker = workers.start(jobs.METRICS, s3_url=hung_store)
    wait_for("the work-horse", lambda: clients.redis.exists(names.metrics_lock(UID)))
    workers.kill(worker)
    clients.redis.hset(f"rq:job:{id}", "retries_left", 0)
    take_up(clients.redis, now=time.time() + AFTER_THE_HEARTBEAT_S)
    [job] = listed(clients)
    assert (job["state"], job["reason"]) == ("failed", DIED)


def test_a_job_taken_by_a_worker_that_died_before_it_began_is_put_back(clients: Clients) -> None:
    connection = clients.redis
    id = queue.enqueue(connection, jobs.metrics(UID))
    taken = open_queue(connection, jobs.METRICS)
    connection.lmove(taken.key, taken.intermediate_queue.key)
    now = time.time()
    sweep = Sweep(connection, clock=lambda: now)
    assert [job["id"] for job in listed(clients)] == [id], "it is shown all the while"
    assert sweep.tick() == []
    now += 40
    assert sweep.tick() == [id]
    assert taken.get_job_ids() == [id]
    assert taken.intermediate_queue.get_job_ids() == []
    now += 40
    assert sweep.tick() == []
    sweep.stop()


def test_the_sweep_leaves_a_living_workers_job_and_lock_alone(
    clients: Clients, workers: Workers, hung_store: str
) -> None:
    connection = clients.redis
    id = queue.enqueue(connection, jobs.metrics(UID))
    workers.start(jobs.METRICS, s3_url=hung_store)
    wait_for("the work-horse", lambda: connection.exists(names.metrics_lock(UID)))
    owner = connection.get(RQScheduler.get_locking_key(jobs.METRICS))
    now = time.time()
    sweep = Sweep(connection, clock=lambda: now)
    for _ in range(5):
        now += 6
        assert sweep.tick() == []
    assert status(connection, id) == JobStatus.STARTED
    assert connection.get(RQScheduler.get_locking_key(jobs.METRICS)) == owner
    sweep.stop()
