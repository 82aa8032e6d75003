"""A lock in Redis that a thread keeps: what it guards can be one long call, such as an upload or an export."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.exceptions import LockError
from redis.lock import Lock

from bridge.errors import Unavailable

log = logging.getLogger(__name__)
TTL_S = 20


class LockLost(Unavailable):
    """The lock ran out while its holder worked: another worker may be at it, so this one stops and comes again."""


class Kept:
    """A lock that is ours as long as calling this raises nothing."""

    def __init__(self, lock: Lock, *, ttl_s: float) -> None:
        self._lock, self._ttl_s = lock, ttl_s
        self._good_until = time.monotonic() + ttl_s
        self._lost = False

    def __call__(self, *, now: bool = False) -> None:
        """Raises LockLost. Costs nothing, unless `now` has Redis asked: before what must not be done twice at once."""
        if now:
            self.extend()
        # A process that stood still, or was without Redis, for longer than the lock lives holds it no more.
        if self._lost or time.monotonic() > self._good_until:
            raise LockLost(f"the lock {self._lock.name} ran out before its work was done")

    def extend(self) -> None:
        asked = time.monotonic()
        try:
            self._lock.extend(self._ttl_s, replace_ttl=True)
        except LockError:
            self._lost = True
        except redis.RedisError:
            return  # it lives until its time is over
        else:
            self._good_until = asked + self._ttl_s


@contextmanager
def held(
    connection: redis.Redis, name: str, *, ttl_s: float = TTL_S, wait_s: float = 0
) -> Iterator[Kept | None]:
    """Yields the lock, or None when another holds it. It can run out all the same (`ttl_s` seconds without Redis): what it
    guards must be safe to do twice, and long work asks from time to time (`Kept`)."""
    lock = connection.lock(name, timeout=ttl_s, thread_local=False)
    if not lock.acquire(blocking=wait_s > 0, blocking_timeout=wait_s or None):
        yield None
        return
    kept, done = Kept(lock, ttl_s=ttl_s), threading.Event()

    def keep() -> None:
        while not done.wait(ttl_s / 4):
            kept.extend()

    keeper = threading.Thread(target=keep, daemon=True, name="kept-lock")
    keeper.start()
    try:
        yield kept
    finally:
        done.set()
        keeper.join()
        try:
            lock.release()
        except (LockError, redis.RedisError):
            log.warning("the lock %s ran out before its work was done", name)
