"""One started part: its process, its log, its end. The only module that starts and ends processes.

Each part is the leader of a process group of its own, so that a Ctrl-C at the terminal reaches only the stack, which
then stops the parts in its own order; only groups made here are ever signalled.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from stack.errors import StackError
from stack.lines import LineFilter
from stack.parts import Part
from stack.terminal import Say

KEPT_LINES = 15
_PR_SET_PDEATHSIG = 1


def _die_with_us() -> Callable[[], None] | None:
    """For the child, before it becomes the part: ask Linux for a SIGTERM when the thread that started it ends.

    So that a stack that was killed (SIGKILL, out of memory) leaves nothing behind. Elsewhere: nothing.
    """
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return None
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Running:
    """A part's process from its start to its end. Start it from a thread that outlives it (the main thread)."""

    def __init__(self, part: Part, log_path: Path, say: Say) -> None:
        self.part = part
        self.log_path = log_path
        self.started_at = time.monotonic()
        self._say = say
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        _make_folders(part)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log = log_path.open("ab", buffering=0)
        try:
            self._process = subprocess.Popen(
                part.argv,
                env=dict(part.env),
                cwd=part.cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_us(),
            )
        except OSError as error:
            self._log.close()
            raise StackError(
                f"{part.name} cannot be started: {part.argv[0]}: {error.strerror}", hint="run `make setup`"
            ) from error
        self._pump = threading.Thread(target=self._carry_lines, name=f"log of {part.name}", daemon=True)
        self._pump.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.started_at

    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it. What it left in its group ends with it."""
        if self._process.returncode is None:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            # Before it is reaped, while its process id cannot yet belong to somebody else's group.
            self._kill_group()
            self._process.wait()
        return self._process.returncode

    def last_lines(self) -> list[str]:
        """What it said last, complete once it has ended."""
        if self.exit_code() is not None:
            self._pump.join(1.0)
        return list(self._last)

    def ask_to_stop(self) -> None:
        """SIGTERM to the part itself: gunicorn and RQ then end their own children in good order."""
        if self.exit_code() is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to the part and all it started, and wait for its end."""
        if self.exit_code() is None:
            self._kill_group()
            self._process.wait()
        self.close()

    def close(self) -> None:
        """After its end: write out the log."""
        self._pump.join(2.0)
        self._log.close()

    def _kill_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left in it; macOS says so with a PermissionError

    def _carry_lines(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        wanted = LineFilter(self.part.show)
        with stdout:
            for raw in stdout:
                if not self._log.closed:
                    self._log.write(raw)
                line = raw.decode("utf-8", "replace").rstrip()
                if line:
                    self._last.append(line)
                if wanted.shows(line):
                    self._say(self.part.name, line)


def _make_folders(part: Part) -> None:
    for folder in part.emptied:
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (*part.folders, *part.emptied):
        folder.mkdir(parents=True, exist_ok=True)
