"""fit() of somebody's own model: one at a time, on a thread, never while Label Studio waits. The rim.

A training of the 1.x contract answers a `train_output`, which the next model is made with: it is kept as
{folder}/{id}/job_result.json. The 2.x contract keeps what it learnt by itself.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bridge.errors import Unavailable
from ml_backend import own_contract

log = logging.getLogger(__name__)
_WAITING = 1000
_RESULT = "job_result.json"


class Trainings:
    """Safe to use from several threads. `done` is called after each training that worked."""

    def __init__(self, folder: Path, *, done: Callable[[], None]) -> None:
        self._folder = folder
        self._done = done
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue(maxsize=_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._last_id = 0
        self._running = ""
        self._failed = ""

    def add(self, cls: type, make: Callable[[], Any], event: str, data: Mapping[str, Any]) -> str:
        """The id of a training that begins when those before it are done. Raises Unavailable when too many wait."""
        with self._lock:
            self._last_id = max(self._last_id + 1, int(time.time()))
            id = str(self._last_id)
            try:
                self._queue.put_nowait(lambda: self._run(cls, make, event, data, id))
            except queue.Full:
                raise Unavailable(f"{_WAITING} trainings wait already", hint="try again later") from None
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="own-training", daemon=True)
                self._thread.start()
        return id

    def newest(self) -> tuple[str, Mapping[str, Any]]:
        """The id of the last training that left something, and what; ("", {}) when none did."""
        found = [path for path in self._folder.glob(f"*/{_RESULT}") if path.parent.name.isdigit()]
        for path in sorted(found, key=lambda path: int(path.parent.name), reverse=True):
            try:
                output = json.loads(path.read_text())
            except (OSError, ValueError):
                log.warning("%s cannot be read and is passed over", path.name)
                continue
            if isinstance(output, dict):
                return path.parent.name, output
        return "", {}

    def status(self) -> dict[str, Any]:
        """For /health: what runs, how many wait, and why the last one failed."""
        waiting = self._queue.qsize()
        if not (self._running or waiting or self._failed):
            return {}
        shown: dict[str, Any] = {"running": self._running, "waiting": waiting, "failed": self._failed}
        return {"training": {name: value for name, value in shown.items() if value}}

    def flush(self) -> None:
        """Wait until everything added so far is done; for tests."""
        self._queue.join()

    def _work(self) -> None:
        while True:
            work = self._queue.get()
            try:
                work()
            finally:
                self._queue.task_done()

    def _run(self, cls: type, make: Callable[[], Any], event: str, data: Mapping[str, Any], id: str) -> None:
        self._running = id
        started = time.monotonic()
        try:
            workdir = self._folder / id
            output = own_contract.train(make().model, event, data, workdir=workdir, job_id=id)
            if own_contract.contract_of(cls) == "1.x" and isinstance(output, dict):
                partial = workdir / f"{_RESULT}.partial"
                partial.write_text(json.dumps(output | {"job_id": id}))
                partial.replace(workdir / _RESULT)
        except BaseException as error:
            self._failed = f"{id}: {type(error).__name__}: {error}"
            log.exception("training %s (%s) failed", id, event)
        else:
            self._failed = ""
            log.info("training %s (%s) done after %.1f s", id, event, time.monotonic() - started)
            self._done()
        finally:
            self._running = ""
