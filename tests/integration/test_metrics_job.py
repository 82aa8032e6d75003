"""metrics/ made by the job, with a real Redis and a real HTTP store; and what a reader sees when it dies half-way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.edges.queue import open_queue
from bridge.edges.s3 import S3Store
from bridge.errors import Unavailable
from bridge.records import Record
from bridge.settings import LabelStudioSettings, SidecarSettings, WorkersSettings
from sidecar.app import create_app
from sidecar.cli import cli
from sidecar.clients import Clients
from tests.unit.sidecar.fakes import FakeLabelStudio
from tests.unit.test_metrics_of_state import annotation, box, example, inference
from workers import context, metrics

UID = "3.1795312966"  # project 3 of the fake Label Studio
TOKEN = {"Authorization": "Bearer a-token-of-the-tests"}


@pytest.fixture
def here(
    workers_settings: WorkersSettings, redis_client: redis.Redis, store: S3Store, _no_context_left: None
) -> context.Context:
    made = context.Context(workers_settings, connection=redis_client, store=store)
    context.install(made)
    return made


@pytest.fixture
def sidecar_settings(workers_settings: WorkersSettings, tmp_path: Path) -> SidecarSettings:
    return SidecarSettings(
        label_studio=LabelStudioSettings(url="http://127.0.0.1:9", api_key="0" * 40),
        s3=workers_settings.s3,
        redis_url=workers_settings.redis_url,
        webhook_secret="a-secret-of-the-tests",
        api_token="a-token-of-the-tests",
        spool_dir=str(tmp_path / "spool"),
    )


@pytest.fixture
def clients(here: context.Context, sidecar_settings: SidecarSettings) -> Clients:
    return Clients(
        settings=sidecar_settings,
        label_studio=FakeLabelStudio(),  # type: ignore[arg-type]
        redis=here.redis,
        store=here.store,
        check_bucket=lambda: None,
    )


def write_log(here: context.Context, records: list[Record]) -> None:
    here.log_writer(UID).append(records)
    here.redis.sadd(names.STREAMS, UID)


def summary(here: context.Context) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(here.store.get(here.layout(UID).metrics_summary))
    return found


def keys(here: context.Context) -> list[str]:
    return [info.key for info in here.store.keys(here.layout(UID).metrics_prefix)]


def run_worker(here: context.Context) -> None:
    work = [open_queue(here.redis, jobs.METRICS)]
    SimpleWorker(work, connection=here.redis, serializer=JSONSerializer).work(burst=True)


def sidecar(clients: Clients, *words: str) -> Result:
    return CliRunner().invoke(cli, words, obj=clients, prog_name="python -m sidecar")


def test_the_queued_job_writes_the_example_of_the_page(here: context.Context) -> None:
    write_log(here, example())
    queue.enqueue(here.redis, jobs.metrics(UID))
    run_worker(here)
    found = summary(here)
    assert found["project"] == UID
    assert found["position"] == here.redis.get(names.last_key(UID)).decode()  # type: ignore[union-attr]
    assert (found["versions"][0]["precision"], found["versions"][0]["recall"]) == (0.5, 0.6)
    assert not found["baseline_complete"]
    body = here.store.get(found["rows"]["key"])
    assert len(body) == found["rows"]["size_bytes"]
    assert [json.loads(line)["annotation"] for line in body.splitlines()] == [1, 2, 3, 4, 5]
    assert found["rows"]["count"] == 5


def test_running_it_twice_writes_nothing_more(here: context.Context) -> None:
    write_log(here, example())
    metrics.refresh(UID)
    before = {
        info.key: (info.last_modified, info.md5) for info in here.store.keys(here.layout(UID).metrics_prefix)
    }
    made_at = summary(here)["made_at"]
    metrics.refresh(UID)
    after = {
        info.key: (info.last_modified, info.md5) for info in here.store.keys(here.layout(UID).metrics_prefix)
    }
    assert before == after
    assert summary(here)["made_at"] == made_at


def test_the_rows_of_the_summary_before_stay_for_its_readers(here: context.Context) -> None:
    write_log(here, example())
    metrics.refresh(UID)
    rows = [summary(here)["rows"]["key"]]
    for number in (6, 7):
        write_log(here, [annotation(number, 1, 1, [], at=200 + number)])
        metrics.refresh(UID)
        rows.append(summary(here)["rows"]["key"])
    assert len(set(rows)) == 3
    assert keys(here) == sorted([*rows[1:], here.layout(UID).metrics_summary])


class FailingStore:
    """The real store, of which one verb fails."""

    def __init__(self, real: S3Store, verb: str) -> None:
        self._real = real
        self._verb = verb

    def __getattr__(self, name: str) -> Any:
        if name != self._verb:
            return getattr(self._real, name)

        def fails(*_: Any, **__: Any) -> None:
            raise Unavailable("the store is away")

        return fails


@pytest.mark.parametrize("verb", ["upload", "put", "delete"])
def test_a_run_that_dies_between_two_writes_leaves_a_whole_summary_and_the_next_finishes(
    here: context.Context, verb: str
) -> None:
    write_log(here, example())
    metrics.refresh(UID)
    write_log(here, [annotation(6, 1, 1, [], at=200)])
    metrics.refresh(UID)
    write_log(here, [annotation(7, 1, 1, [], at=300)])
    broken = context.Context(here.settings, connection=here.redis, store=FailingStore(here.store, verb))  # type: ignore[arg-type]
    context.install(broken)
    with pytest.raises(Unavailable):
        metrics.refresh(UID)
    found = summary(here)
    assert len(here.store.get(found["rows"]["key"])) == found["rows"]["size_bytes"]
    context.install(here)
    metrics.refresh(UID)
    assert summary(here)["annotations"]["all"] == 7


def test_a_damaged_log_object_costs_itself_only(here: context.Context) -> None:
    write_log(here, example())
    here.store.put(here.layout(UID).log_prefix + "2026/11/22/1795312966000-0123456789abcdef.jsonl", b"{half")
    metrics.refresh(UID)
    assert summary(here)["annotations"]["all"] == 5


def test_two_runs_at_once_do_the_work_once(here: context.Context) -> None:
    write_log(here, example())
    lock = here.redis.lock(names.metrics_lock(UID), timeout=20)
    assert lock.acquire(blocking=False)
    metrics.refresh(UID)
    assert keys(here) == []
    lock.release()
    metrics.refresh(UID)
    assert summary(here)["annotations"]["all"] == 5


# --- the sweep


def enqueued(here: context.Context) -> int:
    return len(open_queue(here.redis, jobs.METRICS))


def test_many_events_cost_one_run_and_the_last_one_is_never_left_out(here: context.Context) -> None:
    for number in range(5):
        write_log(here, [annotation(number, 1, 1, [], at=200 + number)])
        metrics.sweep(here.redis)
    assert enqueued(here) == 1
    run_worker(here)
    assert metrics.sweep(here.redis) == [], "nothing is new"
    write_log(here, [annotation(9, 1, 1, [], at=300)])
    assert metrics.sweep(here.redis) == [], "the pause after a run holds"
    here.redis.delete(names.metrics_pause(UID))
    assert metrics.sweep(here.redis) == [UID]
    run_worker(here)
    assert summary(here)["annotations"]["all"] == 6


def test_a_job_that_waits_for_the_bucket_is_not_enqueued_a_second_time(here: context.Context) -> None:
    write_log(here, example())
    context.install(
        context.Context(here.settings, connection=here.redis, store=FailingStore(here.store, "keys"))  # type: ignore[arg-type]
    )
    assert metrics.sweep(here.redis) == [UID]
    run_worker(here)
    here.redis.delete(names.metrics_pause(UID))
    assert metrics.sweep(here.redis) == []
    assert enqueued(here) == 0


# --- the command and the API


@pytest.fixture
def worker(here: context.Context) -> Iterator[None]:
    """A worker of the metrics, beside the test."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            waiting = open_queue(here.redis, jobs.METRICS)
            for id in waiting.get_job_ids():
                if (job := waiting.fetch_job(id)) is not None:
                    metrics.refresh(*job.args)
                    waiting.remove(job)
                    job.delete()
            time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_refresh_waits_for_the_numbers_and_shows_them(
    here: context.Context, clients: Clients, worker: None
) -> None:
    write_log(here, example())
    for project in ("3", "Animals", UID):
        shown = sidecar(clients, "metrics", project, "--refresh")
        assert shown.exit_code == 0, shown.output
        assert "0.500 precision, 0.600 recall, 0.867 mean IoU" in shown.output
        assert "median 6 s, mean 6.6667 s (3) with a prediction" in shown.output
        assert all(len(line) <= 120 for line in shown.output.splitlines())
    as_json = sidecar(clients, "metrics", "3", "--json")
    assert json.loads(as_json.stdout) == summary(here)


