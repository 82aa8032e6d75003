"""The benchmarks at their smallest: each part runs and gives its rows. What they measure here says nothing.

Those that need a Label Studio of their own (save, restore) take minutes and are left to `make bench`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import door, drain, latency
from benchmarks.row import Row

PARTS: dict[str, tuple[Callable[[], list[Row]], int]] = {
    "door": (lambda: door.measure(door.Size(deliveries=3, rate=20, seconds=0.5, tasks=10, imports=1)), 7),
    "drain": (lambda: drain.measure(drain.Size(events=20, put_directly=5)), 1),
    "latency": (lambda: latency.measure(latency.Size(seconds_at=((10, 0.5),))), 2),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_gives_its_rows(name: str) -> None:
    measure, count = PARTS[name]
    rows = measure()
    assert len(rows) == count
    assert all(row.ours > 0 and row.other > 0 for row in rows)
