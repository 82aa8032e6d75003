"""A lock in Redis that a thread keeps: what it guards can be one long call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.exceptions import LockError

log = logging.getLogger(__name__)
TTL_S = 20
BEAT_S = 5


@contextmanager
def held(connection: redis.Redis, name: str, *, wait_s: float = 0) -> Iterator[bool]:
    """Yields whether the lock is ours. Nothing breaks when it runs out: writing looks before it writes."""
    lock = connection.lock(name, timeout=TTL_S, thread_local=False)
    if not lock.acquire(blocking=wait_s > 0, blocking_timeout=wait_s or None):
        yield False
        return
    done = threading.Event()

    def keep() -> None:
        while not done.wait(BEAT_S):
            try:
                lock.extend(TTL_S, replace_ttl=True)
            except LockError:
                return
            except redis.RedisError:
                continue

    keeper = threading.Thread(target=keep, daemon=True, name="prelabel-lock")
    keeper.start()
    try:
        yield True
    finally:
        done.set()
        keeper.join()
        try:
            lock.release()
        except (LockError, redis.RedisError):
            log.warning("the lock %s ran out before its work was done", name)
