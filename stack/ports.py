"""Which ports are free. Looking is not reserving: whoever starts last may still lose a race, and then says so."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import ExitStack

from stack.parts import Part
from stack.settings import LOOPBACK


def in_use(port: int) -> bool:
    """Whether a server listens on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # or a port just closed would count as in use
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on just now."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]


def conflicts(parts: Iterable[Part]) -> list[str]:
    """One line for each part that cannot have its port."""
    lines = []
    taken: dict[int, str] = {}
    for part in parts:
        if part.port is None:
            continue
        if part.port in taken:
            lines.append(
                f"{part.port_setting}={part.port} is also the port of {taken[part.port]}; choose another"
            )
        elif in_use(part.port):
            lines.append(
                f"port {part.port} ({part.name}) is in use; stop what uses it or set {part.port_setting} to a free one"
            )
        taken[part.port] = part.name
    return lines
