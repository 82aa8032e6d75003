"""What the model did, told to the record. Never slows or breaks a prediction: what Redis does not take is dropped
and counted.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol

from bridge.keys import project_id_of
from bridge.records import format_time
from ml_backend.predict import TaskResult

log = logging.getLogger(__name__)
_ROOM = 500  # requests waiting for Redis; of one task each a few MB
_END_S = 3.0  # for what waits when the program ends
_BODY_BYTES = (
    512 * 1024
)  # one write to Redis, which has 250 ms; "Retrieve predictions" can be ten thousand tasks


class InferenceLog(Protocol):
    def append(self, project_uid: str, records: list[dict[str, Any]]) -> None:
        """Returns at once; raises nothing."""


class NoInferenceLog:
    """For a backend without Redis: nothing is kept."""

    def append(self, project_uid: str, records: list[dict[str, Any]]) -> None:
        pass


class BackgroundInferenceLog:
    """Hands records to `send(project_uid, body)` on a thread of its own, in order."""

    def __init__(
        self, send: Callable[[str, bytes], None], *, dropped: Callable[[int], None], room: int = _ROOM
    ) -> None:
        self._send = send
        self._dropped = dropped
        self._queue: queue.Queue[tuple[str, list[dict[str, Any]]]] = queue.Queue(maxsize=room)
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()
        self._failing = False

    def append(self, project_uid: str, records: list[dict[str, Any]]) -> None:
        try:
            project_id_of(project_uid)
        except ValueError:
            return  # a request that no Label Studio project made: there is no log to write it to
        if not records:
            return
        try:
            self._queue.put_nowait((project_uid, records))
        except queue.Full:
            self._dropped(len(records))
            return
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="inference-log", daemon=True)
                self._thread.start()
                atexit.register(self.flush, _END_S)

    def flush(self, most_s: float = 60.0) -> None:
        """Wait until everything appended so far was sent or dropped; for the end of the program, and tests."""
        until = time.monotonic() + most_s
        with self._queue.all_tasks_done:
            while self._queue.unfinished_tasks and (left := until - time.monotonic()) > 0:
                self._queue.all_tasks_done.wait(left)

    def _run(self) -> None:
        while True:
            uid, records = self._queue.get()
            left = len(records)
            try:
                for body, count in bodies(records):
                    self._send(uid, body)
                    left -= count
                self._failing = False
            except Exception as error:
                self._dropped(left)
                if not self._failing:  # once for each time that Redis goes away, not once a request
                    log.warning("inference records are being dropped: %s", error)
                self._failing = True
            finally:
                self._queue.task_done()


def bodies(records: Sequence[dict[str, Any]], max_bytes: int = _BODY_BYTES) -> Iterator[tuple[bytes, int]]:
    """The records in as few bodies as keep below a size, each with how many it holds; one that is larger goes alone."""
    together: list[bytes] = []
    size = 0
    for record in records:
        line = json.dumps(record, separators=(",", ":")).encode()
        if together and size + len(line) > max_bytes:
            yield _body(together), len(together)
            together, size = [], 0
        together.append(line)
        size += len(line) + 1
    if together:
        yield _body(together), len(together)


def _body(lines: Sequence[bytes]) -> bytes:
    return b'{"action":"INFERENCE","inferences":[' + b",".join(lines) + b"]}"


def inference_records(
    results: Sequence[TaskResult],
    *,
    model_version: str,
    seconds: float,
    at: datetime,
    interactive: bool = False,
) -> list[dict[str, Any]]:
    """One record a task: version, time of the whole request and of its steps, boxes for each label, scores, and the
    regions: Label Studio tells nobody of the predictions it stores, and people's work is compared with them.

    `interactive`: answers to what a person drew, which Label Studio stores nowhere. Pure but for the id."""
    request_id = uuid.uuid4().hex
    records = []
    for index, result in enumerate(results):
        record: dict[str, Any] = {
            "id": f"{request_id}-{index}",
            "created_at": format_time(at),
            "task": result.task_id,
            "model_version": model_version,
            "request_seconds": round(seconds, 4),
            "request_tasks": len(results),
            "labels": result.label_counts(),
            "scores": [round(score, 4) for score in scores_of(result)],
            "regions": list(result.regions),
        }
        if result.problem is not None:
            record["problem"] = result.problem.reason
        if result.timing is not None:
            record["timing"] = {
                name: round(value, 4) if isinstance(value, float) else value
                for name, value in asdict(result.timing).items()
            }
        if interactive:
            record["interactive"] = True
        records.append(record)
    return records


def scores_of(result: TaskResult) -> list[float]:
    """Those of its regions that have one; somebody's own model may leave it out."""
    found = [region.get("score") for region in result.regions]
    return [float(score) for score in found if isinstance(score, int | float) and math.isfinite(score)]


def send_to_redis(redis_url: str) -> Callable[[str, bytes], None]:
    """What appends one body to a project's stream, within 250 ms or not at all."""
    from bridge.edges import redis as redis_edge
    from bridge.edges import stream

    connection = redis_edge.ingest_client(redis_url)

    def send(project_uid: str, body: bytes) -> None:
        entry = stream.Entry(
            event_id=uuid.uuid4().hex,
            received_at=datetime.now(UTC),
            source="ml_backend",
            action="INFERENCE",
            body=body,
        )
        stream.append(connection, project_uid, entry)

    return send
