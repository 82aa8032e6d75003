"""Trainings, one at a time, on a thread, never while Label Studio waits. The rim."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from bridge.errors import BridgeError, Unavailable

log = logging.getLogger(__name__)
_WAITING = 1000
_REMEMBERED = 200  # projects of which the last outcome is told
_FOR_SETUP = ("problems", "left_out", "labels", "never_seen")
Say = Callable[[str], None]
Work = Callable[[Say], Mapping[str, Any]]
"""Trains, saying where it is; gives what came of it, `problems` among it. Raises BridgeError with what a person should know."""


class Background:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: OrderedDict[tuple[str, str], tuple[str, Work]] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._last_id = 0
        self._running = ""
        self._outcomes: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def add(self, project: str, kind: str, work: Work) -> str:
        """The id of a training that begins when those before it are done. One of the same project and kind that has not
        begun is replaced: it would learn from the same annotations. Raises Unavailable when too many wait."""
        with self._changed:
            key = (project, kind)
            if key in self._waiting:
                id = self._waiting[key][0]
            elif len(self._waiting) >= _WAITING:
                raise Unavailable(f"{_WAITING} trainings wait already", hint="try again later")
            else:
                self._last_id = max(self._last_id + 1, int(time.time()))
                id = str(self._last_id)
            self._waiting[key] = (id, work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="timeline-training", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return id

    def status(self) -> dict[str, Any]:
        """For /health, which is open to all: what runs, how many wait, and figures of the last one, without names of tasks."""
        with self._changed:
            shown: dict[str, Any] = {"running": self._running, "waiting": len(self._waiting)}
            if self._outcomes:
                shown |= next(reversed(self._outcomes.values()))
            if "done" in shown:
                shown["done"] = {name: it for name, it in shown["done"].items() if name not in _FOR_SETUP}
        return {"training": found} if (found := {name: it for name, it in shown.items() if it}) else {}

    def said(self, project: str) -> list[str]:
        """What a person should know of a project's last training."""
        with self._changed:
            outcome = self._outcomes.get(project, {})
        if failed := outcome.get("failed"):
            return [f"the last training failed: {failed}"]
        return list(outcome.get("done", {}).get("problems", ()))

    def flush(self, timeout_s: float = 60.0) -> None:
        """Wait until everything added so far is done; for tests."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._waiting and not self._running, timeout_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                (project, _), (id, work) = self._waiting.popitem(last=False)
                self._running = id
            self._run(project, id, work)

    def _run(self, project: str, id: str, work: Work) -> None:
        def say(what: str) -> None:
            self._running = f"{id}: project {project}, {what}"

        began = time.monotonic()
        outcome: dict[str, Any]
        try:
            outcome = {"done": {"id": id, "project": project, **work(say)}}
            log.info("training %s of project %s done after %.1f s", id, project, time.monotonic() - began)
        except BridgeError as error:
            outcome = {"failed": f"{id}: project {project}: {error}"}
            log.warning("training %s of project %s failed: %r", id, project, str(error))
        except Exception as error:
            outcome = {"failed": f"{id}: project {project}: {type(error).__name__}: {error}"}
            log.exception("training %s of project %s failed", id, project)
        with self._changed:
            self._outcomes.pop(project, None)
            self._outcomes[project] = outcome
            while len(self._outcomes) > _REMEMBERED:
                self._outcomes.popitem(last=False)
            self._running = ""
            self._changed.notify_all()
