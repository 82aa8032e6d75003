"""Fetching images: from Label Studio, the bucket, the web, or the operator's local-files folder. The rim.

Label Studio's token goes to Label Studio's own scheme, host and port, and nowhere else, however often an answer
redirects. Every fetch ends after a time and a size.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urljoin

import httpx

from bridge.errors import BridgeError, NotFound
from bridge.settings import MIB
from bridge.store import ObjectStore
from ml_backend.decode import LoadedImage, Reducible, decode
from ml_backend.image_cache import ImageCache, Kept
from ml_backend.problems import TaskProblem
from ml_backend.references import (
    InBucket,
    Inline,
    OnDisk,
    Place,
    Web,
    is_label_studio,
    locate,
    origin_of,
    shown,
)
from ml_backend.safety import GuardedTransport, WebRules, check_url

_READ_OUT = 64 * 1024
_MAX_REDIRECTS = 5
_AHEAD = 4  # kept copies decoded side by side
_ACCESS_TOKEN_S = 200.0  # Label Studio 1.23.2 gives access tokens that live 300 s
_TOKEN_HINT = "check LABEL_STUDIO_API_KEY, and that its user may see the project"


class Images(Protocol):
    """Where the predictor gets its images from."""

    def load(
        self, reference: str, *, task_id: int | None = None, reducible: Reducible | None = None
    ) -> LoadedImage:
        """`reducible`: see `decode`. Raises TaskProblem."""

    def video(self, reference: str, *, task_id: int | None = None) -> AbstractContextManager[Path]:
        """A file with the video, for as long as it is needed. Raises TaskProblem on entering."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """For one file. `settings`: what the names of the settings that say so begin with."""

    timeout_s: float
    max_bytes: int
    max_pixels: int
    settings: str = "IMAGE"


class ImageLoader:
    """Images from everywhere a task may point to. Safe to use from several threads.

    `open_bucket` gives the store of a bucket by name; `http` is one client for everything."""

    def __init__(
        self,
        *,
        label_studio_url: str,
        api_key: str | None,
        limits: Limits,
        video_limits: Limits | None = None,
        open_bucket: Callable[[str], ObjectStore],
        document_root: Path | None = None,
        rules: WebRules | None = None,
        cache: ImageCache | None = None,
        http: httpx.Client | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = label_studio_url
        self._cache = cache
        self._limits = limits
        self._video_limits = video_limits or limits
        self._open_bucket = open_bucket
        self._document_root = document_root
        self._rules = rules or WebRules()
        self._http = http or httpx.Client(follow_redirects=False, transport=GuardedTransport(self._rules))
        self._clock = clock
        self._token = Token(api_key, label_studio_url, self._http, clock)
        self._ahead = ThreadPoolExecutor(_AHEAD, thread_name_prefix="decode")
        self._stores: dict[str, ObjectStore] = {}
        self._stores_lock = threading.Lock()

    def load(
        self, reference: str, *, task_id: int | None = None, reducible: Reducible | None = None
    ) -> LoadedImage:
        """The image as displayed, RGB. Raises TaskProblem saying which image, what is wrong, and what to do."""

        def decoded(body: bytes) -> LoadedImage:
            return decode(
                body, max_pixels=self._limits.max_pixels, what=shown(reference), reducible=reducible
            )

        ahead = _Ahead(self._ahead, decoded)
        return ahead.decoded(self._fetch(self._place(reference, task_id), self._limits, ahead))

    @contextmanager
    def video(self, reference: str, *, task_id: int | None = None) -> Iterator[Path]:
        """A file with the video, removed afterwards. Raises TaskProblem on entering."""
        body = self._fetch(self._place(reference, task_id), self._video_limits)
        with tempfile.NamedTemporaryFile(prefix="ml-backend-", suffix=".video") as file:
            file.write(body)
            file.flush()
            del body  # it is on disk now, and may be large
            yield Path(file.name)

    def _place(self, reference: str, task_id: int | None) -> Place:
        return locate(
            reference, label_studio_url=self._url, task_id=task_id, document_root=self._document_root
        )

    def _fetch(self, place: Place, limits: Limits, ahead: _Ahead | None = None) -> bytes:
        """`ahead`: for what may be kept; videos are not, since they would push all images out."""
        if isinstance(place, Web):
            return self._from_web(place.url, limits, ahead)
        if isinstance(place, InBucket):
            return self._from_bucket(place, limits, ahead)
        if isinstance(place, OnDisk):
            return self._from_disk(place.path, limits)
        assert isinstance(place, Inline)
        return place.body

    def _from_bucket(self, place: InBucket, limits: Limits, ahead: _Ahead | None) -> bytes:
        what = f"s3://{place.bucket}/{place.key}"
        with self._stores_lock:
            if place.bucket not in self._stores:
                self._stores[place.bucket] = self._open_bucket(place.bucket)
            store = self._stores[place.bucket]
        try:
            kept = self._kept(what, ahead)
            info = store.head(place.key)
            if info is None:
                raise NotFound(f"there is no object {what}")
            self._check_size(what, info.size_bytes, limits)
            state = f"{info.md5}-{info.size_bytes}-{info.last_modified.isoformat()}"
            if kept is not None and kept.tag == state:
                return kept.body
            body = store.get(place.key)
            if self._cache is not None and ahead is not None and len(body) == info.size_bytes:
                self._cache.put(what, state, body)
            return body
        except TaskProblem:
            raise
        except NotFound as error:
            raise TaskProblem("missing", str(error)) from error
        except BridgeError as error:
            raise TaskProblem(
                "unreachable" if error.retryable else "refused", f"{what}: {error}", passing=True
            ) from error

    def _kept(self, source: str, ahead: _Ahead | None) -> Kept | None:
        """What the cache has, being decoded already: mostly it is still what the source has."""
        if self._cache is None or ahead is None:
            return None
        kept = self._cache.get(source)
        if kept is not None:
            ahead.begin(kept.body)
        return kept

    def _from_disk(self, path: Path, limits: Limits) -> bytes:
        try:
            self._check_size(path.name, path.stat().st_size, limits)
            return path.read_bytes()
        except OSError as error:
            raise TaskProblem("missing", f"local file {path.name!r}: {error.strerror}") from error

    def _check_size(self, what: str, size_bytes: int, limits: Limits) -> None:
        if size_bytes > limits.max_bytes:
            raise TaskProblem(
                "too_large",
                f"{what} has {size_bytes / MIB:.1f} MiB; {limits.max_bytes / MIB:g} at most",
                hint=f"reduce it, or raise {limits.settings}_MAX_MIB",
            )

    def _from_web(self, url: str, limits: Limits, ahead: _Ahead | None) -> bytes:
        deadline = self._clock() + limits.timeout_s
        what = shown(url)
        try:
            return self._following(url, what, deadline, limits, ahead)
        except httpx.TimeoutException as error:
            raise self._too_slow(what, limits) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise TaskProblem(
                "unreachable",
                f"{what}: no answer ({type(error).__name__})",
                hint=self._hint(url),
                passing=True,
            ) from error

    def _following(self, url: str, what: str, deadline: float, limits: Limits, ahead: _Ahead | None) -> bytes:
        asked_again = False
        hops = 0
        while hops <= _MAX_REDIRECTS:
            check_url(url, self._rules)
            ours = is_label_studio(url, self._url)
            headers = self._token.headers(renew=asked_again) if ours else {}
            kept = self._kept(_unsigned(url), ahead)
            headers |= _unless_still(kept)
            left = max(0.1, deadline - self._clock())
            timeout = httpx.Timeout(left, connect=min(5.0, left))
            with self._http.stream(
                "GET", url, headers=headers, timeout=timeout, follow_redirects=False
            ) as answer:
                if answer.status_code == 401 and ours and not asked_again and self._token.renewable:
                    asked_again = True
                    continue
                if answer.has_redirect_location:
                    _read_out(answer)
                    url = urljoin(url, answer.headers["location"])
                    if origin_of(url) is None:
                        raise TaskProblem(
                            "address", f"{what} redirects to {shown(url)!r}, which is no http address"
                        )
                    if ours and url.partition("?")[0].rstrip("/").endswith("/user/login"):
                        raise TaskProblem(
                            "refused", f"{what}: Label Studio wants a login", hint=_TOKEN_HINT, passing=True
                        )
                    hops += 1
                    continue
                if answer.status_code == 304 and kept is not None:
                    _read_out(answer)
                    self._check_size(what, len(kept.body), limits)
                    return kept.body
                self._check_status(what, answer.status_code, ours=ours)
                body = self._body(answer, what, deadline, limits)
                if self._cache is not None and ahead is not None and (tag := _tag_of(answer)):
                    self._cache.put(_unsigned(url), tag, body)
                return body
        raise TaskProblem("address", f"{what} redirects more than {_MAX_REDIRECTS} times")

    def _check_status(self, what: str, status: int, *, ours: bool) -> None:
        if status == 200:
            return
        hint = _TOKEN_HINT if ours else "the image must be readable without a login"
        if status in (401, 403):
            raise TaskProblem("refused", f"{what}: refused with {status}", hint=hint, passing=True)
        if status in (404, 410):
            raise TaskProblem("missing", f"{what}: not there ({status})")
        if status == 429 or status >= 500:
            raise TaskProblem("unreachable", f"{what}: answered {status}", passing=True)
        raise TaskProblem("missing", f"{what}: answered {status}")

    def _body(self, answer: httpx.Response, what: str, deadline: float, limits: Limits) -> bytes:
        told = answer.headers.get("content-length", "")
        if told.isdigit():
            self._check_size(what, int(told), limits)
        pieces: list[bytes] = []
        size = 0
        for piece in answer.iter_bytes():
            size += len(piece)
            self._check_size(what, size, limits)
            if self._clock() > deadline:
                raise self._too_slow(what, limits)
            pieces.append(piece)
        return b"".join(pieces)

    def _too_slow(self, what: str, limits: Limits) -> TaskProblem:
        return TaskProblem(
            "unreachable",
            f"{what}: not read within {limits.timeout_s:g} s",
            hint=f"raise {limits.settings}_TIMEOUT_S if the server is just slow",
            passing=True,
        )

    def _hint(self, url: str) -> str:
        if is_label_studio(url, self._url):
            return "is Label Studio running, and is LABEL_STUDIO_URL right?"
        return "is the server running, and can this machine reach it?"


class _Ahead:
    """One picture's kept copy, decoded while its source is asked whether it is still the same."""

    def __init__(self, pool: Executor, decode: Callable[[bytes], LoadedImage]) -> None:
        self._pool = pool
        self._decode = decode
        self._begun: tuple[bytes, Future[LoadedImage]] | None = None

    def begin(self, body: bytes) -> None:
        if self._begun is None:
            self._begun = body, self._pool.submit(self._decode, body)

    def decoded(self, body: bytes) -> LoadedImage:
        """What was begun, if it is that. Raises TaskProblem."""
        if self._begun is None:
            return self._decode(body)
        kept, image = self._begun
        if body is kept:
            return image.result()
        image.cancel()
        return self._decode(body)


