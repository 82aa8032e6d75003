"""Which addresses pictures may be fetched from. Whoever can add a task writes addresses, and this machine asks them.

Two looks at each: the host's name before anything is sent (`check_url`, also for every redirect), and the address that
the name stands for at the moment of connecting, which is the one connected to (`GuardedTransport`): a name that changes
its answer between looking and connecting gains nothing. Whoever answers is not trusted either: all of an answer counts
as one wait, and nothing is unpacked that could become a thousand times a thousand times as much.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpcore
import httpx

from ml_backend.problems import TaskProblem
from ml_backend.references import origin_of, shown

_NAT64 = IPv6Network("64:ff9b::/96")
_INTERNET = IPv6Network(
    "2000::/3"
)  # of IPv6 nothing else is given out; the rest are ways inside, old and new
_MOST_CONNECTIONS = 64
_PORTS = {"http": 80, "https": 443}
_CODINGS = (
    "",
    "identity",
    "gzip",
    "x-gzip",
    "deflate",
)  # at most 1000 times as much; two on top of each other: a million
Resolve = Callable[[str, int], list[str]]
"""Host and port -> the addresses its name stands for now. Raises OSError."""


@dataclass(frozen=True, kw_only=True)
class WebRules:
    """`hosts`: names that may be asked, `*` for all, `*.example.org` for all below it. `private`: whether any of them
    may lie on a private, loopback or link-local address; one that is named in full may. `own`: (host, port) of Label
    Studio and the object store, always allowed; `stores`: of the latter, below whose name buckets have theirs."""

    hosts: tuple[str, ...] = ("*",)
    private: bool = False
    own: frozenset[tuple[str, int]] = frozenset()
    stores: frozenset[tuple[str, int]] = frozenset()

    def is_own(self, host: str, port: int) -> bool:
        """Whether it is Label Studio or the object store, or a bucket of it by name (`bucket.store.example`)."""
        return (host, port) in self.own or any(
            port == store_port and host.endswith(f".{store}") and not _is_address(store)
            for store, store_port in self.stores
        )

    def names(self, host: str) -> bool:
        """Whether the operator has allowed the host by name."""
        return host in self.hosts or any(
            pattern.startswith("*.") and host.endswith(pattern[1:]) for pattern in self.hosts
        )

    def may_be_private(self, host: str, port: int) -> bool:
        return self.private or host in self.hosts or self.is_own(host, port)


def web_rules(
    *, hosts: Iterable[str], private: bool, label_studio_url: str, store_url: str | None
) -> WebRules:
    """From settings. `store_url`: None for Amazon's, whose addresses are public."""
    stores = frozenset(_host_and_port(store_url)) if store_url else frozenset()
    return WebRules(
        hosts=tuple(plain_host(host) for host in hosts),
        private=private,
        own=stores | frozenset(_host_and_port(label_studio_url)),
        stores=stores,
    )


def _host_and_port(address: str) -> list[tuple[str, int]]:
    """One, or none of what is no address."""
    origin = origin_of(address)
    return [(plain_host(origin[1]), origin[2])] if origin else []


def plain_host(host: str) -> str:
    """As hosts are compared: lower case, without a last dot and without the brackets of IPv6."""
    return host.strip().lower().rstrip(".").strip("[]")


def check_url(url: str, rules: WebRules) -> None:
    """Raises TaskProblem for a host that is not allowed; looks nothing up."""
    try:
        parsed = httpx.URL(url)  # read as it will be asked
    except httpx.InvalidURL:
        raise TaskProblem("address", f"{shown(url)!r} is no address") from None
    if parsed.scheme not in _PORTS or not parsed.host:
        raise TaskProblem("address", f"{shown(url)!r} is no http address")
    if parsed.userinfo:
        raise TaskProblem("address", f"{shown(url)!r} has a user name in it, which is not sent")
    host, port = plain_host(parsed.raw_host.decode()), parsed.port or _PORTS[parsed.scheme]
    if not 0 < port < 65536:
        raise TaskProblem("address", f"{shown(url)!r} has no port that there is")
    if "*" in rules.hosts or rules.is_own(host, port) or rules.names(host):
        return
    raise TaskProblem(
        "address",
        f"{shown(url)!r}: its host is not one of IMAGE_ALLOWED_HOSTS",
        hint=f"add {host} to IMAGE_ALLOWED_HOSTS if pictures may come from there",
        passing=True,
    )


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's, and not of this machine, its network, or another's inside: of
    IPv6 addresses that stand for one of IPv4, that one counts. What is no address is not public."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is None and found in _NAT64:
            inner = IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is None and found not in _INTERNET:
            return False
        found = inner or found
    return found.is_global and not found.is_multicast


