"""Carry a project's stream into its log.

The order of deeds is the guarantee: records are put, followers are enqueued, and only then do the entries leave the
stream. A worker that dies anywhere leaves entries that the next drain carries again; the fold makes that harmless.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import redis
from rq.timeouts import JobTimeoutException

from bridge import events, jobs
from bridge.edges import queue, stream
from bridge.edges import redis as names
from bridge.edges.log import LogWriter, forget, lost_newest
from bridge.edges.stream import Entry
from bridge.errors import OutsideError
from bridge.keys import project_id_of
from bridge.records import Record
from workers import context, export_sweep, prelabel_sweep, reconcile_sweep

log = logging.getLogger(__name__)
RUN_S = 30
BATCH_ENTRIES = 200
BATCH_BYTES = 8 * 1024 * 1024
FOLLOWER_MS = 5000
TROUBLE_TTL_S = 600
KNOWN_TTL_S = 7 * 24 * 3600
REASON_CHARS = 500
# Not an entry's fault: the bucket, Redis, the lock, the job's time. Then all entries stay.
_OUTSIDE = (OutsideError, redis.RedisError, OSError, JobTimeoutException)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What some entries say: the records, the uploads to copy, and the entries that could not be read, with why."""

    records: list[Record] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    unreadable: list[tuple[Entry, str]] = field(default_factory=list)


def batch_of(entries: list[Entry]) -> Batch:
    """Read entries into records; pure. Equal sightings within the batch are kept once."""
    batch = Batch()
    seen: set[tuple[str, str, str]] = set()
    for entry in entries:
        try:
            found = events.records_of(
                entry.body, event_id=entry.event_id, received_at=entry.received_at, source=entry.source
            )
        except events.Malformed as error:
            batch.unreadable.append((entry, str(error)))
            continue
        for record in found:
            same = (record.kind, record.id, record.fingerprint)
            if record.op == "put" and same in seen:
                continue
            seen.add(same)
            batch.records.append(record)
            if record.kind == "task" and record.op == "put":
                batch.uploads.extend(events.upload_paths(record.data.get("data") or {}))
    return batch


def unknown(records: list[Record], known: dict[str, str]) -> list[Record]:
    """The records to write: deletes always, and puts that are not exactly what was written last for their thing.

    Only equality of incarnation, version and content makes a put superfluous, never old content alone: A, B, A arriving
    as A, A, B must end as A."""
    fresh = []
    latest = dict(known)
    for record in records:
        name = f"{record.kind}:{record.id}"
        if record.op == "put" and latest.get(name) == record.fingerprint:
            continue
        latest[name] = record.fingerprint
        fresh.append(record)
    return fresh


def drain(uid: str) -> None:
    """Write what waits in the project's stream to its log. Returns when it is empty, when another worker is at it,
    when its time is over (then it has enqueued itself again) or when the bucket cannot take it (then the entries stay,
    status says why, and the sweep comes again)."""
    here = context.current()
    here.redis.delete(names.pending(uid))
    if uid == stream.CONTROL:
        _follow_control(here.redis)
        return
    writer = here.log_writer(uid)
    deadline = time.monotonic() + RUN_S
    try:
        _forget_a_lost_bucket(here, uid)
        while stream.waiting(here.redis, uid):
            with writer.locked() as held:
                if not held:
                    return
                while time.monotonic() < deadline and _carry_a_batch(here, uid, writer):
                    pass
            # Whoever saw the lock held has gone away; what came since is ours: look again.
            if time.monotonic() >= deadline:
                queue.enqueue(here.redis, jobs.drain(uid))
                return
        here.redis.delete(names.trouble(uid))
    except OutsideError as error:
        said = here.redis.set(names.trouble(uid), str(error), ex=TROUBLE_TTL_S, get=True)
        if said is None or said.decode() != str(error):
            log.error("events of %s wait in Redis: %s", uid, error)


def _carry_a_batch(here: context.Context, uid: str, writer: LogWriter) -> bool:
    """Carry the oldest entries; False when there were none.

    When something in them makes that fail, they are carried one by one, and whose fault it is goes to the quarantine."""
    entries = stream.read(here.redis, uid, max_entries=BATCH_ENTRIES, max_bytes=BATCH_BYTES)
    if not entries:
        return False
    try:
        _carry(here, uid, writer, entries)
    except _OUTSIDE:
        raise
    except Exception:
        log.exception(
            "%d events of %s cannot be carried together: carrying them one by one", len(entries), uid
        )
        for entry in entries:
            _carry_alone(here, uid, writer, entry)
    return True


