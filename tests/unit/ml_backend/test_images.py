"""Fetching: tokens, redirects, limits. The network is a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from bridge.errors import Refused, Unavailable
from bridge.store import MemoryStore, ObjectStore
from ml_backend.images import ImageLoader, Limits
from ml_backend.problems import TaskProblem
from tests.unit.ml_backend.helpers import image_bytes

URL = "http://label-studio.test:8080"
PICTURE = image_bytes(Image.new("RGB", (30, 20)), "PNG")
LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "head.payload.signature"
Handler = Callable[[httpx.Request], httpx.Response]


class Web:
    """Answers by address (without query) and remembers who was given which token."""

    def __init__(self, answers: dict[str, httpx.Response | Handler]) -> None:
        self._answers = answers
        self.seen: list[tuple[str, str | None]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        address = str(request.url.copy_with(query=None))
        self.seen.append((address, request.headers.get("authorization")))
        answer = self._answers.get(address, httpx.Response(404))
        return answer(request) if callable(answer) else answer


def loader(
    web: Web | Handler,
    *,
    api_key: str | None = LEGACY,
    store: ObjectStore | None = None,
    root: Path | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    max_bytes: int = 100_000,
) -> ImageLoader:
    return ImageLoader(
        label_studio_url=URL,
        api_key=api_key,
        limits=Limits(timeout_s=20, max_bytes=max_bytes, max_pixels=1_000_000),
        open_bucket=lambda _bucket: store or MemoryStore(),
        document_root=root,
        http=httpx.Client(transport=httpx.MockTransport(web)),
        clock=clock,
    )


def failure(images: ImageLoader, reference: str) -> TaskProblem:
    with pytest.raises(TaskProblem) as caught:
        images.load(reference, task_id=1)
    return caught.value


def to(address: str, status: int = 302) -> httpx.Response:
    return httpx.Response(status, headers={"location": address})


def test_an_upload_is_fetched_with_the_legacy_token() -> None:
    web = Web({f"{URL}/data/upload/1/a.png": httpx.Response(200, content=PICTURE)})
    assert loader(web).load("/data/upload/1/a.png").width == 30
    assert web.seen == [(f"{URL}/data/upload/1/a.png", f"Token {LEGACY}")]


def test_a_personal_access_token_is_exchanged_once_and_renewed_when_it_is_old_or_refused() -> None:
    now = [0.0]
    given = iter(["one", "two", "three"])

    def refresh(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content) == {"refresh": PERSONAL}
        return httpx.Response(200, json={"access": next(given)})

    def picture(request: httpx.Request) -> httpx.Response:
        known = request.headers["authorization"] != "Bearer two"
        return httpx.Response(200, content=PICTURE) if known else httpx.Response(401)

    web = Web({f"{URL}/api/token/refresh/": refresh, f"{URL}/data/upload/1/a.png": picture})
    images = loader(web, api_key=PERSONAL, clock=lambda: now[0])
    for _ in range(2):
        images.load("/data/upload/1/a.png")
    now[0] = 250
    images.load("/data/upload/1/a.png")  # "two" is refused once, "three" is taken
    used = [token for address, token in web.seen if "upload" in address]
    assert used == ["Bearer one", "Bearer one", "Bearer two", "Bearer three"]


@pytest.mark.parametrize("api_key", [LEGACY, PERSONAL])
def test_a_wrong_token_is_named_and_passes(api_key: str) -> None:
    web = Web(
        {f"{URL}/api/token/refresh/": httpx.Response(401), f"{URL}/data/upload/1/a.png": httpx.Response(401)}
    )
    problem = failure(loader(web, api_key=api_key), "/data/upload/1/a.png")
    assert problem.reason == "refused"
    assert problem.passing
    assert "LABEL_STUDIO_API_KEY" in str(problem)
    assert api_key not in str(problem)


def test_the_token_goes_to_no_other_host() -> None:
    web = Web({"http://other.test/a.png": httpx.Response(200, content=PICTURE)})
    loader(web).load("http://other.test/a.png")
    assert web.seen == [("http://other.test/a.png", None)]


@pytest.mark.parametrize(
    "elsewhere",
    ["http://other.test/a.png", "https://label-studio.test:8080/a.png", "http://label-studio.test/a.png"],
)
def test_a_redirect_takes_no_token_to_another_host_scheme_or_port(elsewhere: str) -> None:
    web = Web({f"{URL}/data/upload/1/a.png": to(elsewhere), elsewhere: httpx.Response(200, content=PICTURE)})
    loader(web).load("/data/upload/1/a.png")
    assert web.seen[1] == (elsewhere, None)


def test_a_redirect_from_elsewhere_back_to_label_studio_is_followed() -> None:
    web = Web(
        {
            "http://other.test/a": to(f"{URL}/data/upload/1/a.png"),
            f"{URL}/data/upload/1/a.png": to("/data/upload/1/b.png"),
            f"{URL}/data/upload/1/b.png": httpx.Response(200, content=PICTURE),
        }
    )
    assert loader(web).load("http://other.test/a").width == 30


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://other.test/loop", "redirects more than"),
        ("file:///etc/passwd", "no http address"),
        ("ftp://other.test/a", "no http address"),
    ],
)
def test_redirects_end(location: str, said: str) -> None:
    web = Web({"http://other.test/loop": to(location)})
    assert said in str(failure(loader(web), "http://other.test/loop"))


def test_a_login_page_means_a_wrong_token() -> None:
    web = Web({f"{URL}/data/upload/1/a.png": to("/user/login/?next=/data/upload/1/a.png")})
    assert "wants a login" in str(failure(loader(web, api_key=None), "/data/upload/1/a.png"))


@pytest.mark.parametrize(
    ("status", "reason", "passing"),
    [
        (404, "missing", False),
        (410, "missing", False),
        (403, "refused", True),
        (429, "unreachable", True),
        (500, "unreachable", True),
        (204, "missing", False),
    ],
)
def test_a_status_tells_whether_asking_again_can_help(status: int, reason: str, passing: bool) -> None:
    web = Web({"http://other.test/a.png": httpx.Response(status)})
    problem = failure(loader(web), "http://other.test/a.png?sig=secret")
    assert (problem.reason, problem.passing) == (reason, passing)
    assert "secret" not in str(problem)


def test_a_server_that_is_down_is_named() -> None:
    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    problem = failure(loader(down), "/data/upload/1/a.png")
    assert (problem.reason, problem.passing) == ("unreachable", True)
    assert "LABEL_STUDIO_URL" in str(problem)


def test_too_many_bytes_are_refused_by_their_header_or_while_they_come() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    web = Web(
        {
            "http://other.test/told": httpx.Response(200, content=b"x" * 20_000),
            "http://other.test/endless": lambda _request: httpx.Response(200, content=endless()),
        }
    )
    for name in ("told", "endless"):
        problem = failure(loader(web, max_bytes=10_000), f"http://other.test/{name}")
        assert (problem.reason, problem.passing) == ("too_large", False)
        assert "IMAGE_MAX_MIB" in str(problem)


def test_a_server_that_trickles_is_left_after_the_time_limit() -> None:
    now = [0.0]

    def slowly() -> Iterator[bytes]:
        while True:
            now[0] += 7
            yield b"x"

    web = Web({"http://other.test/a": lambda _request: httpx.Response(200, content=slowly())})
    problem = failure(loader(web, clock=lambda: now[0]), "http://other.test/a")
    assert "not read within 20 s" in str(problem)
    assert problem.passing


def test_an_object_comes_from_the_bucket_without_label_studio() -> None:
    store = MemoryStore()
    store.put("dir/a.png", PICTURE)
    web = Web({})
    assert loader(web, store=store).load("s3://bucket/dir/a.png").width == 30
    assert web.seen == []


def test_a_missing_object_stays_missing_and_a_large_one_is_not_fetched() -> None:
    store = MemoryStore()
    store.put("large.png", b"x" * 200_000)
    problem = failure(loader(Web({}), store=store), "s3://bucket/none.png")
    assert (problem.reason, problem.passing) == ("missing", False)
    assert failure(loader(Web({}), store=store), "s3://bucket/large.png").reason == "too_large"


@pytest.mark.parametrize(
    ("error", "reason"), [(Unavailable("down"), "unreachable"), (Refused("wrong key"), "refused")]
)
def test_a_store_in_trouble_is_asked_again_later(error: Exception, reason: str) -> None:
    class Broken(MemoryStore):
        def head(self, key: str):  # type: ignore[no-untyped-def]
            raise error

    problem = failure(loader(Web({}), store=Broken()), "s3://bucket/a.png")
    assert (problem.reason, problem.passing) == (reason, True)


def test_a_local_file_is_read_within_the_limits(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURE)
    (tmp_path / "large.png").write_bytes(b"x" * 200_000)
    images = loader(Web({}), root=tmp_path)
    assert images.load("/data/local-files/?d=a.png").width == 30
    assert failure(images, "/data/local-files/?d=large.png").reason == "too_large"
    assert failure(images, "/data/local-files/?d=none.png").reason == "missing"


def test_a_video_is_a_file_for_as_long_as_it_is_needed() -> None:
    web = Web({f"{URL}/data/upload/1/a.mp4": httpx.Response(200, content=b"frames")})
    with loader(web).video("/data/upload/1/a.mp4", task_id=1) as path:
        assert path.read_bytes() == b"frames"
    assert not path.exists()
    assert web.seen == [(f"{URL}/data/upload/1/a.mp4", f"Token {LEGACY}")]


def test_videos_have_limits_of_their_own() -> None:
    web = Web({"http://web.test/a": httpx.Response(200, content=b"x" * 300)})
    images = ImageLoader(
        label_studio_url=URL,
        api_key=LEGACY,
        limits=Limits(timeout_s=20, max_bytes=100, max_pixels=1_000_000),
        video_limits=Limits(timeout_s=20, max_bytes=200, max_pixels=1_000_000, settings="VIDEO"),
        open_bucket=lambda _bucket: MemoryStore(),
        http=httpx.Client(transport=httpx.MockTransport(web)),
        clock=lambda: 0.0,
    )
    assert "IMAGE_MAX_MIB" in str(failure(images, "http://web.test/a"))
    with pytest.raises(TaskProblem, match="VIDEO_MAX_MIB"), images.video("http://web.test/a"):
        pass
