"""`python -m benchmarks [PART …]`: measure, print a table, write `bench-report.json`. `make bench ONLY=door` runs one part."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks import door, drain, fold, latency, predict, prelabel, prelabel_job, restore, save, transfer
from benchmarks.row import Row

PARTS: dict[str, Callable[[], list[Row]]] = {
    "door": door.measure,
    "drain": drain.measure,
    "fold": fold.measure,
    "latency": latency.measure,
    "predict": predict.measure,
    "prelabel": prelabel.measure,
    "prelabel-job": prelabel_job.measure,
    "restore": restore.measure,
    "save": save.measure,
    "transfer": transfer.measure,
}
REPORT = Path("bench-report.json")


def main(names: list[str]) -> int:
    """Returns the exit status: 2 for a part that does not exist."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start")
    rows = []
    for name in names or PARTS:
        for row in PARTS[name]():
            rows.append(row)
            print(row)
    REPORT.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(f"the last figure: how many times better ours is; all of it in {REPORT}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
