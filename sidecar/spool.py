"""Where webhooks wait while Redis is away: an SQLite file on a volume, one per sidecar.

`synchronous=FULL`: a row that was added survives a power cut. Rows leave only after Redis has the entry. Several
processes of one sidecar share the file; one of them at a time replays it (a file lock decides).

The file has a largest size. Beyond it, and on a full disk, `add` raises, and loses nothing that is in it. A damaged file
is set aside, what can be read of it is carried into a new one, and every connected project is read again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from bridge.edges.stream import Entry
from bridge.records import format_time, parse_time
from sidecar.missed import Missed
from sidecar.salvage import COLUMNS, is_damage, salvage, set_aside

log = logging.getLogger(__name__)
T = TypeVar("T")
FILE = "spool.sqlite3"
DEFAULT_MAX_BYTES = 4 * 1024**3
WARN_SHARE = 0.5
SHRINK_BYTES = 16 * 1024**2
_PAGE_BYTES = 4096
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT, reason TEXT, event_id TEXT NOT NULL, received_at TEXT NOT NULL,
    source TEXT NOT NULL, action TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS totals (one INTEGER PRIMARY KEY CHECK (one = 1), entries INTEGER, bytes INTEGER);
INSERT INTO totals SELECT 1, (SELECT count(*) FROM entries), (SELECT coalesce(sum(length(body)), 0) FROM entries)
    WHERE NOT EXISTS (SELECT 1 FROM totals);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON entries BEGIN
    UPDATE totals SET entries = entries + 1, bytes = bytes + length(new.body); END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON entries BEGIN
    UPDATE totals SET entries = entries - 1, bytes = bytes - length(old.body); END;
"""


@dataclass(frozen=True, kw_only=True)
class Spooled:
    """A row: for a project's stream (`uid`), or for the quarantine (`reason`)."""

    row: int
    uid: str | None
    reason: str | None
    entry: Entry


@dataclass(slots=True)
class _Addition:
    """A row that a thread wants to be kept, and what came of it."""

    row: tuple[str | bytes | None, ...]
    is_done: bool = False
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class Fill:
    """How full the spool is: bytes taken in its file, and the most it can take (the setting, or the room on the disk)."""

    used_bytes: int
    limit_bytes: int

    @property
    def share(self) -> float:
        return min(1.0, self.used_bytes / self.limit_bytes) if self.limit_bytes else 1.0

    @property
    def is_high(self) -> bool:
        return self.share >= WARN_SHARE

    def __str__(self) -> str:
        return (
            f"the spool is {self.share:.0%} full ({self.used_bytes >> 20} of {self.limit_bytes >> 20} MiB): have Redis take "
            "events again, or raise SPOOL_MAX_MIB and make room on its disk; what does not fit is refused"
        )


