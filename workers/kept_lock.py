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


@contextmanager
def held(connection: redis.Redis, name: str, *, ttl_s: int = TTL_S, wait_s: float = 0) -> Iterator[bool]:
    """Yields whether the lock is ours. It can run out all the same (`ttl_s` seconds without Redis): what it guards must
    be safe to do twice."""
    lock = connection.lock(name, timeout=ttl_s, thread_local=False)
    if not lock.acquire(blocking=wait_s > 0, blocking_timeout=wait_s or None):
        yield False
        return
    done = threading.Event()

    def keep() -> None:
        while not done.wait(ttl_s / 4):
            try:
                lock.extend(ttl_s, replace_ttl=True)
            except LockError:
                return
            except redis.RedisError:
                continue

    keeper = threading.Thread(target=keep, daemon=True, name="kept-lock")
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
