"""Redis: between an annotation and the bucket it is the only copy, so it must keep what it took."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from bridge.errors import BridgeError
from sidecar.clients import Clients, address_of
from sidecar.doctor.checks import Area, Check
from sidecar.progress_bar import size_words

_FULL, _NEARLY_FULL = 0.9, 0.75  # of maxmemory
_OLDEST = (6, 2)
_SAY = "in redis.conf, or `redis-cli config set {}` and then `config rewrite`"


def check_redis(clients: Clients) -> list[Check]:
    area = Area("Redis")
    try:
        with clients.redis_says() as redis:
            redis.ping()
            info: Any = redis.info()
    except BridgeError as error:
        area.failed("answers", error, "start Redis and check REDIS_URL")
        return area.checks
    area.ok("answers", f"{address_of(clients.settings.redis_url)}, version {info.get('redis_version')}")
    try:
        with clients.redis_says() as redis:
            _write(redis)
        area.ok("write", "a value was written, read back and deleted")
    except BridgeError as error:
        remedy = "make it the primary, give it memory, or correct the user's rights (ACL)"
        area.failed("write", error, remedy)
    return area.checks + judge(info, _appendfsync(clients))


def _write(redis: Any) -> None:
    """Under a name that nobody else uses, gone after ten seconds in any case."""
    name = f"bridge:doctor:{secrets.token_hex(8)}"
    redis.set(name, b"1", ex=10)
    if redis.get(name) != b"1":
        raise RedisError("what was written is not there")
    redis.delete(name)


def _appendfsync(clients: Clients) -> str:
    """Empty where Redis does not let us ask."""
    with contextlib.suppress(BridgeError), clients.redis_says() as redis:
        found: Any = redis.config_get("appendfsync")
        return str(found.get("appendfsync", ""))
    return ""


def judge(info: Mapping[str, Any], appendfsync: str) -> list[Check]:
    """From the answer of INFO, and CONFIG's word for appendfsync ("" where it cannot be asked)."""
    area = Area("Redis")
    _persistence(area, info, appendfsync)
    _memory(area, info)
    version = tuple(
        int(part) for part in str(info.get("redis_version", "0")).split(".")[:2] if part.isdigit()
    )
    if version < _OLDEST:
        area.warn("version", f"{info.get('redis_version')} is older than tried", "use Redis 6.2 or newer")
    return area.checks


def _persistence(area: Area, info: Mapping[str, Any], appendfsync: str) -> None:
    if not info.get("aof_enabled"):
        area.fail(
            "persistence",
            "appendonly is off: what is not in the bucket yet is lost when Redis ends",
            "set `appendonly yes` and `appendfsync always` " + _SAY.format("appendonly yes"),
        )
    elif info.get("aof_last_write_status", "ok") != "ok":
        area.fail("persistence", "the last write of the append-only file failed", "make room on Redis' disk")
    elif appendfsync == "always":
        area.ok("persistence", "appendonly yes, appendfsync always")
    elif appendfsync == "":
        area.warn("persistence", "appendonly yes; appendfsync cannot be asked", "see that it is `always`")
    elif appendfsync == "everysec":
        area.warn(
            "persistence",
            "appendfsync everysec: a crash of its machine loses up to a second of annotations",
            "set `appendfsync always` " + _SAY.format("appendfsync always"),
        )
    else:
        area.fail(
            "persistence",
            f"appendfsync {appendfsync}: a crash of its machine loses annotations",
            "set `appendfsync always` " + _SAY.format("appendfsync always"),
        )


def _memory(area: Area, info: Mapping[str, Any]) -> None:
    policy, limit = str(info.get("maxmemory_policy", "")), int(info.get("maxmemory") or 0)
    used = int(info.get("used_memory") or 0)
    remedy = "set `maxmemory-policy noeviction` " + _SAY.format("maxmemory-policy noeviction")
    if policy == "noeviction":
        area.ok("eviction", "maxmemory-policy noeviction")
    elif limit:
        area.fail("eviction", f"maxmemory-policy {policy}: Redis throws events away when it is full", remedy)
    elif policy:
        area.warn("eviction", f"maxmemory-policy {policy}: harmless only while there is no maxmemory", remedy)
    else:
        area.warn("eviction", "maxmemory-policy cannot be asked", remedy)
    room = limit or int(info.get("total_system_memory") or 0)
    if not room:
        area.info("memory", f"{size_words(used)} used")
        return
    text = (
        f"{size_words(used)} of {size_words(room)} used{'' if limit else ' (no maxmemory: of the machine)'}"
    )
    more = "are the workers running? See `python -m sidecar status`; give Redis more memory"
    if used > _FULL * room:
        area.fail("memory", f"{text}: it will soon refuse events", more)
    elif used > _NEARLY_FULL * room:
        area.warn("memory", text, more)
    else:
        area.ok("memory", text)
