"""The bucket client behind a proxy: a real one on this machine, which forwards requests and opens tunnels."""

from __future__ import annotations

import base64
import http.client
import http.server
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bridge.edges.s3 import S3Store, list_buckets, make_client
from bridge.edges.s3_probe import Probe
from bridge.errors import Refused, Unavailable
from bridge.settings import MIB, S3Settings
from tests.integration.conftest import free_port
from tests.integration.test_s3_client import settings_for
from tests.integration.test_s3_tls import certificate, https

__all__ = ["certificate", "https"]  # fixtures

USER, PASSWORD = "operator", "proxy-secret-pass"


class Proxy(http.server.BaseHTTPRequestHandler):
    """Forwards absolute addresses, tunnels CONNECT; notes both in `server.seen`."""

    server: ProxyServer
    timeout = 20

    def _forward(self) -> None:
        if not self._let_in():
            return
        parts = urlsplit(self.path)
        assert parts.hostname, "only a client that knows of the proxy sends an absolute address"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        upstream = http.client.HTTPConnection(
            self.server.addresses.get(parts.hostname, parts.netloc), timeout=20
        )
        upstream.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if not name.lower().startswith("proxy-") and name.lower() not in ("connection", "expect"):
                upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        got = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(got)
        upstream.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward

    def do_CONNECT(self) -> None:
        if not self._let_in():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as far:
            self.send_response_only(200)
            self.end_headers()
            near = self.connection
            while True:
                ready, _, _ = select.select([near, far], [], [], 20)
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return
                    (far if one is near else near).sendall(data)
                if not ready:
                    return

    def _let_in(self) -> bool:
        self.server.seen.append(f"{self.command} {self.path}")
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if not self.server.guarded or self.headers.get("Proxy-Authorization") == f"Basic {wanted}":
            return True
        body = b"<html>log in</html>"
        self.send_response(407)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return False

    def log_message(self, *_: Any) -> None: ...


class ProxyServer(http.server.ThreadingHTTPServer):
    def __init__(self, *, guarded: bool, addresses: dict[str, str]) -> None:
        self.guarded, self.addresses = guarded, addresses
        self.seen: list[str] = []
        super().__init__(("127.0.0.1", 0), Proxy)

    def url(self, password: str = "") -> str:
        return f"http://{f'{USER}:{password}@' if password else ''}127.0.0.1:{self.server_address[1]}"


@contextmanager
def proxy(*, guarded: bool = False, **addresses: str) -> Iterator[ProxyServer]:
    """`addresses`: names that only the proxy knows, as host:port."""
    with ProxyServer(guarded=guarded, addresses=addresses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def through(url: str, proxy_url: str, **more: Any) -> S3Settings:
    return settings_for(url, proxy_url=proxy_url, **more)


def test_everything_goes_through_the_proxy_that_is_set(s3_url: str, tmp_path: Path) -> None:
    with proxy(store=s3_url.removeprefix("http://")) as server:
        settings = through("http://store", server.url())  # a name that only the proxy can resolve
        store = S3Store(settings, part_bytes=5 * MIB, single_put_max_bytes=MIB)
        store.create_bucket()
        store.put("a +%ü", b"x")
        (tmp_path / "up").write_bytes(bytes(6 * MIB))
        store.upload("b", tmp_path / "up")
        store.download("b", tmp_path / "down")
        assert (tmp_path / "down").read_bytes() == bytes(6 * MIB)
        assert [info.key for info in store.keys()] == ["a +%ü", "b"]  # noqa: SIM118
        assert settings.bucket in {one.name for one in list_buckets(settings)}
        assert Probe(settings).date() is not None
        assert store.delete_many(["a +%ü", "b"]) == {}
        assert all(line.split(" ")[1].startswith("http://store/") for line in server.seen)


def test_a_proxy_is_given_its_user_and_password(s3_url: str) -> None:
    with proxy(guarded=True) as server:
        S3Store(through(s3_url, server.url(PASSWORD))).create_bucket()
        assert server.seen


@pytest.mark.parametrize("password", ["", "guessed-password"])
def test_a_proxy_that_lets_nobody_in_says_so_without_the_password(s3_url: str, password: str) -> None:
    with proxy(guarded=True) as server:
        store = S3Store(through(s3_url, server.url(password)))
        for call in (store.check, lambda: store.put("a", b"x"), lambda: store.get("a")):
            with pytest.raises(Refused, match="check S3_PROXY_URL") as caught:
                call()
            assert "guessed-password" not in str(caught.value)


def test_https_goes_through_a_tunnel_and_the_certificate_is_still_checked(
    https: str, certificate: tuple[str, str]
) -> None:
    with proxy() as server:
        store = S3Store(through(https, server.url(), ca_bundle=certificate[0]))
        store.create_bucket()
        store.put("a", b"x")
        assert store.get("a") == b"x"
        assert {line.split(" ")[0] for line in server.seen} == {"CONNECT"}
        with pytest.raises(Refused, match="not trusted"):
            S3Store(through(https, server.url())).check()


def test_a_tunnel_that_is_refused_is_told_with_what_to_check(
    https: str, certificate: tuple[str, str]
) -> None:
    with proxy(guarded=True) as server:
        settings = through(https, server.url("guessed-password"), ca_bundle=certificate[0])
        store = S3Store(settings, client=make_client(settings, attempts=1))
        with pytest.raises(Unavailable, match="check S3_PROXY_URL") as caught:
            store.check()
        assert "guessed-password" not in str(caught.value)


def test_a_proxy_that_is_down_is_told_from_a_store_that_is_down(s3_url: str) -> None:
    settings = through(s3_url, f"http://{USER}:{PASSWORD}@127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="check S3_PROXY_URL") as caught:
        S3Store(settings, client=make_client(settings, attempts=1)).check()
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in repr(settings)


def test_a_proxy_of_the_environment_is_not_in_the_way(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's HTTP_PROXY leads to the internet, and knows neither this machine's store nor compose's names."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for spelled in (name, name.lower()):
            monkeypatch.setenv(spelled, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    settings = settings_for(s3_url)
    S3Store(settings).create_bucket()
    assert Probe(settings).date() is not None
