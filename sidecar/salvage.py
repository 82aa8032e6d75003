"""A damaged spool: what can still be read of it goes into the new one. The damaged file itself is kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

COLUMNS = "uid, reason, event_id, received_at, source, action, body"
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_damage(error: Exception) -> bool:
    """Whether this error says that the file is no SQLite file, or no longer a sound one."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGE


def set_aside(path: Path, stamp: str) -> Path:
    """Rename the file and what SQLite keeps beside it; returns its new name. Raises OSError."""
    aside = path.with_name(f"{path.stem}-damaged-{stamp}{path.suffix}")
    for ending in ("-wal", "-shm", ""):  # the file itself last: until then a further try begins here again
        part = Path(f"{path}{ending}")
        if part.exists():
            part.rename(f"{aside}{ending}")
    return aside


def salvage(damaged: Path, into: sqlite3.Connection) -> int:
    """Copy the rows that can be read, from the first on and from the last back; returns how many. Raises nothing.

    An entry that had left the damaged spool already may come again: its event_id is the same, so it does no harm."""
    found: set[int] = set()
    for order in ("", " DESC"):
        try:
            with closing(sqlite3.connect(damaged)) as source:
                for row in source.execute(f"SELECT id, {COLUMNS} FROM entries ORDER BY id{order}"):
                    if row[0] in found:
                        break
                    into.execute(f"INSERT INTO entries ({COLUMNS}) VALUES (?,?,?,?,?,?,?)", row[1:])
                    found.add(row[0])
        except sqlite3.Error:
            continue
    return len(found)
