"""How far a running job is: what it writes into RQ's `job.meta`, and what a person is shown of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.records import format_time, parse_time

META = "progress"
# Below this a rate is noise, and "3 s left" helps nobody.
ENOUGH_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`done` of `total` units; `total` is None while it is unknown. `done_at_start`: what an earlier run had done."""

    done: int
    total: int | None
    unit: str
    began_at: datetime
    updated_at: datetime
    done_at_start: int = 0

    @property
    def left_s(self) -> float | None:
        """Seconds left at the rate so far, or None where it cannot be known."""
        worked_s = (self.updated_at - self.began_at).total_seconds()
        made = self.done - self.done_at_start
        if self.total is None or made <= 0 or worked_s < ENOUGH_S:
            return None
        return max(0, self.total - self.done) * worked_s / made

    def words(self) -> str:
        """Such as `40 of 500 tasks, 12 s left`."""
        of = "" if self.total is None else f" of {self.total}"
        left = self.left_s
        return f"{self.done}{of} {self.unit}" + ("" if left is None else f", {span(left)} left")

    def to_json(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "began_at": format_time(self.began_at),
            "updated_at": format_time(self.updated_at),
            "done_at_start": self.done_at_start,
        }


def of_meta(meta: Mapping[str, Any]) -> Progress | None:
    """The progress a job wrote, or None when it wrote none (or a later version of us did, in another form)."""
    try:
        found = meta[META]
        began_at, updated_at = parse_time(found["began_at"]), parse_time(found["updated_at"])
        if began_at is None or updated_at is None:
            return None
        return Progress(
            done=int(found["done"]),
            total=None if found["total"] is None else int(found["total"]),
            unit=str(found["unit"]),
            began_at=began_at,
            updated_at=updated_at,
            done_at_start=int(found["done_at_start"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def span(seconds: float) -> str:
    """A length of time in the unit a person would take."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
