"""The streams between the door and the drain: one a project, and the quarantine.

An entry carries the stamp given at the door and the body as it came. Entries leave the stream only after their
records are in the bucket.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from bridge import jobs
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.records import format_time, parse_time

log = logging.getLogger(__name__)
PENDING_MS = 5000
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
        received_at = parse_time(fields[b"received_at"].decode())
        if received_at is None:
            raise ValueError("an entry without received_at")
        return cls(
            event_id=fields[b"event_id"].decode(),
            received_at=received_at,
            source=fields[b"source"].decode(),
            action=fields[b"action"].decode(),
            body=fields[b"body"],
            stream_id=stream_id.decode(),
        )


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A body we could not read, with the reason."""

    stream_id: str
    reason: str
    entry: Entry


def append(connection: redis.Redis, uid: str, entry: Entry) -> None:
    """Append to the project's stream and make sure that a drain will look at it.

    Returning means the entry is in Redis. Any redis.RedisError means that it may not be: keep it elsewhere."""
    pipe = connection.pipeline(transaction=True)
    pipe.xadd(names.stream(uid), entry.to_fields())  # type: ignore[arg-type]
    pipe.sadd(names.STREAMS, uid)
    pipe.set(names.pending(uid), 1, nx=True, px=PENDING_MS)
    _, _, first = pipe.execute()
    if first:
        try:
            queue.enqueue(connection, jobs.drain(uid))
        except redis.RedisError as error:
            # The entry is safe; the sweep enqueues what has waited for more than a few seconds.
            log.warning("could not enqueue the drain of %s: %s", uid, error)


def append_quarantine(connection: redis.Redis, entry: Entry, reason: str) -> None:
    """Keep a body we could not read, for a person. Raises redis.RedisError."""
    connection.xadd(names.QUARANTINE, entry.to_fields() | {"reason": reason.encode()})  # type: ignore[arg-type]


def quarantined(connection: redis.Redis, count: int = 100) -> list[Quarantined]:
    """The newest entries of the quarantine, newest first."""
    found: Any = connection.xrevrange(names.QUARANTINE, count=count)
    return [
        Quarantined(
            stream_id=id.decode(),
            reason=fields.get(b"reason", b"").decode(),
            entry=Entry.from_fields(id, fields),
        )
        for id, fields in found
    ]


def quarantine_size(connection: redis.Redis) -> int:
    return int(connection.xlen(names.QUARANTINE))


def waiting(connection: redis.Redis, uid: str) -> int:
    """How many entries of a project are not in the bucket yet."""
    return int(connection.xlen(names.stream(uid)))


def lag_s(connection: redis.Redis, uid: str, now: datetime | None = None) -> float:
    """Age in seconds of the oldest entry that is not in the bucket yet; 0 when there is none."""
    first: Any = connection.xrange(names.stream(uid), count=1)
    if not first:
        return 0.0
    written_ms = int(first[0][0].partition(b"-")[0])
    return max(0.0, (now or datetime.now(UTC)).timestamp() - written_ms / 1000)


def uids(connection: redis.Redis) -> list[str]:
    """Every project that has had an event, in order."""
    members: Any = connection.smembers(names.STREAMS)
    return sorted(uid.decode() for uid in members)


def read(connection: redis.Redis, uid: str, *, max_entries: int, max_bytes: int) -> list[Entry]:
    """The oldest entries, up to a count and (after the first) a size; a page at a time so that memory is bounded."""
    found: list[Entry] = []
    size = 0
    page: Any = connection.xrange(names.stream(uid), count=max_entries)
    for stream_id, fields in page:
        entry = Entry.from_fields(stream_id, fields)
        if found and size + len(entry.body) > max_bytes:
            break
        found.append(entry)
        size += len(entry.body)
    return found


def remove(connection: redis.Redis, uid: str, entries: list[Entry]) -> None:
    """Take entries out whose records are in the bucket (or which are in the quarantine)."""
    if entries:
        connection.xdel(names.stream(uid), *(entry.stream_id for entry in entries))
