"""Writing and reading a project's log. The only writer of `log/`.

A position is given under the project's lock: max(now, newest + 1). An object is put once; after an unclear answer a
HEAD decides whether it is there, and if not the records get a *new* key: CORTX-RGW removes before it inserts, so a log
key is never written twice (shared facts on CORTX; docs/cortx.md).
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import redis
from redis.exceptions import LockError
from redis.lock import Lock

from bridge.edges import redis as names
from bridge.errors import NotFound, OutsideError, Unavailable
from bridge.keys import Layout, LogKey
from bridge.records import Record
from bridge.state import State
from bridge.store import ObjectInfo, ObjectStore

log = logging.getLogger(__name__)
LOCK_TTL_S = 20
LOCK_WAIT_S = 60
PUT_TRIES = 3
# Sets the newest key, given with its position, unless another one of that or a later position is known. Returns whether
# the given one is the newest.
_ADVANCE = """
local last = redis.call('GET', KEYS[1])
local position = last and string.match(last, '(%d+)%-%x+%.jsonl$')
if position and last ~= ARGV[1] and tonumber(position) >= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""
_NOT_AS_WRITTEN = "it is not what was written: cut off, or changed by someone"
R = TypeVar("R", bound=Record)


def now_ms() -> int:
    return int(time.time() * 1000)