def test_before_the_first_run_the_command_says_how_to_make_them(clients: Clients) -> None:
    shown = sidecar(clients, "metrics", "3")
    assert shown.exit_code == 1
    assert "--refresh" in shown.stderr


def test_a_job_that_nobody_takes_is_told_instead_of_old_numbers(
    here: context.Context, clients: Clients
) -> None:
    write_log(here, example())
    metrics.refresh(UID)
    shown = sidecar(clients, "metrics", "3", "--refresh", "--wait", "0.5")
    assert shown.exit_code == 1
    assert "is a worker of the queue `metrics` running?" in shown.stderr


def test_the_numbers_are_there_though_label_studio_is_gone(here: context.Context, clients: Clients) -> None:
    write_log(here, [*example(), inference(9, 9, [box("Cat", 1, 1)], version="other")])
    metrics.refresh(UID)
    away = FakeLabelStudio()
    away.down = True
    shown = sidecar(replace(clients, label_studio=away), "metrics", "3")  # type: ignore[arg-type]
    assert shown.exit_code == 0, shown.output
    assert "Model version other" in shown.output


@pytest.fixture
def api(sidecar_settings: SidecarSettings, here: context.Context) -> FlaskClient:
    return create_app(sidecar_settings).test_client()


def test_the_api_answers_the_summary_and_asks_for_a_new_one(here: context.Context, api: FlaskClient) -> None:
    path = "/api/projects/3/metrics"
    assert api.get(path).status_code == 401
    assert api.post(path).status_code == 401
    write_log(here, example())
    assert api.get(path, headers=TOKEN).status_code == 404
    asked = api.post(path, headers=TOKEN)
    assert asked.status_code == 202
    run_worker(here)
    answer = api.get(path, headers=TOKEN)
    assert answer.status_code == 200
    assert answer.get_json() == summary(here)