def addresses_of(host: str, port: int, rules: WebRules, *, resolve: Resolve) -> list[str]:
    """The addresses that may be connected to, in order. Raises TaskProblem when none may, OSError when there is none."""
    found = resolve(host, port)
    if rules.may_be_private(plain_host(host), port):
        return found
    allowed = [address for address in found if is_public(address)]
    if not allowed:
        raise TaskProblem(
            "address",
            f"{host!r} is no public address",
            hint=f"add {plain_host(host)} to IMAGE_ALLOWED_HOSTS if pictures may come from there, or set "
            "IMAGE_ALLOW_PRIVATE=true",
            passing=True,
        )
    return allowed


def look_up(host: str, port: int) -> list[str]:
    """What the system says a name stands for. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedTransport(httpx.HTTPTransport):
    """Connects to nothing that the rules do not allow, and to the very address that was looked at. Goes straight:
    a proxy of the environment is not used, since it would look names up by itself."""

    def __init__(
        self,
        rules: WebRules,
        *,
        resolve: Resolve = look_up,
        network: httpcore.NetworkBackend | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(trust_env=True)  # SSL_CERT_FILE
        # httpx has no argument for it. tests/unit/ml_backend/test_safety.py connects for real, and sees it go.
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=_MOST_CONNECTIONS,
            max_keepalive_connections=_MOST_CONNECTIONS // 2,
            keepalive_expiry=5.0,
            network_backend=_Guarded(rules, resolve, network or httpcore.SyncBackend(), clock),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises TaskProblem for an answer that is packed in a way it should not be."""
        request.headers["Accept-Encoding"] = "identity"  # pictures are packed already
        answer = super().handle_request(request)
        coding = answer.headers.get("Content-Encoding", "").strip().lower()
        if coding in _CODINGS:
            return answer
        answer.close()
        raise TaskProblem(
            "undecodable",
            f"{shown(str(request.url))!r} answers with Content-Encoding {coding[:40]!r}, which was not asked for",
        )


class _Guarded(httpcore.NetworkBackend):
    def __init__(
        self,
        rules: WebRules,
        resolve: Resolve,
        network: httpcore.NetworkBackend,
        clock: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._resolve = resolve
        self._inner = network
        self._clock = clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Raises TaskProblem, httpcore.ConnectError, httpcore.ConnectTimeout. `timeout` is for all addresses together."""
        until = None if timeout is None else self._clock() + timeout
        try:
            addresses = addresses_of(host, port, self._rules, resolve=self._resolve)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        if not addresses:
            raise httpcore.ConnectError(f"{host} has no address")
        failure: Exception = httpcore.ConnectTimeout(f"{host} was not looked up in time")
        for tried, address in enumerate(addresses):
            left = None if until is None else until - self._clock()
            if left is not None and left <= 0:
                break
            # One that does not answer shall leave time for the others.
            wait_s = None if left is None else left / (len(addresses) - tried)
            try:
                found = self._inner.connect_tcp(address, port, wait_s, local_address, socket_options)
                return _OnTime(found, self._clock)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _OnTime(httpcore.NetworkStream):
    """A connection on which the time to read counts from the end of the question, not from the last byte that came: who
    sends a byte a second would otherwise be waited for without end."""

    def __init__(self, inner: httpcore.NetworkStream, clock: Callable[[], float]) -> None:
        self._inner = inner
        self._clock = clock
        self._asked = clock()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if timeout is None:
            return self._inner.read(max_bytes)
        left = self._asked + timeout - self._clock()
        if left <= 0:
            raise httpcore.ReadTimeout("the answer took too long")
        return self._inner.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)
        self._asked = self._clock()

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _OnTime(self._inner.start_tls(ssl_context, server_hostname, timeout), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
