"""The streams between the door and the drain: one a project, and the quarantine.

An entry carries the stamp given at the door and the body as it came. Entries leave the stream only after their
records are in the bucket.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import redis
from redis.client import Pipeline

from bridge import jobs
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.keys import project_id_of
from bridge.records import format_time, parse_time

log = logging.getLogger(__name__)
PENDING_MS = 5000
_STAMP = ("event_id", "received_at", "source", "action")
_PAGE_BYTES = 8 * 1024 * 1024
_READ = """
local found, size, start = {}, 0, ARGV[3]
while #found < tonumber(ARGV[1]) do
    local item = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', 1)[1]
    if not item then break end
    for _, value in ipairs(item[2]) do size = size + #value end
    if #found > 0 and size > tonumber(ARGV[2]) then break end
    found[#found + 1] = item
    start = '(' .. item[1]
end
return found
"""
# XRANGE and XINFO answer with bodies, which can be megabytes.
OLDEST_ID = """
local item = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return item and item[1]
"""
CONTROL = (
    "control"  # stream of events that name no project: what they mean is found out by reading Label Studio
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing heard. `stream_id` is Redis's id of it, "" before it is there. `source`: webhook or ml_backend."""

    event_id: str
    received_at: datetime
    source: str
    action: str
    body: bytes
    stream_id: str = ""

    def to_fields(self) -> dict[str, bytes]:
        return {
            "event_id": self.event_id.encode(),
            "received_at": format_time(self.received_at).encode(),
            "source": self.source.encode(),
            "action": self.action.encode(),
            "body": self.body,
        }

    @classmethod
    def from_fields(cls, stream_id: bytes, fields: dict[bytes, bytes]) -> Entry:
        """Raises nothing: what an entry lacks of its stamp is made from its place in the stream, so that one that was
        written by hand, or by another version of us, stops none behind it."""
        id = stream_id.decode()
        said = {name: fields.get(name.encode(), b"").decode(errors="replace") for name in _STAMP}
        try:
            received_at = parse_time(said["received_at"])
        except ValueError:
            received_at = None
        return cls(
            event_id=said["event_id"] or f"stream-{id}",
            received_at=received_at or datetime.fromtimestamp(int(id.partition("-")[0]) / 1000, UTC),
            source=said["source"] or "webhook",
            action=said["action"] or "?",
            body=fields.get(b"body", b""),
            stream_id=id,
        )


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A body we could not read, with the reason, and the project whose stream it was in ("" when nobody knows)."""

    stream_id: str
    reason: str
    entry: Entry
    uid: str = ""

    @classmethod
    def from_fields(cls, stream_id: bytes, fields: dict[bytes, bytes]) -> Quarantined:
        return cls(
            stream_id=stream_id.decode(),
            reason=fields.get(b"reason", b"").decode(errors="replace"),
            entry=Entry.from_fields(stream_id, fields),
            uid=fields.get(b"uid", b"").decode(errors="replace"),
        )


def append(connection: redis.Redis, uid: str, entry: Entry) -> None:
    """Append to the project's stream and make sure that a drain will look at it.

    Returning means the entry is in Redis. Any redis.RedisError means that it may not be: keep it elsewhere."""
    pipe = connection.pipeline(transaction=True)
    _append(pipe, uid, entry)
    first = pipe.execute()[-1]
    _enqueue_drain(connection, uid, first)


def _append(pipe: Pipeline, uid: str, entry: Entry) -> None:
    pipe.xadd(names.stream(uid), entry.to_fields())  # type: ignore[arg-type]
    pipe.sadd(names.STREAMS, uid)
    pipe.set(names.pending(uid), 1, nx=True, px=PENDING_MS)


def _enqueue_drain(connection: redis.Redis, uid: str, first: bool | None) -> None:
    if first:
        try:
            queue.enqueue(connection, jobs.drain(uid))
        except Exception as error:
            # The entry is safe; the sweep enqueues what has waited for more than a few seconds.
            log.warning("could not enqueue the drain of %s: %s", uid, error)


def is_about_one_key(error: Exception) -> bool:
    """Whether Redis refused for what lies under this project's keys; it may take those of another."""
    return isinstance(error, redis.ResponseError) and "WRONGTYPE" in str(error)


def probe(connection: redis.Redis) -> None:
    """Returns when Redis takes writes; raises redis.RedisError when it is away, read-only or full."""
    connection.set(names.PROBE, 1, px=1000)


def memory_share(connection: redis.Redis) -> float:
    """How much of its `maxmemory` Redis has used, from 0 on; 0 where it has no such limit."""
    found: Any = connection.info("memory")
    limit = int(found.get("maxmemory") or 0)
    return int(found["used_memory"]) / limit if limit else 0.0


def ask_reading(connection: redis.Redis, uid: str | None) -> None:
    """Have a connected project (None: every one) read again, since events of it are lost. Raises redis.RedisError."""
    members: Any = connection.smembers(names.WANTED)
    wanted = [member.decode() for member in members]
    meant = [one for one in wanted if uid in (None, one)]
    if meant:
        connection.sadd(names.REREAD, *meant)


def append_quarantine(connection: redis.Redis, entry: Entry, reason: str) -> None:
    """Keep a body we could not read, for a person. Raises redis.RedisError."""
    connection.xadd(names.QUARANTINE, entry.to_fields() | {"reason": reason.encode()})  # type: ignore[arg-type]


def move_to_quarantine(connection: redis.Redis, uid: str, entry: Entry, reason: str) -> None:
    """Take an entry out of its project's stream and keep it for a person, both at once. Raises redis.RedisError."""
    pipe = connection.pipeline(transaction=True)
    fields = entry.to_fields() | {"reason": reason.encode(errors="replace"), "uid": uid.encode()}
    pipe.xadd(names.QUARANTINE, fields)  # type: ignore[arg-type]
    pipe.xdel(names.stream(uid), entry.stream_id)
    pipe.execute()


def move_from_quarantine(connection: redis.Redis, id: str, uid: str, entry: Entry) -> None:
    """Put an entry of the quarantine into a project's stream as it was stamped, both at once. Raises redis.RedisError."""
    pipe = connection.pipeline(transaction=True)
    pipe.xdel(names.QUARANTINE, id)
    _append(pipe, uid, entry)
    first = pipe.execute()[-1]
    _enqueue_drain(connection, uid, first)


def quarantined(connection: redis.Redis, count: int = 100) -> list[Quarantined]:
    """The newest entries of the quarantine, newest first."""
    found: Any = connection.xrevrange(names.QUARANTINE, count=count)
    return [Quarantined.from_fields(id, fields) for id, fields in found]


def quarantined_one(connection: redis.Redis, id: str) -> Quarantined | None:
    """One entry of the quarantine, or None."""
    if not re.fullmatch(r"\d{1,19}-\d{1,19}", id):
        return None
    found: Any = connection.xrange(names.QUARANTINE, id, id)
    return Quarantined.from_fields(*found[0]) if found else None


def quarantined_ids(connection: redis.Redis) -> list[str]:
    """The ids of all that is in the quarantine, oldest first; a page at a time, since bodies come along."""
    ids: list[str] = []
    while page := _read(connection, names.QUARANTINE, max_entries=100, max_bytes=_PAGE_BYTES, after=ids[-1:]):
        ids += [id.decode() for id, _ in page]
    return ids


def quarantine_size(connection: redis.Redis) -> int:
    return int(connection.xlen(names.QUARANTINE))


def waiting(connection: redis.Redis, uid: str) -> int:
    """How many entries of a project are not in the bucket yet."""
    return int(connection.xlen(names.stream(uid)))


def lag_s(connection: redis.Redis, uid: str, now: datetime | None = None) -> float:
    """Age in seconds of the oldest entry that is not in the bucket yet; 0 when there is none."""
    first: Any = connection.register_script(OLDEST_ID)(keys=[names.stream(uid)])
    if not first:
        return 0.0
    written_ms = int(first.partition(b"-")[0])
    return max(0.0, (now or datetime.now(UTC)).timestamp() - written_ms / 1000)


def uids(connection: redis.Redis) -> list[str]:
    """Every project that has had an event, in order, and CONTROL."""
    return named_projects(connection, names.STREAMS)


def named_projects(connection: redis.Redis, key: str) -> list[str]:
    """The projects of one of our sets, in order. What is no project's uid (written by hand, or by another program) is said
    once and costs itself only."""
    members: Any = connection.smembers(key)
    found = sorted(member.decode(errors="replace") for member in members)
    return [uid for uid in found if uid == CONTROL or _is_uid(key, uid)]


@cache
def _is_uid(key: str, uid: str) -> bool:
    try:
        project_id_of(uid)
    except ValueError as error:
        log.error("passed over a name in the Redis set %s: %s; take it out with SREM", key, error)
        return False
    return True


def read(connection: redis.Redis, uid: str, *, max_entries: int, max_bytes: int) -> list[Entry]:
    """The oldest entries, up to a count and (after the first) a size."""
    page = _read(connection, names.stream(uid), max_entries=max_entries, max_bytes=max_bytes)
    return [Entry.from_fields(id, fields) for id, fields in page]


def _read(
    connection: redis.Redis, key: str, *, max_entries: int, max_bytes: int, after: Sequence[str] = ()
) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """A page of a stream. Redis counts the bytes: XRANGE knows only counts, and 200 bodies can be gigabytes."""
    start = f"({after[0]}" if after else "-"
    found: Any = connection.register_script(_READ)(keys=[key], args=[max_entries, max_bytes, start])
    return [(id, dict(zip(fields[::2], fields[1::2], strict=True))) for id, fields in found]


def remove(connection: redis.Redis, uid: str, entries: list[Entry]) -> None:
    """Take entries out whose records are in the bucket (or which are in the quarantine)."""
    if entries:
        connection.xdel(names.stream(uid), *(entry.stream_id for entry in entries))