def _carry_alone(here: context.Context, uid: str, writer: LogWriter, entry: Entry) -> None:
    try:
        _carry(here, uid, writer, [entry])
    except _OUTSIDE:
        raise
    except Exception as error:
        reason = f"this could not be written: {type(error).__name__}: {error}"[:REASON_CHARS]
        log.error("an event of %s goes to the quarantine: %s", uid, reason)
        stream.move_to_quarantine(here.redis, uid, entry, reason)


def _carry(here: context.Context, uid: str, writer: LogWriter, entries: list[Entry]) -> None:
    batch = batch_of(entries)
    ids = list(dict.fromkeys(f"{record.kind}:{record.id}" for record in batch.records))
    known = _known(here.redis, uid, ids)
    fresh = unknown(batch.records, known)
    if fresh:
        writer.append(fresh)
        _remember(here.redis, uid, fresh)
        _enqueue_current(here.redis, uid)
        made = sum(
            r.kind == "annotation" and r.op == "put" and r.event in events.ANNOTATION_MADE for r in fresh
        )
        export_sweep.count_annotations(here.redis, uid, made, here.settings.export_every_annotations)
        if any(r.kind == "task" and r.op == "delete" for r in fresh):
            reconcile_sweep.tasks_deleted(here.redis, uid)
        if here.settings.prelabel_new_tasks:
            prelabel_sweep.new_tasks(here.redis, uid, fresh)
    if uploads := _not_copied(here.redis, uid, list(dict.fromkeys(batch.uploads))):
        queue.enqueue(here.redis, jobs.media(uid, uploads))
    for entry, reason in batch.unreadable:
        log.warning("an event of %s cannot be read and goes to the quarantine: %s", uid, reason)
        stream.move_to_quarantine(here.redis, uid, entry, reason)
    stream.remove(here.redis, uid, entries)
    _count(here.redis, len(entries), len(fresh))


def _follow_control(connection: redis.Redis) -> None:
    """Events without a payload, or of a project without its created_at: read what they can mean again."""
    while entries := stream.read(
        connection, stream.CONTROL, max_entries=BATCH_ENTRIES, max_bytes=BATCH_BYTES
    ):
        wanted = {uid.decode() for uid in connection.smembers(names.WANTED)}
        for entry in entries:
            try:
                project_id = events.read_envelope(entry.body).project_id
            except events.Malformed as error:
                stream.move_to_quarantine(connection, stream.CONTROL, entry, str(error))
                continue
            meant = {uid for uid in wanted if project_id is None or project_id_of(uid) == project_id}
            log.info("%s names no project we can tell: reading %d projects again", entry.action, len(meant))
            if meant:
                connection.sadd(names.REREAD, *meant)
        stream.remove(connection, stream.CONTROL, entries)


def _known(connection: redis.Redis, uid: str, ids: list[str]) -> dict[str, str]:
    if not ids:
        return {}
    values = connection.hmget(names.known(uid), ids)
    return {id: value.decode() for id, value in zip(ids, values, strict=True) if value is not None}


def _not_copied(connection: redis.Redis, uid: str, paths: list[str]) -> list[str]:
    """Every annotation names its task's upload again: a job only for files that are not in the bucket yet."""
    if not paths:
        return []
    copied = connection.hmget(names.media(uid), paths)
    return [path for path, key in zip(paths, copied, strict=True) if key is None]


def _remember(connection: redis.Redis, uid: str, written: list[Record]) -> None:
    """Only after the put: what is remembered is in the log. An inference comes once, so it is not remembered."""
    seen = {f"{r.kind}:{r.id}": r.fingerprint for r in written if r.kind != "inference"}
    if seen:
        connection.hset(names.known(uid), mapping=seen)
        connection.expire(names.known(uid), KNOWN_TTL_S)


def _enqueue_current(connection: redis.Redis, uid: str) -> None:
    if connection.set(names.current_pending(uid), 1, nx=True, px=FOLLOWER_MS):
        queue.enqueue(connection, jobs.current(uid))


def _forget_a_lost_bucket(here: context.Context, uid: str) -> None:
    """When the bucket was emptied or replaced, nothing is in the log that Redis remembers: read all of it again."""
    if not lost_newest(here.put_once_store, here.redis, here.layout(uid)):
        return
    log.error(
        "the bucket has lost the log of %s: everything Label Studio still has is read into it again", uid
    )
    forget(here.redis, uid)
    queue.enqueue(here.redis, jobs.baseline(uid, "the bucket lost the log"))


def _count(connection: redis.Redis, entries: int, records: int) -> None:
    pipe = connection.pipeline(transaction=False)
    pipe.hincrby(names.COUNTERS, "events_archived", entries)
    pipe.hincrby(names.COUNTERS, "records_written", records)
    pipe.execute()
