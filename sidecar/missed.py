"""Projects of which the door could keep nothing: they are read again once Redis is back.

An empty file each, named after the project: a directory entry is what a full disk still takes. Where it takes not even
that, this process remembers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)
FOLDER = "missed"
ALL = "all"
_CARRIED = ".carried"


class Missed:
    """The marks in one spool's folder. Safe under threads and processes; one process at a time carries."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._remembered: set[str] = set()
        self._lock = threading.Lock()

    def note(self, uid: str | None) -> None:
        """Mark a project; None: nobody can tell which, so all that are connected."""
        name = uid or ALL
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / name).touch()
        except OSError as error:
            log.critical("%s must be read again, which only this process knows now: %s", name, error)
            with self._lock:
                self._remembered.add(name)

    def names(self) -> list[str]:
        """The marked projects, or "all"."""
        with self._lock:
            found = set(self._remembered)
        if self._folder.is_dir():
            found |= {path.name.removesuffix(_CARRIED) for path in self._folder.iterdir()}
        return sorted(found)

    def carry_remembered(self, send: Callable[[str | None], None]) -> None:
        """The marks that only this process knows: whoever has the spool to itself cannot carry those. Raises as `carry`."""
        with self._lock:
            mine = sorted(self._remembered)
        for name in mine:
            with self._lock:
                self._remembered.discard(name)
            try:
                send(None if name == ALL else name)
            except Exception:
                with self._lock:
                    self._remembered.add(name)
                raise

    def carry(self, send: Callable[[str | None], None]) -> list[str]:
        """Hand every mark to `send`, and take it away when that returned. Raises what `send` does.

        Renamed before it is sent: a mark made meanwhile is about something that the coming reading may not see."""
        done = []
        for name in self.names():
            mark, carried = self._folder / name, self._folder / f"{name}{_CARRIED}"
            if mark.exists():
                mark.rename(carried)
            with self._lock:
                remembered = name in self._remembered
                self._remembered.discard(name)
            try:
                send(None if name == ALL else name)
            except Exception:
                if remembered:
                    with self._lock:
                        self._remembered.add(name)
                raise
            if carried.exists():
                carried.unlink()
            done.append(name)
        return done
