"""Faults in random order while people annotate on a real Label Studio: nothing lost, nothing doubled, nothing different.

The same programs as `make chaos`, smaller. What counts as an effect of a fault: chaos/faults.py; what is compared:
chaos/oracle.py, whose own tests are tests/unit/test_chaos_oracle.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SEED, EVENTS, FAULTS = 20261122, 300, 11
MINUTES = 14  # a busy machine is no failing test; two minutes and a minute's start on an idle one


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run with both scenarios: starting Label Studio is most of its cost."""
    folder = tmp_path_factory.mktemp("chaos")
    path = folder / "chaos-report.json"
    command = [
        *(
            sys.executable,
            "-m",
            "chaos",
            "--seed",
            str(SEED),
            "--events",
            str(EVENTS),
            "--faults",
            str(FAULTS),
        ),
        *("--report", str(path), "--folder", str(folder / "stack")),
    ]
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LABEL_STUDIO_VENV") if name in os.environ
    }
    done = subprocess.run(
        command, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=MINUTES * 60, check=False
    )
    assert path.exists(), f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    found: dict[str, Any] = json.loads(path.read_text())
    assert "error" not in found, f"{found['error']}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    assert (done.returncode == 0) == found["ok"], done.stdout[-3000:]
    return found


def test_nothing_is_lost_doubled_or_different_after_the_faults(report: dict[str, Any]) -> None:
    details = json.dumps(report["details"], indent=1, ensure_ascii=False)[:6000]
    assert (report["missing"], report["duplicated"], report["differences"]) == (0, 0, 0), details
    assert report["events"] >= EVENTS
    assert report["faults"] >= FAULTS
    # A run in which no webhook got through, or all did, would prove nothing.
    assert report["figures"]["webhooks_acknowledged"] > EVENTS / 3
    assert report["figures"]["webhooks_never_acknowledged"] > 0
    assert report["figures"]["annotations"] > 20
    assert report["figures"]["snapshots"] > 0


def test_a_deleted_label_studio_comes_back_whole(report: dict[str, Any]) -> None:
    assert report["rebuild"]["findings"] == []
    assert report["rebuild"]["ok"]
    assert report["rebuild"]["figures"]["annotations"] > 20
    assert report["rebuild"]["figures"]["pictures"] >= 12
