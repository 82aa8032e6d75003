"""A running job says how far it is, into its own `job.meta`; `python -m sidecar jobs` shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from rq import get_current_job

from bridge.progress import META, Progress

EVERY_S = 1.0


class Reporter:
    """Call it as often as you like: it writes once a second. Outside of a job it does nothing."""

    def __init__(
        self, unit: str, *, total: int | None, now: Callable[[], datetime], done_at_start: int = 0
    ) -> None:
        self._unit = unit
        self._total = total
        self._now = now
        self._began_at = now()
        self._done_at_start = done_at_start
        self._said = float("-inf")

    def __call__(self, done: int) -> None:
        """Raises redis.RedisError."""
        job = get_current_job()
        if job is None or time.monotonic() - self._said < EVERY_S:
            return
        self._said = time.monotonic()
        progress = Progress(
            done=done,
            total=self._total,
            unit=self._unit,
            began_at=self._began_at,
            updated_at=self._now(),
            done_at_start=self._done_at_start,
        )
        job.meta[META] = progress.to_json()
        job.save_meta()
