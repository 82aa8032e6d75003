"""Records of what the model did never hold a prediction up."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import Any

from ml_backend.inference_log import BackgroundInferenceLog, bodies, inference_records, send_to_redis
from ml_backend.predict import TaskResult
from tests.unit.ml_backend.helpers import PROJECT


def test_records_are_sent_in_the_form_that_the_drain_reads() -> None:
    sent: list[tuple[str, bytes]] = []
    log = BackgroundInferenceLog(lambda uid, body: sent.append((uid, body)), dropped=lambda _count: None)
    log.append(PROJECT, [{"id": "a", "task": 1}])
    log.flush()
    [(uid, body)] = sent
    assert uid == PROJECT
    assert json.loads(body) == {"action": "INFERENCE", "inferences": [{"id": "a", "task": 1}]}


def test_a_failing_redis_costs_the_records_and_is_counted() -> None:
    dropped: list[int] = []

    def fails(_uid: str, _body: bytes) -> None:
        raise ConnectionError("no Redis")

    log = BackgroundInferenceLog(fails, dropped=dropped.append)
    log.append(PROJECT, [{"id": "a"}, {"id": "b"}])
    log.append(PROJECT, [{"id": "c"}])
    log.flush()
    assert dropped == [2, 1]


def test_a_hanging_redis_holds_nobody_up() -> None:
    gate = threading.Event()
    dropped: list[int] = []
    log = BackgroundInferenceLog(lambda _uid, _body: gate.wait(10), dropped=dropped.append, room=2)  # type: ignore[arg-type, return-value]
    for _ in range(10):
        log.append(PROJECT, [{"id": "a"}])
    assert sum(dropped) >= 7  # two in the queue, one being sent
    gate.set()
    log.flush()


def test_a_request_of_no_project_leaves_no_record() -> None:
    sent: list[str] = []
    log = BackgroundInferenceLog(lambda uid, _body: sent.append(uid), dropped=lambda _count: None)
    for uid in ("", "3", "../x", "3.1/../2.1"):
        log.append(uid, [{"id": "a"}])
    log.append(PROJECT, [])
    log.flush()
    assert sent == []


def test_no_connection_is_made_before_there_is_something_to_send() -> None:
    assert callable(send_to_redis("redis://127.0.0.1:9/0"))


def test_a_record_holds_the_regions_that_people_are_compared_with() -> None:
    region = {
        "id": "a",
        "type": "rectanglelabels",
        "value": {"x": 1, "rectanglelabels": ["Cat"]},
        "score": 0.5,
    }
    [record] = inference_records(
        [TaskResult(task_id=7, regions=(region,))],
        model_version="v",
        seconds=0.2,
        at=datetime(2026, 11, 22, tzinfo=UTC),
    )
    assert record["regions"] == [region]
    assert record["labels"] == {"Cat": 1}


def test_a_large_request_is_told_in_several_small_bodies() -> None:
    records: list[dict[str, Any]] = [{"id": str(n), "text": "x" * 30} for n in range(10)] + [
        {"id": "big", "text": "x" * 500}
    ]
    found = list(bodies(records, max_bytes=200))
    assert all(len(body) < 300 for body, count in found if count > 1)
    assert sum(count for _, count in found) == 11
    told = [item for body, _ in found for item in json.loads(body)["inferences"]]
    assert told == records
