"""The version each project wants, shared by backends on several machines: a hash in Redis, where there is one.

Label Studio sends a project's `extra_params` with /setup, to one of them. The book of the machine (versions.py) is written
too, and serves while Redis is away or has lost it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from bridge.edges import redis as redis_edge
from ml_backend.versions import VersionBook

log = logging.getLogger(__name__)
_REST_S = 10.0  # for which a Redis that did not answer is not asked


class SharedVersionBook(VersionBook):
    """Safe to use from several threads. Raises nothing. In the hash "" means the version that serves."""

    def __init__(
        self, folder: Path | None, connection: redis.Redis, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(folder, clock=clock)
        self._redis = connection
        self._asked_again_at = 0.0

    def want(self, project: str, version: str | None) -> None:
        super().want(project, version)
        told = self._in_redis(lambda: self._redis.hget(redis_edge.MODEL_WANTED, project))
        if told is None or _text(told) != (version or ""):
            self._in_redis(lambda: self._redis.hset(redis_edge.MODEL_WANTED, project, version or ""))

    def wanted(self, project: str) -> str | None:
        told = self._in_redis(lambda: self._redis.hget(redis_edge.MODEL_WANTED, project))
        return super().wanted(project) if told is None else _text(told) or None

    def _in_redis(self, ask: Callable[[], Any]) -> Any:
        """None when Redis does not answer."""
        if self._clock() < self._asked_again_at:
            return None
        try:
            return ask()
        except redis.RedisError as error:
            self._asked_again_at = self._clock() + _REST_S
            log.warning("versions that projects want are not shared with other backends: %s", error)
            return None


def _text(told: bytes | str) -> str:
    return told.decode() if isinstance(told, bytes) else told
