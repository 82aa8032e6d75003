"""What the doctor finds: one line each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bridge.errors import BridgeError

Result = Literal["ok", "info", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at. `remedy` says what to do; every `fail` has one. Neither holds a secret."""

    area: str
    name: str
    result: Result
    text: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was looked at. Well when nothing needed fails; warnings do not count."""

    checks: Sequence[Check]

    @property
    def ok(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if check.result == "fail"]

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "checks": [dataclasses.asdict(check) for check in self.checks]}


class Area:
    """Collects the lines of one area."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: list[Check] = []

    def ok(self, name: str, text: str) -> None:
        self._add(name, "ok", text)

    def info(self, name: str, text: str) -> None:
        self._add(name, "info", text)

    def warn(self, name: str, text: str, remedy: str = "") -> None:
        self._add(name, "warn", text, remedy)

    def fail(self, name: str, text: str, remedy: str) -> None:
        self._add(name, "fail", text, remedy)

    def failed(self, name: str, error: BridgeError, remedy: str) -> None:
        """An error of ours: it carries its own hint in brackets, which becomes the remedy."""
        text, hint = split_hint(str(error))
        self._add(name, "fail", text, hint or remedy)

    def _add(self, name: str, result: Result, text: str, remedy: str = "") -> None:
        self.checks.append(Check(area=self.name, name=name, result=result, text=text, remedy=remedy))


def split_hint(message: str) -> tuple[str, str]:
    """A message of ours into what happened and what to do: the hint is the last bracket, and has a space in it."""
    if not message.endswith(")"):
        return message, ""
    depth = 0
    for at in range(len(message) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(message[at], 0)
        if depth == 0:
            hint = message[at + 1 : -1]
            return (message[:at].rstrip(), hint) if at and " " in hint else (message, "")
    return message, ""
