"""Which model versions Label Studio was given, and which one each project wants. The rim: one SQLite file.

Kept in the cache folder, so that it outlives a restart and several processes on one machine see the same. Nothing here
is worth a failed request: when the file cannot be used, the memory of this process serves, and the log says so.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

log = logging.getLogger(__name__)
FILE = "versions.sqlite3"
_GIVEN = 200  # versions kept
_PROJECTS = 200  # labeling configs kept, one a project
_AGAIN_S = 60.0  # the same version of the same project is written down once in so many seconds
_BUSY_S = 1.0  # /setup has 3 s in all
_TABLES = """
CREATE TABLE IF NOT EXISTS given (project TEXT, version TEXT, place INTEGER, PRIMARY KEY (project, version));
CREATE TABLE IF NOT EXISTS config (project TEXT PRIMARY KEY, config TEXT, place INTEGER);
CREATE TABLE IF NOT EXISTS wanted (project TEXT PRIMARY KEY, version TEXT);
"""
T = TypeVar("T")


class VersionBook:
    """Safe to use from several threads and processes. `folder` None: in memory only. Raises nothing."""

    def __init__(self, folder: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._newest: tuple[str, str, str] | None = None
        self._newest_at = 0.0
        self._db = self._open(folder)

    def give(self, project: str, label_config: str, version: str) -> None:
        """Label Studio is being given this version for a project's config."""
        with self._lock:
            fresh = self._clock() < self._newest_at + _AGAIN_S
            if fresh and self._newest == (project, label_config, version):
                return
            self._newest, self._newest_at = (project, label_config, version), self._clock()

        def write(db: sqlite3.Connection) -> None:
            place = "(SELECT coalesce(max(place), 0) + 1 FROM given)"
            db.execute(f"INSERT OR REPLACE INTO given VALUES (?, ?, {place})", (project, version))
            place = "(SELECT coalesce(max(place), 0) + 1 FROM config)"
            db.execute(f"INSERT OR REPLACE INTO config VALUES (?, ?, {place})", (project, label_config))
            for table, most in (("given", _GIVEN), ("config", _PROJECTS)):
                oldest = f"SELECT place FROM {table} ORDER BY place DESC LIMIT 1 OFFSET {most}"
                db.execute(f"DELETE FROM {table} WHERE place <= coalesce(({oldest}), -1)")

        self._do(write)

    def given(self, project: str = "") -> list[str]:
        """Newest first, each once; of all projects, or of one (its uid, or its id alone)."""

        def read(db: sqlite3.Connection) -> list[str]:
            rows = db.execute(
                "SELECT version FROM given WHERE ?1 = '' OR project = ?1 OR project LIKE ?1 || '.%' "
                "GROUP BY version ORDER BY max(place) DESC",
                (_literal(project),),
            )
            return [row[0] for row in rows]

        return self._do(read)

    def configs(self, project: str = "") -> list[tuple[str, str]]:
        """(project, the labeling config it had last), newest first."""

        def read(db: sqlite3.Connection) -> list[tuple[str, str]]:
            rows = db.execute(
                "SELECT project, config FROM config WHERE ?1 = '' OR project = ?1 OR project LIKE ?1 || '.%' "
                "ORDER BY place DESC",
                (_literal(project),),
            )
            return [(row[0], row[1]) for row in rows]

        return self._do(read)

    def want(self, project: str, version: str | None) -> None:
        """The version a project's `extra_params` name; None: the one that serves."""
        if VersionBook.wanted(self, project) == version:
            return

        def write(db: sqlite3.Connection) -> None:
            if version is None:
                db.execute("DELETE FROM wanted WHERE project = ?", (project,))
            else:
                db.execute("INSERT OR REPLACE INTO wanted VALUES (?, ?)", (project, version))

        self._do(write)

    def wanted(self, project: str) -> str | None:
        def read(db: sqlite3.Connection) -> str | None:
            row = db.execute("SELECT version FROM wanted WHERE project = ?", (project,)).fetchone()
            return str(row[0]) if row else None

        return self._do(read)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                with self._db:
                    return work(self._db)
            except sqlite3.Error as error:
                log.warning(
                    "%s cannot be used, versions are remembered by this process alone: %s", FILE, error
                )
                self._db.close()
                self._db = self._open(None)
                with self._db:
                    return work(self._db)

    def _open(self, folder: Path | None) -> sqlite3.Connection:
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                return _opened(str(folder / FILE))
            except (OSError, sqlite3.Error) as error:
                log.warning(
                    "%s cannot be used, versions are remembered by this process alone: %s", FILE, error
                )
        return _opened(":memory:")


def _opened(name: str) -> sqlite3.Connection:
    db = sqlite3.connect(name, timeout=_BUSY_S, check_same_thread=False)
    try:
        # What is lost with the machine's power is given again by the next /setup: no request waits for the disk.
        db.execute("PRAGMA synchronous = OFF")
        db.executescript(_TABLES)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _literal(project: str) -> str:
    """A project's uid or id as text that means itself in LIKE; anything else finds nothing."""
    return (
        project
        if all(letter.isascii() and (letter.isdigit() or letter == ".") for letter in project)
        else "?"
    )
