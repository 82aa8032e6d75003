"""Our edge of Label Studio over HTTP: streaming uploads, and what each kind of answer is turned into."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.edges.label_studio import LabelStudio
from bridge.errors import NotFound, OutsideError, Refused, TooLarge, Unavailable
from bridge.settings import LabelStudioSettings
from tests.integration.conftest import free_port

BODY = bytes(range(256)) * 4096  # 1 MiB
KEY = "0" * 40


class Server(ThreadingHTTPServer):
    """Answers as Label Studio 1.23.2 was seen to; `asked` holds (path with query, Authorization)."""

    asked: ClassVar[list[tuple[str, str]]] = []
    hangs = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        Server.asked.append((self.path, self.headers.get("Authorization", "")))
        path = urlsplit(self.path).path
        if path == "/data/upload/1/whole.png":
            self._answer(200, BODY, {"Content-Type": "image/png"})
        elif path == "/data/upload/1/cut.png":
            self._answer(200, BODY[:1000], {"Content-Length": str(len(BODY))})
        elif path == "/data/upload/1/hangs.png":
            self._answer(200, BODY[:1000], {"Content-Length": str(len(BODY))}, then_hang=True)
        elif path == "/data/upload/1/never.png":
            self._answer(500, b"{\"detail\":\"'NoneType' object has no attribute 'has_permission'\"}")
        elif path == "/data/upload/1/lost.png":
            self._answer(404, b"")
        elif path == "/data/upload/1/login.png":
            self._answer(302, b"", {"Location": "/user/login/?next=/data/upload/1/login.png"})
        elif path == "/user/login/":
            self._answer(200, b"<html>log in</html>", {"Content-Type": "text/html"})
        elif path == "/api/projects/1/export":
            ids = parse_qs(urlsplit(self.path).query)["ids[]"]
            self._answer(200, json.dumps([{"id": int(id)} for id in ids]).encode())
        elif path.startswith("/api/storages"):
            listed = [{"name": "s3", "title": "S3"}] if path.endswith("types") else [{"id": 1}]
            self._answer(200, json.dumps(listed).encode())
        elif path == "/api/tasks":
            self._answer(404, b'{"detail": "Invalid page."}')
        else:
            self._answer(int(path.rpartition("/")[2]), b'{"detail": "database is locked"}')

    do_POST = do_GET

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, then_hang: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if then_hang:
            Server.hangs.wait(10)

    def log_message(self, *_: object) -> None:
        """No words on the terminal."""


@pytest.fixture
def label_studio() -> Iterator[LabelStudio]:
    Server.asked.clear()
    Server.hangs.clear()
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    yield LabelStudio(LabelStudioSettings(url=address, api_key=KEY), timeout_s=5)
    Server.hangs.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_upload_is_streamed_into_a_file(label_studio: LabelStudio, tmp_path: Path) -> None:
    got = label_studio.download("/data/upload/1/whole.png", tmp_path / "file", max_bytes=len(BODY))
    assert (tmp_path / "file").read_bytes() == BODY
    assert (got.sha256, got.size_bytes) == (hashlib.sha256(BODY).hexdigest(), len(BODY))
    assert got.content_type == "image/png"
    assert Server.asked == [("/data/upload/1/whole.png", f"Token {KEY}")]


def test_an_upload_that_is_too_large_says_which_setting(label_studio: LabelStudio, tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="MEDIA_MAX_MIB"):
        label_studio.download("/data/upload/1/whole.png", tmp_path / "file", max_bytes=len(BODY) - 1)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("cut.png", Unavailable, "no answer"),  # fewer bytes than announced are no file
        ("hangs.png", Unavailable, "ReadTimeout"),
        ("never.png", NotFound, "no such file"),
        ("lost.png", NotFound, "lost.png"),
        ("login.png", Refused, "LABEL_STUDIO_API_KEY"),
    ],
)
def test_an_upload_that_does_not_come_is_told_apart(
    label_studio: LabelStudio, tmp_path: Path, name: str, error: type[OutsideError], words: str
) -> None:
    with pytest.raises(error, match=words):
        label_studio.download(f"/data/upload/1/{name}", tmp_path / "file", max_bytes=1 << 30, timeout_s=0.5)


def test_an_upload_that_trickles_ends_too(label_studio: LabelStudio, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="not done after 0 s"):
        label_studio.download("/data/upload/1/whole.png", tmp_path / "f", max_bytes=1 << 30, deadline_s=0)


@pytest.mark.parametrize(
    ("method", "status", "error"),
    [
        ("GET", 500, Unavailable),  # a locked database; reading again does no harm
        ("POST", 500, Refused),  # can be the answer to our values
        ("GET", 503, Unavailable),
        ("POST", 429, Unavailable),
        ("GET", 404, NotFound),
        ("GET", 401, Refused),
        ("GET", 403, Refused),
        ("GET", 400, Refused),
    ],
)
def test_an_answer_says_whether_waiting_helps(
    label_studio: LabelStudio, method: str, status: int, error: type[OutsideError]
) -> None:
    with pytest.raises(OutsideError) as caught:
        label_studio.request(method, f"/api/status/{status}")
    assert type(caught.value) is error
    assert KEY not in str(caught.value)


def test_the_export_is_asked_in_hundreds(label_studio: LabelStudio) -> None:
    found = label_studio.exported(1, list(range(250)))
    assert [task["id"] for task in found] == list(range(250))
    assert [len(parse_qs(urlsplit(path).query)["ids[]"]) for path, _ in Server.asked] == [100, 100, 50]
    assert all(len(path) < 4096 for path, _ in Server.asked)


def test_storages_are_asked_type_by_type(label_studio: LabelStudio) -> None:
    found = [(direction, kind) for direction, kind, _ in label_studio.storages(1)]
    assert found == [("import", "s3"), ("export", "s3")]


def test_the_page_after_the_last_is_empty(label_studio: LabelStudio) -> None:
    assert label_studio.tasks_after(1, 99, page_size=10) == []


def test_label_studio_that_is_down_is_unavailable_and_named(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    down = LabelStudio(LabelStudioSettings(url=address, api_key=KEY), timeout_s=2)
    for call in (
        lambda: down.project(1),
        lambda: down.download("/data/upload/1/a", tmp_path / "file", max_bytes=1),
    ):
        with pytest.raises(Unavailable, match=f"{address}.*LABEL_STUDIO_URL"):
            call()


class SmallPages(LabelStudio):
    """Its /api/tasks gives at most two of the tasks 1 to 5, as one with TASK_API_PAGE_SIZE_MAX=2 does."""

    def __init__(self) -> None:
        super().__init__(LabelStudioSettings(url="http://127.0.0.1:1", api_key=KEY))
        self.asked = 0

    def get(self, path: str, **params: Any) -> Any:
        self.asked += 1
        items = json.loads(params["query"])["filters"]["items"]
        after = max((item["value"] for item in items if item["operator"] == "greater"), default=0)
        listed = next((item["value"] for item in items if item["operator"] == "in_list"), range(1, 6))
        left = [{"id": id} for id in range(1, 6) if id > after and id in listed]
        if not left:
            raise NotFound("GET /api/tasks: Invalid page.")
        return {"tasks": left[: min(2, params["page_size"])], "total": len(left)}


def test_pages_that_label_studio_makes_smaller_are_put_together() -> None:
    label_studio = SmallPages()
    assert [row["id"] for row in label_studio.task_counts_after(1, 0, page_size=1000)] == [1, 2, 3, 4, 5]
    assert label_studio.asked == 3, "nothing is asked for beyond the last one"
    assert [row["id"] for row in label_studio.task_counts_after(1, 1, page_size=3)] == [2, 3, 4]
    assert [row["id"] for row in label_studio.tasks_by_id(1, [1, 2, 4, 9])] == [1, 2, 4]
    assert label_studio.tasks_after(1, 5, page_size=1000) == []
