"""Where webhooks wait while Redis is away: an SQLite file on a volume, one per sidecar.

`synchronous=FULL`: a row that was added survives a power cut. Rows leave only after Redis has the entry. Several
processes of one sidecar share the file; one of them at a time replays it (a file lock decides).
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.edges.stream import Entry
from bridge.records import format_time, parse_time

FILE = "spool.sqlite3"
_SCHEMA = """CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT, reason TEXT, event_id TEXT NOT NULL, received_at TEXT NOT NULL,
    source TEXT NOT NULL, action TEXT NOT NULL, body BLOB NOT NULL)"""


@dataclass(frozen=True, kw_only=True)
class Spooled:
    """A row: for a project's stream (`uid`), or for the quarantine (`reason`)."""

    row: int
    uid: str | None
    reason: str | None
    entry: Entry


class Spool:
    """The spool in one folder. Safe under threads and processes. Raises sqlite3.Error or OSError when it cannot keep."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        self._local = threading.local()
        with self._alone(), closing(self._connect()) as connection, connection:
            connection.execute("PRAGMA journal_mode=WAL")  # stays in the file
            connection.execute(_SCHEMA)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time: SQLite does not wait, but says "database is locked", when two switch a new file to
        WAL at once (https://sqlite.org/wal.html, "Sometimes queries return SQLITE_BUSY in WAL mode")."""
        with self._path.with_suffix(".opening").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=5)
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _mine(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._connect()
        connection: sqlite3.Connection = self._local.connection
        return connection

    def add(self, entry: Entry, *, uid: str | None = None, reason: str | None = None) -> None:
        """Keep an entry; it is on the disk when this returns."""
        with self._mine() as connection:
            connection.execute(
                "INSERT INTO entries (uid, reason, event_id, received_at, source, action, body) VALUES (?,?,?,?,?,?,?)",
                (
                    uid,
                    reason,
                    entry.event_id,
                    format_time(entry.received_at),
                    entry.source,
                    entry.action,
                    entry.body,
                ),
            )

    def oldest(self, count: int = 100) -> list[Spooled]:
        """The entries that have waited longest, in the order they came."""
        rows = self._mine().execute(
            "SELECT id, uid, reason, event_id, received_at, source, action, body FROM entries ORDER BY id LIMIT ?",
            (count,),
        )
        found = []
        for id, uid, reason, event_id, received_at, source, action, body in rows:
            when = parse_time(received_at)
            assert when is not None
            entry = Entry(event_id=event_id, received_at=when, source=source, action=action, body=body)
            found.append(Spooled(row=id, uid=uid, reason=reason, entry=entry))
        return found

    def remove(self, row: int) -> None:
        with self._mine() as connection:
            connection.execute("DELETE FROM entries WHERE id = ?", (row,))

    def size(self) -> tuple[int, int]:
        """How many entries wait, and the bytes of their bodies."""
        count, size = (
            self._mine().execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM entries").fetchone()
        )
        return count, size

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


def spool_size(folder: str) -> tuple[int, int]:
    """Entries and bytes waiting in a sidecar's spool; (0, 0) when there is none on this machine."""
    path = Path(folder)
    return Spool(path).size() if (path / FILE).exists() else (0, 0)
