"""The only module that writes to the terminal: one lock, so that no two lines mix."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TextIO

from stack.lines import COLOURS, prefixed

Say = Callable[[str, str], None]
"""`say(name, line)`: show one line of a part, or of the stack itself."""


class Terminal:
    """Shows lines as `12:00:01 sidecar      | …`, coloured where `stream` is a terminal."""

    def __init__(self, stream: TextIO, names: Iterable[str]) -> None:
        self._stream = stream
        self._names = list(names)
        self._width = max((len(name) for name in self._names), default=8)
        self._coloured = stream.isatty()
        self._lock = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        colour = None
        if self._coloured and name in self._names:
            colour = COLOURS[self._names.index(name) % len(COLOURS)]
        clock = datetime.now().astimezone().strftime("%H:%M:%S")
        self.write(prefixed(name, line, clock=clock, width=self._width, colour=colour))

    def write(self, text: str) -> None:
        """A line as it is."""
        with self._lock:
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                self._coloured = False  # the terminal is gone; the parts' log files still get everything


def silent(name: str, line: str) -> None:
    """For whoever wants the log files only."""
