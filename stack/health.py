"""Asking one part whether it is up. Each question is asked once, with a short timeout; waiting is the supervisor's."""

from __future__ import annotations

import httpx
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from stack.parts import Health, Part

TIMEOUT_S = 1.0


def is_well(part: Part, *, pid: int, age_s: float) -> bool:
    """Whether a part that runs with this process id since `age_s` is up. Raises nothing."""
    match part.health:
        case Health.HTTP:
            return _http(part.health_url)
        case Health.REDIS:
            return _redis(part.health_url)
        case Health.WORKER:
            return _worker(part.health_url, pid)
        case Health.ALIVE:
            return age_s >= 1.0


def _http(url: str) -> bool:
    try:
        # trust_env=False: a proxy in the environment must not be asked about this machine's own parts.
        return httpx.get(url, timeout=TIMEOUT_S, trust_env=False).status_code < 400
    except httpx.HTTPError:
        return False


def connect(url: str) -> redis.Redis:
    """A client that fails at once: redis-py's own retries take seconds on a closed port."""
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def _redis(url: str) -> bool:
    try:
        with connect(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _worker(url: str, pid: int) -> bool:
    """RQ keeps the set `rq:workers` of keys of hashes, each with the worker's `pid` (rq/worker/base.py)."""
    try:
        with connect(url) as client:
            return any(client.hget(key, "pid") == str(pid) for key in client.smembers("rq:workers"))
    except redis.RedisError:
        return False
