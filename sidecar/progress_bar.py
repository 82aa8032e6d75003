"""How far a transfer is: a line that is drawn over and over on a terminal; nothing at all anywhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TextIO

from bridge.transfer import Item

_DRAW_EVERY_S = 0.1
_WIDTH = 24  # columns of the bar itself


def size_words(size_bytes: float) -> str:
    """Bytes for people: `999 B`, `1.2 MB` (powers of ten, as disks and networks count)."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1000
        if size_bytes < 999.95:
            return f"{size_bytes:.1f} {unit}"
    return f"{size_bytes / 1000:.1f} TB"


def time_words(seconds: float) -> str:
    """`0:07`, `12:03`, `2:05:00`."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def bar_line(*, files: int, all_files: int, size_bytes: int, all_bytes: int, seconds: float) -> str:
    """One line: the bar, files and bytes done of all, the rate, the time left."""
    done = size_bytes / all_bytes if all_bytes else (files / all_files if all_files else 1.0)
    filled = int(_WIDTH * done)
    rate = size_bytes / seconds if seconds > 0 else 0.0
    left = time_words((all_bytes - size_bytes) / rate) if rate else "?"
    return (
        f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {done:4.0%}  {files} of {all_files} files  "
        f"{size_words(size_bytes)} of {size_words(all_bytes)}  {size_words(rate)}/s  {left} left"
    )


class ProgressBar:
    """A `bridge.edges.transfer.Progress` for a terminal; quiet when `stream` is none."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._shown = stream.isatty()
        self._clock = clock
        self._lock = threading.Lock()
        self._began = self._drawn = clock()
        self._files = self._all_files = self._bytes = self._all_bytes = 0

    def start(self, files: int, size_bytes: int) -> None:
        self._all_files, self._all_bytes = files, size_bytes
        self._began = self._clock()

    def moved(self, size_bytes: int) -> None:
        with self._lock:
            self._bytes += size_bytes
            self._draw()

    def finished(self, item: Item, why: str) -> None:
        with self._lock:
            self._files += 1
            self._draw(last=self._files == self._all_files)

    def close(self) -> None:
        """Leave a clean line for what is printed next."""
        if self._shown and self._all_files:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _draw(self, *, last: bool = False) -> None:
        now = self._clock()
        if not self._shown or (now - self._drawn < _DRAW_EVERY_S and not last):
            return
        self._drawn = now
        line = bar_line(
            files=self._files,
            all_files=self._all_files,
            size_bytes=min(self._bytes, self._all_bytes),
            all_bytes=self._all_bytes,
            seconds=now - self._began,
        )
        self._stream.write(f"\r{line}\x1b[K")
        self._stream.flush()
