"""One line of the table: our figure, what a user would have instead, and how many times better ours is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """`ratio` above 1 means that ours is better, whether less or more of the unit is better; None: beyond all measure,
    the divisor being 0."""

    name: str
    unit: str
    ours: float
    other: float
    other_is: str
    ratio: float | None

    def __str__(self) -> str:
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f} x"
        ours, other = f"{self.ours:9.2f} {self.unit:<10}", f"{self.other:9.2f} {self.other_is:<52}"
        return f"{self.name:<38} {ours} {other} {ratio:>8}"


def less_is_better(name: str, unit: str, ours: float, other: float, other_is: str) -> Row:
    return _row(name, unit, ours, other, other_is, _ratio(other, ours))


def more_is_better(name: str, unit: str, ours: float, other: float, other_is: str) -> Row:
    return _row(name, unit, ours, other, other_is, _ratio(ours, other))


def _row(name: str, unit: str, ours: float, other: float, other_is: str, ratio: float | None) -> Row:
    return Row(
        name=name, unit=unit, ours=round(ours, 2), other=round(other, 2), other_is=other_is, ratio=ratio
    )


def _ratio(good: float, bad: float) -> float | None:
    return round(good / bad, 2) if bad else None
