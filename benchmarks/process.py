"""One command from start to end: how long it took, and how much memory it and its children held at most."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOOK_EVERY_S = 0.02
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Wall-clock seconds, starting the interpreter included, and the peaks of all processes added up, in MiB."""

    seconds: float
    peak_mib: float


def measured(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Measured:
    """Run it to its end; raises RuntimeError with what it said when it fails.

    The kernel keeps each process's own peak (VmHWM); it is read while the process lives, since the figure that a
    parent gets at the end (ru_maxrss) counts what it held itself when it started the child."""
    peaks: dict[int, int] = {}
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_S):
            for pid in _tree(process.pid):
                peaks[pid] = max(peaks.get(pid, 0), _peak_kib(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        said, _ = process.communicate()
        seconds = time.perf_counter() - began
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        over.set()
        watcher.join()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said[-2000:]}")
    return Measured(seconds=seconds, peak_mib=sum(peaks.values()) / 1024)


class PeakWatch:
    """The peaks of a running process and all below it, watched until `stop`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peaks: dict[int, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def peak_mib(self) -> float:
        """All processes' own peaks added up, those that have ended included."""
        return sum(self._peaks.copy().values()) / 1024

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            for pid in _tree(self._pid):
                self._peaks[pid] = max(self._peaks.get(pid, 0), _peak_kib(pid))


def _tree(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in children.read_text().split())
            except OSError:  # it has just ended
                continue
    return found


def _peak_kib(pid: int) -> int:
    try:
        found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0
