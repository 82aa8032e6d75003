"""`make run`: first start with its demo project, Ctrl-C, second start with an empty bucket; and nothing is left running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bridge.edges.s3 import S3Store
from bridge.settings import S3Settings
from stack.ports import free_ports

ROOT = Path(__file__).parents[2]
UP_WITHIN_S = 300
PORTS = ("LABEL_STUDIO_PORT", "ML_BACKEND_PORT", "SIDECAR_PORT", "REDIS_PORT", "S3_PORT")


class Running:
    """`python -m stack run` as a person starts it, its output in `lines`."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stack", "run"],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            self.lines.extend(output)

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + UP_WITHIN_S
        while words not in self.text:
            assert self.process.poll() is None, self.text[-4000:]
            assert time.monotonic() < deadline, self.text[-4000:]
            time.sleep(0.2)


@contextmanager
def run(environ: dict[str, str]) -> Iterator[Running]:
    running = Running(environ)
    try:
        yield running
    finally:
        running.process.send_signal(signal.SIGINT)
        try:
            running.process.wait(60)
            running.reader.join(10)
        except subprocess.TimeoutExpired:
            running.process.kill()
            raise


def test_run_stop_and_run_again(tmp_path: Path) -> None:
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    environ = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME", "LANG", "LABEL_STUDIO_VENV")
    }
    environ |= ports | {"RUN_DIR": str(tmp_path / "run")}
    with run(environ) as first:
        first.wait_for("Ctrl-C stops everything.")
        secrets = dict(
            line.split("=", 1)
            for line in (tmp_path / "run/secrets.env").read_text().splitlines()
            if "=" in line
        )
        assert secrets["LABEL_STUDIO_PASSWORD"] in first.text
        assert secrets["API_TOKEN"] not in first.text
        status = _wait_for_baseline(ports, secrets)
        assert status["projects"][0]["connected"]
        assert status["quarantine"] == 0
        log_before = _log_size(ports, secrets)
        assert log_before > 0
    assert first.process.returncode == 0, first.text[-2000:]
    assert not _anything_listens(ports)
    with run(environ) as second:
        second.wait_for("Ctrl-C stops everything.")
        assert "in memory" in second.text
        status = _wait_for_baseline(ports, secrets)
        assert status["projects"][0]["connected"]
        assert _log_size(ports, secrets) > 0, "the baseline was not read into the empty bucket again"
    assert second.process.returncode == 0, second.text[-2000:]
    assert not _anything_listens(ports)


def _wait_for_baseline(ports: dict[str, str], secrets: dict[str, str]) -> dict[str, Any]:
    deadline = time.monotonic() + 90
    while True:
        answer: dict[str, Any] = httpx.get(
            f"http://127.0.0.1:{ports['SIDECAR_PORT']}/api/status",
            headers={"Authorization": f"Bearer {secrets['API_TOKEN']}"},
            timeout=30,
            trust_env=False,
        ).json()
        project = answer["projects"][0]
        if (
            project["baseline"]["state"] == "complete"
            and project["waiting"] == 0
            and _log_size(ports, secrets)
        ):
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.5)


def _log_size(ports: dict[str, str], secrets: dict[str, str]) -> int:
    settings = S3Settings(
        endpoint_url=f"http://127.0.0.1:{ports['S3_PORT']}",
        access_key_id=secrets["AWS_ACCESS_KEY_ID"],
        secret_access_key=secrets["AWS_SECRET_ACCESS_KEY"],
        bucket="labels",
    )
    return sum("/log/" in info.key for info in S3Store(settings).keys("projects/"))


def _anything_listens(ports: dict[str, str]) -> list[str]:
    found = []
    for name, port in ports.items():
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", int(port))) == 0:
                found.append(name)
    return found
