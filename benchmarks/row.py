"""One line of the table: our figure, what a user would have instead, and how many times better ours is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """`ratio` above 1 means that ours is better, whether less or more of the unit is better."""

    name: str
    unit: str
    ours: float
    other: float
    other_is: str
    ratio: float


def less_is_better(name: str, unit: str, ours: float, other: float, other_is: str) -> Row:
    return Row(
        name=name,
        unit=unit,
        ours=round(ours, 2),
        other=round(other, 2),
        other_is=other_is,
        ratio=round(other / ours, 2),
    )


def more_is_better(name: str, unit: str, ours: float, other: float, other_is: str) -> Row:
    return Row(
        name=name,
        unit=unit,
        ours=round(ours, 2),
        other=round(other, 2),
        other_is=other_is,
        ratio=round(ours / other, 2),
    )
