"""A way to the bucket that notes when each log object was there, and that can be cut.

The bucket's answer to a PUT is the earliest moment at which anybody could read the object. Listing the bucket every few
milliseconds would say the same less exactly, and would keep one of two processors busy.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.machine import started, temporary_setup
from stack.settings import program_environment

HOST = "127.0.0.1"
NO_LABEL_STUDIO = {"LABEL_STUDIO_URL": f"http://{HOST}:9", "LABEL_STUDIO_API_KEY": "0" * 40}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BUCKET_SETTINGS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "BUCKET")


@contextmanager
def bucket_behind_relay(folder: Path) -> Iterator[tuple[Relay, dict[str, str]]]:
    """An empty bucket of the emulation behind a relay; yields that and the settings that lead to the bucket through it."""
    setup = temporary_setup(folder, os.environ, **NO_LABEL_STUDIO)
    with started(setup, only={"s3"}), Relay(setup.settings.s3_port) as relay:
        environment = program_environment(setup)
        settings = {name: environment[name] for name in _BUCKET_SETTINGS}
        yield relay, {**settings, "AWS_ENDPOINT_URL_S3": f"http://{HOST}:{relay.port}"}


class Relay:
    """A TCP proxy. `put_at`: path of a log object -> when the bucket said that it has it, in monotonic seconds."""

    def __init__(self, target_port: int) -> None:
        self.put_at: dict[str, float] = {}
        self._target_port = target_port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Relay:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def down(self) -> None:
        """Cut every connection and refuse new ones until `up`: the bucket's machine is off."""
        _close(self._listener)
        with self._lock:
            found, self._open = self._open, set()
        for one in found:
            _close(one)

    def up(self) -> None:
        self._listener = socket.create_server((HOST, self.port), backlog=128)
        self._listen()

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection((HOST, self._target_port))
            except OSError:
                return
            with self._lock:
                self._open |= {client, server}
            carrier = _Carrier(client, server, self.put_at)
            for work in (carrier.to_server, carrier.to_client):
                threading.Thread(target=self._carry, args=(work, client, server), daemon=True).start()

    def _carry(self, work: Callable[[], None], *ends: socket.socket) -> None:
        try:
            work()
        except OSError:
            pass  # the other direction has ended, or `down` has cut it
        for one in ends:
            _close(one)
        with self._lock:
            self._open -= set(ends)


class _Carrier:
    """One connection; a request on it begins after the answer to the one before."""

    def __init__(self, client: socket.socket, server: socket.socket, put_at: dict[str, float]) -> None:
        self._client, self._server, self._put_at = client, server, put_at
        self._path = ""

    def to_server(self) -> None:
        while data := self._client.recv(1 << 16):
            if data.startswith(b"PUT ") and b"/log/" in (line := data.partition(b"\r\n")[0]):
                self._path = line.split()[1].decode()
            self._server.sendall(data)

    def to_client(self) -> None:
        while data := self._server.recv(1 << 16):
            answer = data.removeprefix(_CONTINUE)
            if self._path and answer.startswith(b"HTTP/1."):
                if answer.split(b" ", 2)[1] == b"200":
                    self._put_at[self._path] = time.monotonic()
                self._path = ""
            self._client.sendall(data)


def _close(one: socket.socket) -> None:
    """The shutdown wakes whoever waits on it."""
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()
