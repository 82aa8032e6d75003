"""The steps of `make demo`: what was tried, whether it held, how long it took. Pure bookkeeping and its table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any


class StepFailed(Exception):
    """A step did not hold; the message says what was expected and what was seen."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. `detail` is one line for people."""

    name: str
    ok: bool
    seconds: float
    detail: str


@dataclass(kw_only=True)
class Report:
    """All steps so far, and the figures worth keeping."""

    say: Callable[[str], None]
    steps: list[Step] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Run one step; append to the yielded list to add to its detail. A failed step ends the demo."""
        details: list[str] = []
        began = time.monotonic()
        try:
            yield details
        except BaseException as error:
            reason = str(error) if isinstance(error, StepFailed) else f"{type(error).__name__}: {error}"
            self._done(name, False, began, "; ".join([*details, reason]))
            raise
        self._done(name, True, began, "; ".join(details))

    def _done(self, name: str, ok: bool, began: float, detail: str) -> None:
        step = Step(name=name, ok=ok, seconds=round(time.monotonic() - began, 3), detail=detail)
        self.steps.append(step)
        self.say(line(step))

    @property
    def ok(self) -> bool:
        return bool(self.steps) and all(step.ok for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "steps": [asdict(step) for step in self.steps], "figures": self.figures}


def line(step: Step) -> str:
    """One row of the table."""
    return f"{'ok  ' if step.ok else 'FAIL'} {step.seconds:7.2f} s  {step.name:<52} {step.detail}"


def expect(held: bool, message: str) -> None:
    """Raise StepFailed with the message unless it held."""
    if not held:
        raise StepFailed(message)


def wait_for(what: str, found: Callable[[], Any], *, within_s: float, every_s: float = 0.05) -> Any:
    """Ask until the answer is true and return it. Raises StepFailed after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while True:
        answer = found()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise StepFailed(f"{what}: not within {within_s:g} s")
        time.sleep(every_s)
