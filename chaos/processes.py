"""The parts of one stack as processes that can be killed and started again, one by one.

What runs is what `make run` runs: commands and environments come from stack/parts.py. Everything here is called from
one thread, the main one: a part ends with the thread that started it (stack/process.py).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from stack.health import is_well
from stack.parts import Part
from stack.process import Running
from stack.supervisor import restart_delay_s
from stack.terminal import Say

TICK_S = 0.05


class NotUp(Exception):
    """A part did not start, or ended by itself though nobody killed it."""


class Processes:
    """Every part, running or not. In a `with` block: whatever happens inside, all it started is stopped."""

    def __init__(self, parts: Iterable[Part], log_dir: Path, say: Say) -> None:
        self.parts: Mapping[str, Part] = {part.name: part for part in parts}
        self.log_dir = log_dir
        self.died: list[str] = []
        self._say = say
        self._running: dict[str, Running] = {}
        self._deaths: dict[str, list[float]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._running)):
            self._running[name].ask_to_stop()
        deadline = time.monotonic() + 10
        for name in list(self._running):
            while self._running[name].exit_code() is None and time.monotonic() < deadline:
                time.sleep(TICK_S)
            self.kill(name)

    def start(self, *names: str) -> None:
        """Start parts side by side and wait until all of them are well. Raises NotUp."""
        for name in names:
            self._running[name] = Running(self.parts[name], self._log(name), lambda *_: None)
        for name in names:
            self._wait(name)

    def start_without_waiting(self, name: str) -> None:
        self._running[name] = Running(self.parts[name], self._log(name), lambda *_: None)

    def wait_until_well(self, name: str) -> None:
        self._wait(name)

    def kill(self, *names: str) -> None:
        """SIGKILL to each part and all it started, the parts that run at any rate."""
        for name in names:
            if running := self._running.pop(name, None):
                running.kill()

    def freeze(self, name: str) -> None:
        """The part stands still, its connections open, until `thaw`."""
        os.killpg(self._running[name].pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        os.killpg(self._running[name].pid, signal.SIGCONT)

    def is_running(self, name: str) -> bool:
        return name in self._running and self._running[name].exit_code() is None

    def look(self) -> None:
        """Start again what ended by itself, as an operator's supervisor does (docker's `restart`). Raises NotUp for
        a part that nothing restarts: it must not end by itself."""
        for name, running in list(self._running.items()):
            code = running.exit_code()
            if code is None:
                continue
            running.close()
            del self._running[name]
            self._deaths.setdefault(name, []).append(time.monotonic())
            self.died.append(f"{name} ended by itself with {code}: {' | '.join(running.last_lines()[-3:])}")
            self._say("chaos", self.died[-1])
            # As stack/supervisor.py: a part that dies at once, again and again, is given up.
            if not running.part.restart or restart_delay_s(self._deaths[name], time.monotonic()) is None:
                raise NotUp(self.died[-1])
            self.start_without_waiting(name)

    def _log(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def _wait(self, name: str) -> None:
        while True:
            running = self._running[name]
            if (code := running.exit_code()) is not None:
                if not running.part.restart or running.age_s > running.part.timeout_s:
                    raise NotUp(f"{name} ended with {code}: {' | '.join(running.last_lines()[-5:])}")
                self.look()
                continue
            if is_well(running.part, pid=running.pid, age_s=running.age_s):
                return
            if running.age_s > running.part.timeout_s:
                raise NotUp(f"{name} is not up after {running.part.timeout_s:g} s: see {self._log(name)}")
            time.sleep(TICK_S)
