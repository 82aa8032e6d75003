"""Writing down what was heard: Redis, or the spool when Redis does not say yes.

Anything but a returned stream id (time-out, read-only replica, out of memory, still loading, wrong password) goes to
the spool. After one failure Redis is not asked for a second (the breaker), so a hung Redis costs the first webhook a
quarter of a second and the others nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import redis

from bridge.edges import stream
from bridge.edges.stream import Entry
from sidecar.spool import Spool

log = logging.getLogger(__name__)
BREAK_S = 1.0
REPLAY_EVERY_S = 0.5


class Journal:
    """Keeps entries, whatever Redis does. `append` and `quarantine` return where the entry went: redis or spool."""

    def __init__(
        self, connection: redis.Redis, spool: Spool, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = connection
        self._spool = spool
        self._clock = clock
        self._closed_until = 0.0

    def append(self, uid: str, entry: Entry) -> str:
        """Keep an event of a project. Raises sqlite3.Error only when neither Redis nor the disk takes it."""
        if self._try(lambda: stream.append(self._redis, uid, entry)):
            return "redis"
        self._spool.add(entry, uid=uid)
        return "spool"

    def quarantine(self, entry: Entry, reason: str) -> str:
        """Keep a body we cannot read. Raises as `append` does."""
        if self._try(lambda: stream.append_quarantine(self._redis, entry, reason)):
            return "redis"
        self._spool.add(entry, reason=reason)
        return "spool"

    def _try(self, write: Callable[[], None]) -> bool:
        if self._clock() < self._closed_until:
            return False
        try:
            write()
        except (redis.RedisError, OSError) as error:
            self._closed_until = self._clock() + BREAK_S
            log.warning("Redis did not take an event, it goes to the spool: %s", type(error).__name__)
            return False
        return True

    def replay(self) -> int:
        """Carry the spool into Redis, oldest first; returns how many went. Stops at the first that does not."""
        done = 0
        while True:
            waiting = self._spool.oldest()
            if not waiting:
                return done
            for item in waiting:
                uid, reason, entry = item.uid, item.reason, item.entry
                if uid is not None:
                    sent = self._try(lambda uid=uid, entry=entry: stream.append(self._redis, uid, entry))  # type: ignore[misc]
                else:
                    sent = self._try(
                        lambda entry=entry, reason=reason: stream.append_quarantine(
                            self._redis, entry, reason or ""
                        )  # type: ignore[misc]
                    )
                if not sent:
                    return done
                self._spool.remove(item.row)
                done += 1

    def replay_forever(self, stop: threading.Event) -> None:
        """The replayer's thread: one process of a sidecar at a time does the work."""
        while not stop.wait(REPLAY_EVERY_S):
            try:
                if self._spool.size()[0] == 0:
                    continue
                with self._spool.sole_replayer() as mine:
                    if mine and (done := self.replay()):
                        log.info("carried %d events from the spool into Redis", done)
            except Exception:
                log.exception("the spool could not be replayed; trying again")
