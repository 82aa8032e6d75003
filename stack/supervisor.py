"""Starts the parts in order, waits until each is well, watches them, stops them in reverse.

    with Stack(parts, log_dir=…, say=…) as stack:      # started and well, or StackError and nothing left running
        stack.watch()                                  # until a part dies for good: StackError

Everything happens in the caller's thread, which must be the one that outlives the stack.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from stack.errors import StackError
from stack.health import is_well
from stack.parts import Part
from stack.process import Running
from stack.terminal import Say, silent

TICK_S = 0.1
MAX_RESTARTS = 5
RESTART_WINDOW_S = 120.0


def restart_delay_s(deaths: Sequence[float], now: float) -> float | None:
    """Seconds to wait before a part is started again, from the times it died at; None: give up.

    0.5, 1, 2, 4, 8 seconds for deaths within two minutes; older ones are forgiven.
    """
    recent = [at for at in deaths if now - at < RESTART_WINDOW_S]
    return None if len(recent) > MAX_RESTARTS else 0.5 * 2 ** (len(recent) - 1)


def how_it_ended(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


class Stack:
    """The started parts. Use it in a `with` block: whatever happens inside, every part it started is stopped."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        log_dir: Path,
        say: Say = silent,
        once_well: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        """`once_well`: what to do as soon as a part is up, before those that come after it start."""
        self.parts = {part.name: part for part in parts}
        self._log_dir = log_dir
        self._say = say
        self._once_well = dict(once_well or {})
        self._running: dict[str, Running] = {}
        self._well: set[str] = set()
        self._deaths: dict[str, list[float]] = {}
        self._restart_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until all is well. Raises StackError naming the part that is not."""
        self._log_dir.mkdir(parents=True, exist_ok=True)
        for name in self.parts:
            log = self.log_path(name)
            if log.exists():
                log.replace(log.with_suffix(".log.1"))
        while len(self._well) < len(self.parts):
            for part in self.parts.values():
                if part.name not in self._running and self._well.issuperset(part.after):
                    self._start(part)
            if not self._look_at_starting():
                time.sleep(TICK_S)

    def start_part(self, name: str) -> None:
        """Start one part again after `stop_part` or `kill_part`, and wait until it is well."""
        self._restart_at.pop(name, None)
        self._start(self.parts[name])
        while name not in self._well:
            if not self._look_at_starting():
                time.sleep(TICK_S)

    def stop_part(self, name: str) -> None:
        """Stop one part as it is stopped at the end; the others go on."""
        self._stop({name})

    def kill_part(self, name: str) -> None:
        """SIGKILL to one part and its children, as if the machine had done it; it counts as stopped, not as dead."""
        self._running.pop(name).kill()
        self._well.discard(name)

    def is_running(self, name: str) -> bool:
        return name in self._running and self._running[name].exit_code() is None

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def log_path(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"

    def watch(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Look after the parts until `until()`. Raises StackError when one dies that cannot be started again."""
        while not until():
            self.look()
            time.sleep(TICK_S)

    def look(self) -> None:
        """One round of `watch`: notice the dead, start again those whose time has come."""
        now = time.monotonic()
        for running in list(self._running.values()):
            code = running.exit_code()
            if code is not None:
                self._bury(running, code, now)
        for name, at in list(self._restart_at.items()):
            if now >= at:
                del self._restart_at[name]
                self._start(self.parts[name])
                self._say("stack", f"{name} was started again")
                self._well.add(name)

    def stop(self) -> None:
        """Stop every part that was started here: first what nothing depends on, at the end Redis and S3."""
        self._restart_at.clear()
        self._stop(set(self._running))

    def _start(self, part: Part) -> None:
        self._running[part.name] = Running(part, self.log_path(part.name), self._say)

    def _look_at_starting(self) -> bool:
        """Whether a part has become well. Raises StackError when one has ended or takes too long."""
        progress = False
        for name, running in self._running.items():
            if (code := running.exit_code()) is not None:
                raise StackError(
                    f"{name} {how_it_ended(code)} while the stack was starting",
                    hint=f"its log: {self.log_path(name)}",
                    lines=running.last_lines(),
                )
            if name in self._well:
                continue
            if is_well(running.part, pid=running.pid, age_s=running.age_s):
                self._well.add(name)
                self._say("stack", f"{name} is up ({running.age_s:.1f} s)")
                if action := self._once_well.get(name):
                    action()
                progress = True
            elif running.age_s > running.part.timeout_s:
                raise StackError(
                    f"{name} is not up after {running.part.timeout_s:g} s",
                    hint=f"its log: {self.log_path(name)}",
                    lines=running.last_lines(),
                )
        return progress

    def _bury(self, running: Running, code: int, now: float) -> None:
        name = running.part.name
        running.close()
        del self._running[name]
        self._well.discard(name)
        deaths = self._deaths.setdefault(name, [])
        deaths.append(now)
        delay_s = restart_delay_s(deaths, now) if running.part.restart else None
        if delay_s is None:
            again = f" {len(deaths)} times" if running.part.restart else ""
            raise StackError(
                f"{name} {how_it_ended(code)}{again}: everything is stopped",
                hint=f"its log: {self.log_path(name)}; then start again, no data is lost",
                lines=running.last_lines(),
            )
        self._restart_at[name] = now + delay_s
        self._say(
            "stack",
            f"{name} {how_it_ended(code)}; it is started again in {delay_s:g} s (log: {self.log_path(name)})",
        )

    def _stop(self, names: set[str]) -> None:
        """Each is asked once nothing among `names` needs it any more, and killed when its grace period is over."""
        asked: dict[str, float] = {}
        left = {name for name in names if name in self._running}
        while left:
            for name in sorted(left):
                running = self._running[name]
                if running.exit_code() is not None:
                    running.close()
                    left.discard(name)
                    del self._running[name]
                    self._well.discard(name)
                elif name not in asked:
                    if not any(
                        name in (*self.parts[other].after, *self.parts[other].outlived_by) for other in left
                    ):
                        running.ask_to_stop()
                        asked[name] = time.monotonic()
                elif time.monotonic() - asked[name] > running.part.stop_grace_s:
                    self._say(
                        "stack", f"{name} did not stop within {running.part.stop_grace_s:g} s and is killed"
                    )
                    running.kill()
            if left:
                time.sleep(0.02)
