"""A lock that is kept while its holder waits for one long answer, and a holder who learns that it was lost."""

from __future__ import annotations

import time

import pytest
import redis

from workers.kept_lock import Kept, LockLost, held

NAME = "bridge:lock:of-the-tests"


def wait_until_extended(connection: redis.Redis, name: str) -> None:
    """What takes long: returns once the lock was given more time meanwhile, and fails when it runs out."""
    left, deadline = connection.pttl(name), time.monotonic() + 30
    while time.monotonic() < deadline:
        now = connection.pttl(name)
        assert now > 0, "the lock ran out while its holder was busy"
        if now > left:
            return
        left = now
        time.sleep(0.02)
    pytest.fail("nobody has extended the lock")


def taken_over(connection: redis.Redis, name: str) -> None:
    """As when its time was over, and another worker came."""
    connection.set(name, "another worker")


def go_on_asking(lock: Kept) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lock()
        time.sleep(0.02)


def test_a_lock_is_extended_while_its_holder_does_nothing_for_it(redis_client: redis.Redis) -> None:
    with held(redis_client, NAME, ttl_s=4) as lock:
        assert lock is not None
        wait_until_extended(redis_client, NAME)
        lock()
    assert not redis_client.exists(NAME)


def test_only_one_holds_it(redis_client: redis.Redis) -> None:
    with held(redis_client, NAME), held(redis_client, NAME) as second:
        assert second is None


def test_a_holder_learns_at_once_where_he_asks_that_the_lock_is_lost(redis_client: redis.Redis) -> None:
    with held(redis_client, NAME) as lock:
        assert lock is not None
        lock(now=True)
        taken_over(redis_client, NAME)
        with pytest.raises(LockLost):
            lock(now=True)
        with pytest.raises(LockLost):
            lock()
    assert redis_client.get(NAME) == b"another worker", "what is another's is not released"


def test_a_holder_learns_from_the_keeper_that_the_lock_is_lost(redis_client: redis.Redis) -> None:
    with held(redis_client, NAME, ttl_s=2) as lock:
        assert lock is not None
        taken_over(redis_client, NAME)
        with pytest.raises(LockLost):
            go_on_asking(lock)


def test_a_holder_that_stood_still_for_longer_than_the_lock_lives_does_not_trust_it(
    redis_client: redis.Redis,
) -> None:
    lock = redis_client.lock(NAME, timeout=0.05)
    assert lock.acquire()
    with pytest.raises(LockLost):  # though nobody has looked at Redis
        go_on_asking(Kept(lock, ttl_s=0.05))
