"""A worker told to stop stops, even where Python swallowed the first word of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A finalizer of an object that goes away while the worker waits: what a signal raises in it is printed and forgotten.
SWALLOWING = """
import os, signal, sys, time
import workers.__main__ as program

class Going:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)

checked, gone = program._Stoppable.check_for_suspension, []
def check(self, burst):
    if not gone:
        gone.append(True)
        Going()
    checked(self, burst)
program._Stoppable.check_for_suspension = check
sys.exit(program.main([sys.argv[1]]))
"""


@pytest.mark.parametrize("queue", ["live", "exports"])
def test_a_signal_that_lands_in_a_finalizer_stops_it_all_the_same(
    queue: str, redis_url: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWING, queue],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "LABEL_STUDIO_URL": "http://127.0.0.1:9",
            "LABEL_STUDIO_API_KEY": "0" * 40,
            "ML_BACKEND_URL": "http://127.0.0.1:9",
            "REDIS_URL": redis_url,
            "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "BUCKET": "none",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "StopRequested" in done.stderr, done.stderr[-2000:]  # it was swallowed
    assert done.returncode in (0, -signal.SIGTERM), done.stderr[-2000:]
