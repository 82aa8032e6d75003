"""Writing down what was heard: Redis, or the spool when Redis does not say yes.

Anything but a returned stream id (time-out, read-only replica, out of memory, still loading, wrong password) goes to
the spool. After a failure Redis is not asked by webhooks for a second (the breaker), so a hung Redis costs the first one
a quarter of a second and the others nothing. A Redis that is nearly full is left alone too: the workers need what is
left of it to carry the streams away. What neither keeps is refused, and its project is read again later.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable

import redis

from bridge.edges import stream
from bridge.edges.stream import Entry
from bridge.errors import OutsideError
from sidecar.spool import Spool

log = logging.getLogger(__name__)
BREAK_S = 1.0
PROBE_BREAK_S = 30.0
LOOK_EVERY_S = 0.5
WARN_EVERY_S = 60.0
FULL_SHARE, ROOM_SHARE = (
    0.75,
    0.65,
)  # of Redis's maxmemory: from the first on the door spools, until the second
TRICKLE = 100


class NotKept(OutsideError):
    """Neither Redis nor the spool took an event. Label Studio will not send it again: its project is read again."""

    status = 503


class Journal:
    """Keeps entries, whatever Redis does. `append` and `quarantine` return where the entry went: redis or spool."""

    def __init__(
        self, connection: redis.Redis, spool: Spool, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = connection
        self._spool = spool
        self._clock = clock
        self._closed_until = 0.0
        self._lock = threading.Lock()
        self._crowded = False
        self._sent: set[int] = set()  # rows that Redis has, and that the disk would not let go of
        self._said_at: dict[str, float] = {}

    def append(self, uid: str, entry: Entry) -> str:
        """Keep an event of a project. Raises NotKept when neither Redis nor the disk takes it."""
        return self._keep(entry, uid=uid)

    def quarantine(self, entry: Entry, reason: str) -> str:
        """Keep a body we cannot read. Raises as `append` does."""
        return self._keep(entry, reason=reason)

    def _keep(self, entry: Entry, *, uid: str | None = None, reason: str | None = None) -> str:
        if not self._crowded and self._may_ask() and self._try(entry, uid, reason):
            return "redis"
        try:
            self._spool.add(entry, uid=uid, reason=reason)
        except (sqlite3.Error, OSError) as error:
            if not self._crowded and self._try(
                entry, uid, reason
            ):  # the breaker may be wrong: the last resort
                return "redis"
            self._spool.missed.note(None if uid == stream.CONTROL else uid)
            raise NotKept(
                f"this event is not kept: Redis does not take it, nor does the spool in SPOOL_DIR ({error})",
                hint="start Redis, make room on the disk or raise SPOOL_MAX_MIB; the project is read again after that",
            ) from error
        return "spool"

    def _may_ask(self) -> bool:
        """Whether to try Redis; of those that come when the break is over, one tries and the others wait for it."""
        with self._lock:
            now = self._clock()
            if now < self._closed_until:
                return False
            if self._closed_until:
                self._closed_until = now + BREAK_S
            return True

    def _try(self, entry: Entry, uid: str | None, reason: str | None) -> bool:
        try:
            if uid is not None:
                stream.append(self._redis, uid, entry)
            else:
                stream.append_quarantine(self._redis, entry, reason or "")
        except Exception as error:  # whatever a broken Redis makes its client raise: the event comes first
            if not stream.is_about_one_key(error):
                self._closed_until = self._clock() + BREAK_S
            log.warning("Redis did not take an event, it goes to the spool: %s", type(error).__name__)
            return False
        self._closed_until = 0.0
        return True

    # --- the way back, in the background

    def replay(self) -> int:
        """Carry the spool into Redis, oldest first; returns how many went.

        Stops when Redis takes no more. An entry that Redis refuses for its stream's sake holds up its project only."""
        done, after = 0, 0
        blocked: set[str] = set()
        while not self._crowded or self._few_wait():
            waiting = self._spool.oldest(after=after, but=sorted(blocked))
            if not waiting:
                break
            for item in waiting:
                after = item.row
                if item.row in self._sent or (item.uid or "") in blocked:
                    continue
                if self._try(item.entry, item.uid, item.reason):
                    self._sent.add(item.row)
                    done += 1
                elif self._clock() < self._closed_until:
                    self._forget_sent()
                    return done
                else:
                    blocked.add(item.uid or "")
            self._forget_sent()
            self.look()
        return done

    def _forget_sent(self) -> None:
        """Redis has them. Where a full disk refuses even that, this process remembers, and sends none twice."""
        if self._sent:
            self._spool.remove(*self._sent)
            self._sent.clear()

    def _few_wait(self) -> bool:
        return sum(stream.waiting(self._redis, uid) for uid in stream.uids(self._redis)) < TRICKLE

    def look(self) -> None:
        """See whether Redis takes writes again, and how full it is; webhooks then need not find out."""
        if self._closed_until:
            # A look that hangs, on a name server say, shall hang alone.
            self._closed_until = self._clock() + PROBE_BREAK_S
            try:
                stream.probe(self._redis)
            except Exception:
                self._closed_until = self._clock() + BREAK_S
                return
            self._closed_until = 0.0
            log.info("Redis takes events again")
        try:
            share = stream.memory_share(self._redis)
        except Exception:
            return  # the next webhook finds out
        self._crowded = share >= (ROOM_SHARE if self._crowded else FULL_SHARE)
        if self._crowded:
            self._say(
                "redis",
                f"Redis has used {share:.0%} of its maxmemory: events go to the spool, so that the workers can still "
                "carry away what is in it; see why they do not (`python -m sidecar status`), or raise maxmemory",
            )

    def _say(self, kind: str, words: str) -> None:
        """As an error, once a minute for each kind of trouble."""
        if self._clock() - self._said_at.get(kind, float("-inf")) >= WARN_EVERY_S:
            self._said_at[kind] = self._clock()
            log.error("%s", words)

    def tend(self) -> None:
        """One round of the process that has the spool to itself: warn, carry marks and entries, give back disk."""
        fill = self._spool.fill()
        if fill.is_high:
            self._say("spool", str(fill))
        if self._closed_until == 0.0 and self._spool.missed.names():
            for name in self._spool.missed.carry(lambda uid: stream.ask_reading(self._redis, uid)):
                log.error("events of %s were not kept: it is read again", name)
        if self._closed_until == 0.0 and self._spool.size()[0] and (done := self.replay()):
            log.info("carried %d events from the spool into Redis", done)
            if self._spool.size()[0] == 0:
                self._spool.shrink()

    def _carry_remembered(self) -> None:
        if self._closed_until == 0.0:
            self._spool.missed.carry_remembered(lambda uid: stream.ask_reading(self._redis, uid))

    def replay_forever(self, stop: threading.Event) -> None:
        """The background thread. Every process looks at Redis; one of a sidecar has the spool, until it ends."""
        while not stop.is_set():
            try:
                with self._spool.sole_replayer() as mine:
                    while not stop.wait(LOOK_EVERY_S):
                        self.look()
                        if not mine:
                            self._carry_remembered()
                            break
                        self.tend()
            except Exception:
                log.exception("the spool could not be replayed; trying again")
                stop.wait(LOOK_EVERY_S)
