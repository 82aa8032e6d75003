"""How long Label Studio waits for a webhook: the sidecar (stream, then bucket) beside writing to the bucket at once."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.row import Row, less_is_better
from stack.machine import started, temporary_setup
from stack.ports import free_ports
from stack.settings import program_environment

ROOT = Path(__file__).parents[1]
DELIVERIES = 300
WARM_UP = 20


def measure() -> list[Row]:
    """Milliseconds an answer takes, median and 99th percentile, for both; moto stands in for the store."""
    body = (ROOT / "tests/samples/ANNOTATION_CREATED.json").read_bytes()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        setup = temporary_setup(
            Path(folder), os.environ, LABEL_STUDIO_URL="http://127.0.0.1:9", LABEL_STUDIO_API_KEY="0" * 40
        )
        with started(setup, only={"redis", "s3", "sidecar"}):
            environment = program_environment(setup)
            headers = {"X-Webhook-Secret": environment["WEBHOOK_SECRET"], "Content-Type": "application/json"}
            ours = _times(f"{setup.sidecar_url}/webhook", body, headers)
            direct = _direct(environment, body, headers)
    other_is = "put into the bucket before the answer"
    return [
        less_is_better(
            "a webhook's answer, median", "ms", statistics.median(ours), statistics.median(direct), other_is
        ),
        less_is_better("a webhook's answer, 99 of 100", "ms", _late(ours), _late(direct), other_is),
    ]


def _late(times: list[float]) -> float:
    """What 99 of 100 stay below."""
    return sorted(times)[int(len(times) * 0.99) - 1]


def _direct(environment: dict[str, str], body: bytes, headers: dict[str, str]) -> list[float]:
    port = free_ports(1)[0]
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--bind",
        f"127.0.0.1:{port}",
        "--workers",
        "2",
        "--threads",
        "8",
    ]
    command += ["--log-level", "error", "benchmarks.direct_to_bucket:create_app()"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.post(f"http://127.0.0.1:{port}/webhook", content=body, headers=headers, timeout=5)
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        return _times(f"http://127.0.0.1:{port}/webhook", body, headers)
    finally:
        process.terminate()
        process.wait(20)


def _times(url: str, body: bytes, headers: dict[str, str]) -> list[float]:
    """Milliseconds of each delivery, one after the other, as Label Studio sends them: a new connection each."""
    found = []
    with httpx.Client(
        timeout=10, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
    ) as client:
        for number in range(DELIVERIES + WARM_UP):
            began = time.perf_counter()
            client.post(url, content=body, headers=headers).raise_for_status()
            if number >= WARM_UP:
                found.append((time.perf_counter() - began) * 1000)
    return found