class Spool:
    """The spool in one folder. Safe under threads and processes. Raises sqlite3.Error or OSError when it cannot keep.

    A folder that cannot be used at the start is said, and tried again with each use: Redis may take the events."""

    def __init__(self, folder: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._folder = folder
        self._path = folder / FILE
        self._max_bytes = max_bytes
        self._local = threading.local()
        self._additions: deque[_Addition] = deque()
        self._adding = threading.Lock()
        self.missed = Missed(folder)
        try:
            self._do(lambda _: None)
        except (OSError, sqlite3.Error) as error:
            log.critical("the spool in %s cannot be used; only Redis keeps events now: %s", folder, error)

    def add(self, entry: Entry, *, uid: str | None = None, reason: str | None = None) -> None:
        """Keep an entry; it is on the disk when this returns.

        Threads that come while one of them waits for the disk are written together, by the next: one wait for all."""
        when = format_time(entry.received_at)
        mine = _Addition((uid, reason, entry.event_id, when, entry.source, entry.action, entry.body))
        self._additions.append(mine)
        with self._adding:
            if not mine.is_done:
                self._add_all([self._additions.popleft() for _ in range(len(self._additions))])
        if mine.error is not None:
            raise mine.error

    def _add_all(self, additions: list[_Addition]) -> None:
        """All at once, or, where that fails, each by itself: one that has no room does not take the others with it."""
        for some in (additions, *([one] for one in additions if len(additions) > 1)):
            rows = [one.row for one in some if not one.is_done]
            try:
                if rows:
                    self._write(
                        lambda it, rows=rows: it.executemany(  # type: ignore[misc]
                            f"INSERT INTO entries ({COLUMNS}) VALUES (?,?,?,?,?,?,?)", rows
                        )
                    )
                for one in some:
                    one.is_done, one.error = True, None
            except Exception as error:  # each thread raises its own
                for one in some:
                    one.error = error
        for one in additions:
            one.is_done = True

    def oldest(
        self, count: int = 100, *, after: int = 0, max_bytes: int = 16 * 1024**2, but: Sequence[str] = ()
    ) -> list[Spooled]:
        """The entries that have waited longest, in the order they came: from after a row on, up to a count and (after
        the first) a size, without those of some projects."""

        def read(it: sqlite3.Connection) -> list[Spooled]:
            found: list[Spooled] = []
            size = 0
            holes = ",".join("?" * len(but))
            rows = it.execute(
                f"SELECT id, {COLUMNS} FROM entries WHERE id > ? AND coalesce(uid, '') NOT IN ({holes}) ORDER BY id LIMIT ?",
                (after, *but, count),
            )
            for row in rows:
                size += len(row[-1])
                if found and size > max_bytes:
                    break
                found.append(_spooled(*row))
            return found

        return self._do(read)

    def remove(self, *rows: int) -> None:
        self._write(lambda it: it.executemany("DELETE FROM entries WHERE id = ?", [(row,) for row in rows]))

    def size(self) -> tuple[int, int]:
        """How many entries wait, and the bytes of their bodies."""
        count, size = self._do(lambda it: it.execute("SELECT entries, bytes FROM totals").fetchone())
        return count, size

    def fill(self) -> Fill:
        """How full it is."""
        pages, free = self._do(
            lambda it: [
                it.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count")
            ]
        )
        used = (pages - free) * _PAGE_BYTES
        disk = os.statvfs(self._folder)
        room = disk.f_bavail * disk.f_frsize + free * _PAGE_BYTES
        return Fill(used_bytes=used, limit_bytes=min(self._max_bytes, used + room))

    def shrink(self) -> None:
        """Give the disk back what an empty spool does not need. For the replayer: the others wait meanwhile."""

        def vacuum() -> None:
            connection = self._mine()
            if connection.execute("PRAGMA page_count").fetchone()[0] * _PAGE_BYTES < SHRINK_BYTES:
                return
            if connection.execute("SELECT entries FROM totals").fetchone()[0] == 0:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        with self._alone(), self._locked("writing"):
            vacuum()

    @contextmanager
    def sole_replayer(self) -> Iterator[bool]:
        """Yields whether this process may replay: no other one of this sidecar is doing so."""
        with self._path.with_suffix(".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    # --- the file and its connections

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `_do`; one process writes at a time, and the next is woken: SQLite would have it look again and again,
        and give up in the end ("database is locked")."""
        with self._locked("writing"):
            return self._do(work)

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in one transaction. Beside others of its kind, but never while a file is opened or set aside."""
        try:
            return self._once(work)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._replace(error)
            return self._once(work)

    def _once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if not self._is_open():
            with self._alone():
                self._open()
        with self._alone(fcntl.LOCK_SH):
            if self._is_open():
                with self._mine() as connection:
                    return work(connection)
        return self._once(work)  # set aside between the two

    @contextmanager
    def _alone(self, how: int = fcntl.LOCK_EX) -> Iterator[None]:
        """One at a time, of all threads and processes: SQLite does not wait, but says "database is locked", when two
        switch a new file to WAL at once (https://sqlite.org/wal.html, "Sometimes queries return SQLITE_BUSY")."""
        with self._locked("opening", how):
            yield

    @contextmanager
    def _locked(self, name: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(f".{name}").open("w") as handle:
            fcntl.flock(handle, how)
            yield

    def _mine(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _is_open(self) -> bool:
        """Whether this thread's connection is to the file that bears the name now."""
        opened: int | None = getattr(self._local, "inode", None)
        return opened is not None and opened == self._inode() and self._local.ready

    def _inode(self) -> int | None:
        try:
            return self._path.stat().st_ino
        except FileNotFoundError:
            return None

    def _open(self) -> None:
        if getattr(self._local, "connection", None) is not None:
            self._local.connection.close()
        self._local.ready = False
        connection = self._local.connection = sqlite3.connect(self._path, timeout=5)
        self._local.inode = self._inode()
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=WAL")  # stays in the file
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA max_page_count={max(16, self._max_bytes // _PAGE_BYTES)}")
        with connection:
            connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
        self._local.ready = True

    def _replace(self, error: sqlite3.DatabaseError) -> None:
        """Begin a new file in the place of a damaged one, unless somebody has done so meanwhile."""
        with self._alone():
            if getattr(self._local, "inode", None) != self._inode():
                return
            self._local.connection.close()
            self._local.inode = None
            aside = set_aside(self._path, f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
            self._open()
            with self._mine() as connection:
                found = salvage(aside, connection)
        self.missed.note(None)
        log.critical(
            "the spool was damaged (%s) and is kept as %s; %d events of it were carried over, a new spool has begun, and "
            "every connected project is read again. For more of it: stop the sidecar while the spool is empty, then "
            "`sqlite3 %s .recover | sqlite3 %s` after moving the present file away, and start it again",
            error, aside, found, aside.name, FILE,
        )  # fmt: skip


def _spooled(
    row: int,
    uid: str | None,
    reason: str | None,
    event_id: str,
    received_at: str,
    source: str,
    action: str,
    body: bytes,
) -> Spooled:
    """A row as it was added. A time that a failing disk made unreadable is replaced by the present."""
    try:
        when = parse_time(received_at)
    except ValueError:
        when = None
    entry = Entry(
        event_id=event_id,
        received_at=when or datetime.now(UTC),
        source=source,
        action=action,
        body=bytes(body),
    )
    return Spooled(row=row, uid=uid, reason=reason, entry=entry)


def spool_of(folder: str, max_bytes: int = DEFAULT_MAX_BYTES) -> Spool | None:
    """A sidecar's spool, for looking at it; None where there is none on this machine."""
    path = Path(folder)
    return Spool(path, max_bytes=max_bytes) if (path / FILE).exists() else None


def spool_size(folder: str) -> tuple[int, int]:
    """Entries and bytes waiting in a sidecar's spool; (0, 0) when there is none on this machine."""
    found = spool_of(folder)
    return found.size() if found else (0, 0)