def _read_out(answer: httpx.Response) -> None:
    """Only an answer that was read to its end leaves its connection to the next. One that says it is long is not read."""
    told = answer.headers.get("content-length", "0" if answer.status_code == 304 else "")
    if told.isdigit() and int(told) <= _READ_OUT:
        answer.read()


def _unsigned(url: str) -> str:
    """A signed address without its signature, which is another each time; the source still says what is current."""
    place, _, query = url.partition("?")
    return place if "X-Amz-Signature=" in query or "Signature=" in query else url


def _tag_of(answer: httpx.Response) -> str:
    """What the source calls this state of the picture; "" when it does not say, or wants no copies."""
    if "no-store" in answer.headers.get("cache-control", "").lower():
        return ""
    if etag := answer.headers.get("etag"):
        return f"etag {etag}"
    modified = answer.headers.get("last-modified")
    return f"modified {modified}" if modified else ""


def _unless_still(kept: Kept | None) -> dict[str, str]:
    """Headers that ask for the picture only if it is no longer as it was kept."""
    if kept is None:
        return {}
    kind, _, value = kept.tag.partition(" ")
    return {"If-None-Match" if kind == "etag" else "If-Modified-Since": value}


class Token:
    """Label Studio's token as a header. A personal access token (a JWT) is exchanged for one that lives minutes."""

    def __init__(self, api_key: str | None, url: str, http: httpx.Client, clock: Callable[[], float]) -> None:
        self._api_key = api_key
        self._url = url
        self._http = http
        self._clock = clock
        self._lock = threading.Lock()
        self._access: tuple[str, float] | None = None

    @property
    def renewable(self) -> bool:
        return self._api_key is not None and self._api_key.count(".") == 2

    def headers(self, *, renew: bool = False) -> dict[str, str]:
        """Empty without a token. Raises TaskProblem when Label Studio does not take it, httpx.HTTPError."""
        if self._api_key is None:
            return {}
        if not self.renewable:
            return {"Authorization": f"Token {self._api_key}"}
        with self._lock:
            if renew or self._access is None or self._clock() - self._access[1] > _ACCESS_TOKEN_S:
                self._access = (self._exchanged(), self._clock())
            return {"Authorization": f"Bearer {self._access[0]}"}

    def _exchanged(self) -> str:
        answer = self._http.post(
            f"{self._url}/api/token/refresh/", json={"refresh": self._api_key}, timeout=5.0
        )
        if answer.status_code in (400, 401, 403):
            raise TaskProblem(
                "refused",
                "Label Studio does not accept the personal access token",
                hint=_TOKEN_HINT,
                passing=True,
            )
        answer.raise_for_status()
        access = answer.json().get("access")
        if not isinstance(access, str):
            raise TaskProblem("refused", "Label Studio gave no access token", hint=_TOKEN_HINT, passing=True)
        return access
