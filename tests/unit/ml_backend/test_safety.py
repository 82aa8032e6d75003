"""What this machine may be sent to by whoever adds a task. Real sockets where connecting is the point, all on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import httpx
import pytest
from PIL import Image

from bridge.store import MemoryStore
from ml_backend.images import ImageLoader, Limits
from ml_backend.problems import TaskProblem
from ml_backend.safety import GuardedTransport, WebRules, addresses_of, check_url, is_public, web_rules
from tests.unit.ml_backend.helpers import image_bytes

PICTURE = image_bytes(Image.new("RGB", (30, 20)), "PNG")
ANYWHERE = WebRules()


@dataclass
class Site:
    """A web server of this machine. `/to/N` redirects to the address number N of `targets`."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(f"{self.headers['Host']}{self.path}")
            if self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("Location", found.targets[int(self.path.removeprefix("/to/"))])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(PICTURE)))
            self.end_headers()
            self.wfile.write(PICTURE)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


class Names:
    """A name server: each name's answers, one after the other; the last one stays."""

    def __init__(self, **answers: list[str]) -> None:
        self._answers = {f"{name}.test": list(found) for name, found in answers.items()}
        self.asked = 0

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        if host not in self._answers:
            raise OSError("no such name")
        answers = self._answers[host]
        return [answers.pop(0) if len(answers) > 1 else answers[0]]


def loader(rules: WebRules, names: Names) -> ImageLoader:
    limits = Limits(timeout_s=5, max_bytes=100_000, max_pixels=1_000_000)
    return ImageLoader(
        label_studio_url="http://label-studio.test:8080",
        api_key="0123456789abcdef0123456789abcdef01234567",
        limits=limits,
        open_bucket=lambda _bucket: MemoryStore(),
        rules=rules,
        http=httpx.Client(transport=GuardedTransport(rules, resolve=names)),
    )


def refused(images: ImageLoader, url: str) -> str:
    with pytest.raises(TaskProblem) as caught:
        images.load(url)
    assert caught.value.reason == "address"
    return str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # the cloud's keys lie there
        "100.64.0.1",  # a provider's inside
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",  # a network's own NAT64
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo of 10.0.0.1
        "::127.0.0.1",
        "::ffff:0:7f00:1",
        "fec0::1",
        "5f00::1",
        "localhost",
        "",
    ],
)
def test_an_inner_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:2800:21f::1", "64:ff9b::808:808"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


def test_this_machine_is_not_asked_by_its_name_or_number(site: Site) -> None:
    images = loader(ANYWHERE, Names(inside=["127.0.0.1"]))
    assert "IMAGE_ALLOW_PRIVATE" in refused(images, f"http://inside.test:{site.port}/a.png")
    plain = loader(ANYWHERE, Names())
    plain._http = httpx.Client(transport=GuardedTransport(ANYWHERE))  # asks the system, as the program does
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0"):
        with pytest.raises(TaskProblem):
            plain.load(f"http://{host}:{site.port}/a.png")
    assert site.asked == []


@pytest.mark.parametrize(
    "rules",
    [WebRules(private=True), WebRules(hosts=("inside.test",)), WebRules(hosts=("*", "inside.test"))],
)
def test_a_private_address_is_asked_where_the_operator_said_so(site: Site, rules: WebRules) -> None:
    images = loader(rules, Names(inside=["127.0.0.1"]))
    assert images.load(f"http://inside.test:{site.port}/a.png").width == 30
    assert site.asked == [f"inside.test:{site.port}/a.png"]


def test_label_studio_and_the_store_may_lie_in_the_private_network_and_nothing_beside_them(
    site: Site,
) -> None:
    rules = web_rules(
        hosts=["*"],
        private=False,
        label_studio_url=f"http://label-studio.test:{site.port}/ls",
        store_url=None,
    )
    names = Names(**{"label-studio": ["127.0.0.1"], "other": ["127.0.0.1"]})
    images = loader(rules, names)
    assert images.load(f"http://Label-Studio.test:{site.port}/a.png").width == 30
    assert refused(
        images, f"http://label-studio.test:{site.port + 1}/a.png"
    )  # another program of that machine
    assert refused(images, f"http://other.test:{site.port}/a.png")


def test_a_bucket_by_name_belongs_to_the_store() -> None:
    rules = web_rules(hosts=["*"], private=False, label_studio_url="http://ls", store_url="https://s3.inside")
    assert rules.may_be_private("labels.s3.inside", 443)
    assert not rules.may_be_private("labels.s3.inside", 80)
    assert not rules.may_be_private("evils3.inside", 443)
    assert rules.may_be_private("ls", 80)
    assert not rules.may_be_private("anybodys.ls", 80)  # below Label Studio's name nothing is ours
    by_number = web_rules(
        hosts=["*"], private=False, label_studio_url="http://ls", store_url="http://10.0.0.5:9000"
    )
    assert by_number.may_be_private("10.0.0.5", 9000)
    assert not by_number.may_be_private("evil.10.0.0.5", 9000)


