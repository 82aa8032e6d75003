"""`python -m benchmarks [door] [prelabel]`: measure, print, and say against what."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from benchmarks import door, prelabel

MEASURES: dict[str, tuple[Callable[[], dict[str, float]], str]] = {
    "door": (
        door.measure,
        "a webhook answered by the sidecar, beside one put into the bucket before the answer",
    ),
    "prelabel": (
        prelabel.measure,
        "the demo model in batches, beside ultralytics' predict on one file at a time",
    ),
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(MEASURES)}", file=sys.stderr)
        return 2
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start")
    for name in names or MEASURES:
        measure, about = MEASURES[name]
        print(f"{name}: {about}")
        for figure, value in measure().items():
            print(f"  {figure:<32} {value:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
