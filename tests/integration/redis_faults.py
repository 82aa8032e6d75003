"""A real Redis that is made to fail in every way it can, and a wire to it that loses a reply."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.integration.conftest import free_port, redis_server_binary, running

WAIT_S = 30.0


def until(true: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    """Wait for something, with a deadline that a loaded machine keeps."""
    deadline = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < deadline, f"not within {wait_s:g} s: {what}"
        time.sleep(0.02)


class Server:
    """A Redis of its own, as we run it, that can be killed and started again on its port and files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.admin = redis.Redis(port=self.port, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        self._stack = ExitStack()
        self._starts = 0

    def start(self, *options: str, until_up: bool = True) -> None:
        command = [redis_server_binary(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        command += ["--maxmemory-policy", "noeviction", *options]
        self._starts += 1
        is_up = self.is_up if until_up else lambda: True
        self.process: subprocess.Popen[bytes] = self._stack.enter_context(
            running(command, self.folder / f"{self._starts}.log", is_up=is_up)
        )

    def is_up(self) -> bool:
        try:
            return bool(self.admin.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        self._stack.close()
        self.admin.close()


@contextmanager
def own_redis(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


# --- the faults: each lasts as long as its block


@contextmanager
def refused(server: Server) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextmanager
def hung(server: Server) -> Iterator[None]:
    server.process.send_signal(signal.SIGSTOP)
    yield
    server.process.send_signal(signal.SIGCONT)


@contextmanager
def without_replicas(server: Server) -> Iterator[None]:
    """It refuses writes with NOREPLICAS."""
    server.admin.config_set("min-replicas-to-write", 1)
    yield
    server.admin.config_set("min-replicas-to-write", 0)


@contextmanager
def out_of_memory(server: Server) -> Iterator[None]:
    server.admin.config_set("maxmemory", 1)
    yield
    server.admin.config_set("maxmemory", 0)


@contextmanager
def loading(server: Server) -> Iterator[None]:
    """It reads its file, which takes some seconds, and says LOADING now and then meanwhile."""
    pipe = server.admin.pipeline(transaction=False)
    for number in range(8000):
        pipe.set(f"other:{number}", number)
    pipe.execute()
    server.kill()
    server.start("--key-load-delay", "250", until_up=False)

    def says_loading() -> bool:
        try:  # one word, without the greeting of redis-py: it answers a few times a second only
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as one:
                one.sendall(b"PING\r\n")
                return one.recv(99).startswith(b"-LOADING")
        except OSError:
            return False

    until(says_loading, "LOADING")
    yield
    until(server.is_up, "Redis has read its file")


@contextmanager
def failing_over(server: Server) -> Iterator[None]:
    """Another one becomes the primary and this one its replica, read-only; then they change places again."""
    with own_redis(server.folder / "other") as other:
        for one in (server, other):
            one.admin.config_set("repl-diskless-sync", "yes")
            one.admin.config_set("repl-diskless-sync-delay", 0)

        other.admin.replicaof("127.0.0.1", server.port)
        until(lambda: other.admin.info("replication").get("master_link_status") == "up", "replication")
        other.admin.replicaof("NO", "ONE")
        server.admin.replicaof("127.0.0.1", other.port)
        yield
        server.admin.replicaof("NO", "ONE")


@contextmanager
def wrong_password(server: Server) -> Iterator[None]:
    """Somebody has set one that is not in our REDIS_URL; connections that are open are cut."""
    server.admin.config_set("requirepass", "another")
    server.admin.client_kill_filter(_type="normal", skipme=True)
    yield
    with redis.Redis(port=server.port, password="another") as one:
        one.config_set("requirepass", "")


@contextmanager
def stream_taken(server: Server) -> Iterator[None]:
    """Something else lies under the stream's name, though all else works."""
    key = "bridge:events:1.1795312801"
    if server.admin.exists(key):
        server.admin.rename(key, "aside")
    server.admin.set(key, "not a stream")
    yield
    server.admin.delete(key)
    if server.admin.exists("aside"):
        server.admin.rename("aside", key)


FAULTS = {
    fault.__name__: fault
    for fault in (
        refused,
        hung,
        without_replicas,
        out_of_memory,
        loading,
        failing_over,
        wrong_password,
        stream_taken,
    )
}


class LossyWire:
    """Passes bytes between clients and a Redis. After `lose`, the next answer to an EXEC is thrown away, with its line."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._socket.getsockname()[1]}/0"
        self.lose = False
        self.lost = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as server:
            while said := client.recv(1 << 20):
                server.sendall(said)
                while not said.endswith(b"\r\n"):
                    said = client.recv(1 << 20)
                    server.sendall(said)
                answer = server.recv(1 << 20)
                if self.lose and b"EXEC" in said:
                    self.lose = False
                    self.lost += 1
                    return
                client.sendall(answer)

    def close(self) -> None:
        self._socket.close()
