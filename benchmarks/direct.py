"""Starts what a user would write instead (benchmarks/direct_to_bucket.py), as he would run it: gunicorn, two processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.bodies import AnnotationBodies
from stack.ports import free_ports

ROOT = Path(__file__).parents[1]
OTHER_IS = "put into the bucket before the answer"
START_S = 60


@contextmanager
def direct_to_bucket(environment: Mapping[str, str], headers: Mapping[str, str]) -> Iterator[str]:
    """Yields the address of its webhook once it has taken one."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--log-level", "error"]
    command += ["--workers", "2", "--threads", "8", "benchmarks.direct_to_bucket:create_app()"]
    process = subprocess.Popen(command, cwd=ROOT, env=dict(environment))
    url = f"http://127.0.0.1:{port}/webhook"
    try:
        _wait(url, headers)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, headers: Mapping[str, str]) -> None:
    body = AnnotationBodies().body(1)
    deadline = time.monotonic() + START_S
    while True:
        try:
            httpx.post(url, content=body, headers=headers, timeout=5, trust_env=False).raise_for_status()
            return
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
