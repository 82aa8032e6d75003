"""Ask an ML backend for the predictions of a chunk: requests as large as it answers in time, patience where it is busy.

A request that ends without an answer is asked again in halves, so that the one task at fault is found; alone, it has two
tries. What is predicted is handed on after each request: a worker that dies loses one request.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bridge.edges.ml_backend import Cut, Down
from bridge.errors import Busy, Unavailable
from bridge.prelabel import Later, Pace, Predicted, Wrong, read_item

log = logging.getLogger(__name__)
CUT_TRIES = 2
LATER_TRIES = 4
SILENT = 3  # tasks in a row that were asked alone without an answer: then it is the backend
PATIENCE_S = 120.0  # before the queue's own waits take over
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 20.0

Task = dict[str, Any]


class Keep(Protocol):
    """Where results go; bridge.edges.prelabel.Ledger is one."""

    def stage(self, rows: dict[int, Sequence[dict[str, Any]]], /) -> None: ...
    def fail(self, reasons: dict[int, str], /) -> None: ...
    def tried(self, id: int, /) -> int: ...


class Predictions:
    """Predict some tasks. `ask` sends one request; `after_batch` is called after each and says whether to go on."""

    def __init__(
        self,
        *,
        ask: Callable[[Sequence[Task]], list[Any]],
        keep: Keep,
        version: str,
        asked: str,
        pace: Pace,
        after_batch: Callable[[], bool],
        say: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._keep, self._version, self._asked = ask, keep, version, asked
        self.pace = pace
        self._after_batch, self._say, self._sleep, self._clock = after_batch, say, sleep, clock
        self.versions: set[str] = set()

    def run(self, tasks: Sequence[Task]) -> bool:
        """Until every task is predicted or failed; False when told to stop. Raises Unavailable while the backend is away,
        Refused when it does not let us in."""
        queue = deque(tasks)
        silent = 0
        while queue:
            batch = [queue.popleft() for _ in range(min(self.pace.size, len(queue)))]
            began = self._clock()
            try:
                items = self._patiently(batch)
            except Cut as error:
                log.warning("%d tasks: %s", len(batch), error)
                if len(batch) > 1:
                    self.pace = self.pace.smaller(len(batch))
                    queue.extendleft(reversed(batch))
                    continue
                silent += 1
                if self._keep.tried(batch[0]["id"]) >= CUT_TRIES:
                    self._keep.fail({batch[0]["id"]: str(error)})
                else:
                    queue.append(batch[0])
                if silent >= SILENT:
                    raise Unavailable(
                        f"{silent} requests for single tasks had no answer; the last: {error}"
                    ) from error
            else:
                silent = 0
                self._say("")  # whatever was waited for is there again
                again = self._take(batch, items, self._clock() - began)
                queue.extend(again)
                if again and len(again) == len(queue):
                    self._sleep(_FIRST_WAIT_S)  # only such are left as were not done a moment ago
            if not self._after_batch():
                return False
        return True

    def _patiently(self, batch: Sequence[Task]) -> list[Any]:
        """One answer, however often the backend says that it is busy or away."""
        wait_s, waited_s = _FIRST_WAIT_S, 0.0
        while True:
            try:
                return self._ask(batch)
            except (Busy, Down) as error:
                if waited_s >= PATIENCE_S:
                    raise
                self._say(f"waits: {error}")
                self._sleep(wait_s)
                waited_s += wait_s
                wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)
                if not self._after_batch():
                    raise Stopped from error

    def _take(self, batch: Sequence[Task], items: Sequence[Any], seconds: float) -> list[Task]:
        """Hand on what was answered; returns the tasks to ask again."""
        made: dict[int, Sequence[dict[str, Any]]] = {}
        wrong: dict[int, str] = {}
        again: list[Task] = []
        read = [read_item(item, version=self._version, asked=self._asked) for item in items]
        # Where some are done, the others were too many for the backend's own time: that is no try of theirs.
        counts = not any(isinstance(found, Predicted) for found in read)
        for task, found in zip(batch, read, strict=True):
            if isinstance(found, Predicted):
                made[task["id"]] = found.rows
                self.versions |= {row["model_version"] for row in found.rows}
            elif isinstance(found, Wrong):
                wrong[task["id"]] = found.reason
            elif isinstance(found, Later) and (not counts or self._keep.tried(task["id"]) < LATER_TRIES):
                again.append(task)
            else:
                wrong[task["id"]] = found.reason
        self._keep.stage(made)
        self._keep.fail(wrong)
        done = len(batch) - len(again)
        self.pace = self.pace.at_most(done) if again else self.pace.after(done, seconds)
        return again


class Stopped(Exception):
    """A person stopped the job while the backend was being waited for."""
