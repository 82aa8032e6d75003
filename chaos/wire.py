"""The wire between our programs and the bucket: carries bytes, can be cut before, within and after a request, and can hang."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable
from enum import Enum

_LINGER_0 = struct.pack("ii", 1, 0)
_CONTINUE = b"HTTP/1.1 100"
_METHODS = (b"GET ", b"HEAD ", b"PUT ", b"POST ", b"DELETE ")
_TICK_S = 0.1


class Catch(Enum):
    """Where the next PUT into a log is stopped: in the middle of its body, or after it was done, before its answer."""

    BODY = "in the middle of its body"
    ANSWER = "done, its answer not yet read"


class Wire:
    """A TCP proxy on loopback. `refused` counts the connections it turned away while down, `given_up` the PUTs into a
    log whose sender hung up because nothing answered while it hung."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.refused = 0
        self.given_up = 0
        self.caught = threading.Event()
        self._go_on = threading.Event()
        self._target_port = target_port
        self._down = False
        self._flows = threading.Event()
        self._flows.set()
        self._hangs_at_put = False
        self._catch: Catch | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, daemon=True, name="wire").start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self.go_on()
        self._listener.close()
        self._cut_all()

    def down(self) -> None:
        """Cut every connection, and turn new ones away until `up`."""
        self._down = True
        self._cut_all()

    def up(self) -> None:
        self._down = False

    def hang(self) -> None:
        """From now on take every connection and all that is said, and answer nothing, until `go_on`."""
        self._flows.clear()

    def hang_at_log_put(self) -> None:
        """Hang as soon as a PUT into a log has begun, so that one is among what is not answered."""
        self._hangs_at_put = True

    def log_put_begins(self) -> None:
        if self._hangs_at_put:
            self.hang()

    def go_on(self) -> None:
        """What was said meanwhile is passed on, also when whoever said it has hung up: a store that stood still does
        late what it was asked."""
        self._hangs_at_put = False
        self._flows.set()

    @property
    def hangs(self) -> bool:
        return not self._flows.is_set()

    def flow(self) -> None:
        """Return when it does not hang."""
        self._flows.wait()

    def gave_up(self) -> None:
        with self._lock:
            self.given_up += 1

    def catch(self, where: Catch) -> None:
        """Stop the next PUT into a log there; `caught` is set when that has happened. It waits for `release`."""
        self.caught.clear()
        self._go_on.clear()
        with self._lock:
            self._catch = where

    def release(self) -> None:
        """Catch no more; what was caught is cut off."""
        with self._lock:
            self._catch = None
        self._go_on.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._down:
                self.refused += 1
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
                server.settimeout(None)
            except OSError:
                _reset(client)
                continue
            with self._lock:
                self._open |= {client, server}
            _Carrier(self, client, server).start()

    def take_catch(self, request: bytes) -> Catch | None:
        """Whether the request that begins here is the one to stop; one request only."""
        if not _is_log_put(request):
            return None
        with self._lock:
            found, self._catch = self._catch, None
            return found

    def hold(self) -> None:
        """Tell that one is caught, and keep its connection as it is until released."""
        self.caught.set()
        self._go_on.wait(60)

    def closed(self, *sockets: socket.socket, in_order: bool) -> None:
        """Both ends of a connection of which one has ended."""
        with self._lock:
            self._open -= set(sockets)
        for one in sockets:
            if in_order:
                _finish(one)
            else:
                _reset(one)

    def _cut_all(self) -> None:
        with self._lock:
            found, self._open = self._open, set()
        for one in found:
            _reset(one)


class _Carrier:
    """One connection, both directions."""

    def __init__(self, wire: Wire, client: socket.socket, server: socket.socket) -> None:
        self._wire, self._client, self._server = wire, client, server
        self._catch: Catch | None = None
        self._log_put = False  # one is on its way, without its answer yet

    def start(self) -> None:
        for work in (self._to_server, self._to_client):
            threading.Thread(target=self._carry, args=(work,), daemon=True).start()

    def _carry(self, work: Callable[[], bool]) -> None:
        in_order = False
        try:
            in_order = work()
        except (OSError, ValueError):  # ValueError: the socket was closed under `select`
            pass
        finally:
            self._wire.closed(self._client, self._server, in_order=in_order)

    def _to_server(self) -> bool:
        """Until either end closes. Returns whether what was said has been carried."""
        while data := self._said():
            if self._catch is None:
                self._catch = self._wire.take_catch(data)
                if self._catch is Catch.BODY:
                    head, end, data = data.partition(b"\r\n\r\n")
                    self._server.sendall(head + end)
            if self._catch is Catch.BODY and data:
                self._server.sendall(data[: len(data) // 2])
                self._wire.hold()
                return False
            self._server.sendall(data)
        return True

    def _said(self) -> bytes:
        """What the client says next; of a wire that hangs, all that it says until that goes on. b"": it hung up."""
        said = last = self._hear()
        while self._wire.hangs:
            if not last:
                if self._log_put:
                    self._log_put = False
                    self._wire.gave_up()
                self._wire.flow()
            elif select.select([self._client], [], [], _TICK_S)[0]:
                last = self._hear()
                said += last
        return said

    def _hear(self) -> bytes:
        try:
            data = self._client.recv(1 << 16)
        except ConnectionResetError:
            return b""
        if data.startswith(_METHODS):
            self._log_put = _is_log_put(data)
            if self._log_put:
                self._wire.log_put_begins()
        return data

    def _to_client(self) -> bool:
        while data := self._server.recv(1 << 16):
            self._wire.flow()
            if not data.startswith(_CONTINUE):
                self._log_put = False
            if self._catch is Catch.ANSWER and not (
                data.startswith(_CONTINUE) and data.endswith(b"\r\n\r\n") and data.count(b"HTTP/1.1") == 1
            ):
                self._wire.hold()
                return False
            self._client.sendall(data)
        return True


def _is_log_put(request: bytes) -> bool:
    line = request.partition(b"\r\n")[0]
    return line.startswith(b"PUT ") and b"/log/" in line


def _finish(one: socket.socket) -> None:
    """An orderly end: what was sent still arrives. The shutdown wakes the thread that reads here."""
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()


def _reset(one: socket.socket) -> None:
    """End a connection as a dying server does."""
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()