def test_each_redirect_is_looked_at(site: Site) -> None:
    site.targets = [f"http://inner.test:{site.port}/secret", "http://listed.test:1/a", "file:///etc/passwd"]
    rules = WebRules(hosts=("outer.test", "other.test"))
    images = loader(rules, Names(outer=["127.0.0.1"], inner=["127.0.0.1"]))
    assert "IMAGE_ALLOWED_HOSTS" in refused(images, f"http://outer.test:{site.port}/to/0")
    assert "IMAGE_ALLOWED_HOSTS" in refused(images, f"http://outer.test:{site.port}/to/1")
    assert "no http address" in refused(images, f"http://outer.test:{site.port}/to/2")
    assert not any("secret" in path for path in site.asked)


def test_a_redirect_into_the_private_network_is_refused_though_every_host_is_allowed(site: Site) -> None:
    own = frozenset({("outer.test", site.port)})  # what leads there is allowed
    site.targets = [f"http://inner.test:{site.port}/secret"]
    images = loader(WebRules(own=own), Names(outer=["127.0.0.1"], inner=["127.0.0.1"]))
    assert "no public address" in refused(images, f"http://outer.test:{site.port}/to/0")
    assert len(site.asked) == 1


class Wire(httpcore.SyncBackend):
    """Leads every connection to one port of this machine, and remembers the addresses that were meant."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.meant: list[str] = []

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.NetworkStream:
        self.meant.append(host)
        return super().connect_tcp("127.0.0.1", self._port)


def test_a_name_that_changes_its_answer_is_connected_to_where_it_was_looked_at(site: Site) -> None:
    """Public when it is looked at, this machine when it would be asked again: it is not asked again."""
    names, wire = Names(rebinding=["8.8.8.8", "127.0.0.1"]), Wire(site.port)
    images = loader(ANYWHERE, names)
    images._http = httpx.Client(transport=GuardedTransport(ANYWHERE, resolve=names, network=wire))
    assert images.load("http://rebinding.test/a.png").width == 30
    assert (wire.meant, names.asked) == (["8.8.8.8"], 1)
    assert site.asked == ["rebinding.test/a.png"]
    images._http = httpx.Client(transport=GuardedTransport(ANYWHERE, resolve=names, network=wire))
    assert refused(images, "http://rebinding.test/b.png")
    assert wire.meant == ["8.8.8.8"]


def test_of_several_addresses_only_the_public_ones_are_used() -> None:
    def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "8.8.8.8", "::1"]

    assert addresses_of("mixed.test", 80, ANYWHERE, resolve=resolve) == ["8.8.8.8"]


@pytest.mark.parametrize(
    ("hosts", "url", "allowed"),
    [
        (["*"], "http://anything.test/a", True),
        (["pictures.test"], "http://pictures.test/a", True),
        (["pictures.test"], "http://PICTURES.test./a", True),
        (["pictures.test"], "http://evil-pictures.test/a", False),
        (["pictures.test"], "http://pictures.test.evil.test/a", False),
        (["pictures.test"], "http://sub.pictures.test/a", False),
        (["*.pictures.test"], "http://a.b.pictures.test/a", True),
        (["*.pictures.test"], "http://pictures.test/a", False),
        (["*.pictures.test"], "http://evilpictures.test/a", False),
        (["pictures.test"], "http://evil.test#pictures.test", False),
        (["pictures.test"], "http://evil.test?pictures.test/", False),
        (["pictures.test"], "http://pictures.test@evil.test/", False),
        (["pictures.test"], "http://user:word@pictures.test/", False),
        (["pictures.test"], "http://ls.test:8080/data/a", True),  # Label Studio itself
        (["pictures.test"], "http://ls.test:8081/data/a", False),
        (["pictures.test"], "ftp://pictures.test/a", False),
        (["pictures.test"], "http:///a", False),
        (["pictures.test"], "http://pictures.test:99999/a", False),
    ],
)
def test_hosts_are_compared_whole(hosts: list[str], url: str, allowed: bool) -> None:
    rules = web_rules(hosts=hosts, private=False, label_studio_url="http://ls.test:8080", store_url=None)
    if allowed:
        check_url(url, rules)
    else:
        with pytest.raises(TaskProblem):
            check_url(url, rules)


def test_what_is_refused_is_asked_again_once_the_setting_allows_it() -> None:
    """Label Studio keeps an empty prediction for good: a setting must not cost that."""
    with pytest.raises(TaskProblem) as caught:
        check_url("http://nas.test/a", WebRules(hosts=("other.test",)))
    assert caught.value.passing
    assert "nas.test" in str(caught.value)


def test_a_name_that_is_nowhere_is_no_address_problem() -> None:
    with pytest.raises(TaskProblem) as caught:
        loader(ANYWHERE, Names()).load("http://gone.test/a.png")
    assert (caught.value.reason, caught.value.passing) == ("unreachable", True)
