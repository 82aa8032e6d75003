"""`make demo` on a real Label Studio: every step must hold. The demo's own report says what each step checks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MINUTES = 14  # a busy machine is no failing test


def test_the_main_job_holds_from_end_to_end(tmp_path: Path) -> None:
    report_path = tmp_path / "demo-report.json"
    command = [
        sys.executable,
        "-m",
        "demo",
        "--report",
        str(report_path),
        "--folder",
        str(tmp_path / "stack"),
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=MINUTES * 60, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    report = json.loads(report_path.read_text())
    assert report["ok"]
    assert all(step["ok"] for step in report["steps"])
    assert len(report["steps"]) >= 36
    assert report["figures"]["submit_to_bucket_seconds_worst"] < 2
    assert report["figures"]["predictions_per_second"] > 0