class LogWriter:
    """Appends records to one project's log. `store` must not retry puts by itself."""

    def __init__(
        self,
        store: ObjectStore,
        connection: redis.Redis,
        layout: Layout,
        *,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._store = store
        self._redis = connection
        self._layout = layout
        self._clock_ms = clock_ms
        self._lock: Lock | None = None

    @contextmanager
    def locked(self, wait_s: float | None = None) -> Iterator[bool]:
        """Hold the project's lock, waiting up to `wait_s` (None: do not wait). Yields whether we have it."""
        lock = self._redis.lock(names.log_lock(self._layout.uid), timeout=LOCK_TTL_S, sleep=0.05)
        held = lock.acquire(blocking=wait_s is not None, blocking_timeout=wait_s)
        if not held:
            yield False
            return
        self._lock = lock
        try:
            yield True
        finally:
            self._lock = None
            try:
                lock.release()
            except LockError:
                log.warning("the lock of %s ran out before its work was done", self._layout.uid)

    def append(self, records: list[Record]) -> str:
        """Put the records as one object and return its key. Raises Unavailable or Refused: then nothing is promised.

        Takes the lock for itself unless `locked` holds it."""
        if self._lock is None:
            with self.locked(wait_s=LOCK_WAIT_S) as held:
                if not held:
                    raise Unavailable(
                        f"another worker has held the log of {self._layout.uid} for {LOCK_WAIT_S} s"
                    )
                return self._put(records)
        self._lock.extend(LOCK_TTL_S, replace_ttl=True)
        return self._put(records)

    def _put(self, records: list[Record]) -> str:
        body = "".join(record.to_json() + "\n" for record in records).encode()
        sha = hashlib.sha256(body).hexdigest()[:16]
        trouble: OutsideError | None = None
        position = self._newest_position()
        for _ in range(PUT_TRIES):
            position = max(self._clock_ms(), position + 1)
            key = self._layout.log(LogKey(position=position, sha=sha))
            try:
                self._store.put(key, body, content_type="application/x-ndjson")
            except Unavailable as error:
                trouble = error
                if not self._is_there(key, body):
                    continue
            self._redis.hincrby(names.snapshot(self._layout.uid), "records", len(records))
            if not self._advance(key, position):
                raise Unavailable(
                    f"the lock of the log of {self._layout.uid} ran out during a put, and another worker wrote after it"
                )
            return key
        raise trouble or Unavailable("the log could not be written")

    def _advance(self, key: str, position: int) -> bool:
        """Remember the newest key, which never moves back.

        Readers that go on from a key (`catch_up` of workers/reading.py, the cursor of current/) rely on each object being
        the last of the log when it is put: had the position moved back, the next object could be put before what they
        have read, and they would never see it. So an object that was overtaken, by a writer who got the lock that we lost
        during the put, does not count as written: whoever asked comes again, and the fold does not mind repetition."""
        set_it = self._redis.eval(_ADVANCE, 1, names.last_key(self._layout.uid), key, str(position))
        return bool(set_it)

    def _is_there(self, key: str, body: bytes) -> bool:
        """Whether an unclear put was done. Raises when the store does not say: then the caller must come again."""
        info = self._store.head(key)
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return info is not None and info.size_bytes == len(body) and info.md5 in (md5, None)

    def _newest_position(self) -> int:
        """The newest position given out, from Redis, or from the bucket when Redis has forgotten it."""
        last: Any = self._redis.get(names.last_key(self._layout.uid))
        parsed = self._layout.parse_log(last.decode()) if last else None
        if parsed is None:
            newest = newest_key(self._store, self._layout)
            parsed = self._layout.parse_log(newest.key) if newest else None
        return parsed.position if parsed else 0


def newest_key(store: ObjectStore, layout: Layout) -> ObjectInfo | None:
    """The last object of the log, or None."""
    newest = None
    for info in store.keys(layout.log_prefix):
        newest = info
    return newest


def log_keys(store: ObjectStore, layout: Layout, *, after: str = "") -> Iterator[ObjectInfo]:
    """The log's objects in order of position, from after a key on. Anything else under log/ is passed over."""
    for info in store.keys(layout.log_prefix, start_after=after):
        if layout.parse_log(info.key) is not None:
            yield info


def read_object(store: ObjectStore, key: str) -> list[Record]:
    """The records of one log object. Raises ValueError naming the key and line when it is damaged."""
    return parse_object(store, key, Record.from_json)


def parse_object(store: ObjectStore, key: str, parse: Callable[[bytes], R]) -> list[R]:
    """As `read_object`, each line parsed by `parse`, which raises ValueError for one that is no record."""
    records = []
    body = store.get(key)
    if not _as_written(key, body):
        raise ValueError(f"{key}: {_NOT_AS_WRITTEN}")
    for number, line in enumerate(body.splitlines(), start=1):
        try:
            records.append(parse(line))
        except ValueError as error:
            raise ValueError(f"{key}, line {number}: {error}") from error
    return records


def _as_written(key: str, body: bytes) -> bool:
    """Whether an object still is what its name says."""
    return key.endswith(f"-{hashlib.sha256(body).hexdigest()[:16]}.jsonl")


def read_good_lines(store: ObjectStore, key: str) -> tuple[list[Record], bool]:
    """The records of one log object, and whether that is all of it: a line that is damaged costs itself only, an object
    that is gone everything, and of one that was edited nobody knows which lines are true. Each is named in the log.
    Raises what the store raises."""
    records = []
    try:
        body = store.get(key)
    except (ValueError, NotFound) as error:
        log.error("passed over a log object that cannot be read: %s", error)
        return [], False
    whole = _as_written(key, body)
    if not whole:
        log.error("%s: %s; the lines that can be read are taken", key, _NOT_AS_WRITTEN)
    for number, line in enumerate(body.splitlines(), start=1):
        try:
            records.append(Record.from_json(line))
        except ValueError as error:
            log.error("passed over a line that cannot be read: %s, line %d: %s", key, number, error)
            whole = False
    return records, whole


def read_records(store: ObjectStore, layout: Layout, *, after: str = "") -> Iterator[Record]:
    """Every record of the log, object by object; what is damaged is named in the log and costs itself only."""
    for info in log_keys(store, layout, after=after):
        yield from read_good_lines(store, info.key)[0]


def read_state(store: ObjectStore, layout: Layout, at: datetime | None = None) -> State:
    """The state of a project, now or as the door knew it at a time: all of it in memory, from the newest snapshot that
    serves and the rest of the log. Readers of large projects use `history.open_history`, which leaves it on disk."""
    from bridge.edges.history import open_history

    with open_history(store, layout, at=at) as history:
        return history.state()


def lost_newest(store: ObjectStore, connection: redis.Redis, layout: Layout) -> bool:
    """Whether the bucket no longer has what we wrote last: it was emptied or replaced behind our back."""
    last: Any = connection.get(names.last_key(layout.uid))
    if last is None:
        return False
    if store.head(last.decode()) is not None:
        return False
    # One object can be missing for another reason; nothing at all since the day before cannot.
    parsed = layout.parse_log(last.decode())
    if parsed is None:
        return False
    day_before = datetime.fromtimestamp(parsed.position / 1000, UTC) - timedelta(days=1)
    return next(iter(log_keys(store, layout, after=layout.log_day_prefix(day_before))), None) is None


def forget(connection: redis.Redis, uid: str) -> None:
    """Drop what Redis remembers of a project's log, its media and its progress; streams stay."""
    connection.delete(
        names.known(uid),
        names.last_key(uid),
        names.current_cursor(uid),
        names.media(uid),
        names.baseline(uid),
        names.snapshot(uid),
    )
