"""Label Studio's REST API, through the SDK's own authenticated HTTP client.

The SDK tells legacy tokens from personal access tokens and refreshes the latter. Its typed models are not used for
reading: they drop fields that the record must keep, so answers stay the JSON that Label Studio sent.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.client_wrapper import SyncClientWrapper

from bridge.errors import NotFound, OutsideError, Refused, TooLarge, Unavailable
from bridge.records import format_time
from bridge.settings import MIB, LabelStudioSettings

_EXPORT_IDS = 100
_LINE = "id,created_at,updated_at,total_annotations,cancelled_annotations,total_predictions"
_BLOCK_BYTES = 1 << 18


class LabelStudio:
    """One Label Studio, as one user of it. Every method raises Unavailable, Refused or NotFound."""

    def __init__(self, settings: LabelStudioSettings, *, timeout_s: float = 60) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._wrapper: SyncClientWrapper | None = None
        self.requests = 0  # how many were made
        self.now: datetime | None = None  # Label Studio's clock when it answered last, to the second

    def request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        json: Any = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """One call; `path` starts with a slash. An answer of 400 and above is raised as ours, with what it said."""
        what = f"{method} {path}"
        self.requests += 1
        with self._translated(what):
            answer: httpx.Response = self._client().request(
                path,
                method=method,
                params=params,
                json=json,
                request_options={"timeout_in_seconds": timeout_s or self._timeout_s, "max_retries": 0},
            )
        if answer.status_code >= 400:
            raise _ours(what, answer)
        self.now = _clock_of(answer)
        return answer

    def _client(self) -> Any:
        # The part of the SDK that knows tokens and HTTP. Its front door, `LabelStudio`, imports pandas and much else:
        # a second and 60 MB for each command and job.
        if self._wrapper is None:
            self._wrapper = SyncClientWrapper(
                base_url=self._settings.url,
                api_key=self._settings.api_key,
                timeout=self._timeout_s,
                httpx_client=httpx.Client(timeout=self._timeout_s, follow_redirects=True),
            )
        return self._wrapper.httpx_client

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """The SDK's errors as ours; the SDK itself raises when it cannot exchange the token."""
        address = self._settings.url
        try:
            yield
        except ApiError as error:
            if error.status_code == 401:
                raise Refused(
                    f"{what}: Label Studio at {address} does not accept the token", hint=_TOKEN_HINT
                ) from None
            raise Unavailable(f"{what}: Label Studio at {address}: {error}") from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{what}: no answer from Label Studio at {address} ({type(error).__name__})",
                hint="is it running, and is LABEL_STUDIO_URL right?",
            ) from error

    def get(self, path: str, **params: Any) -> Any:
        return _body(self.request("GET", path, params=params or None))

    def post(self, path: str, body: Any, *, timeout_s: float | None = None, **params: Any) -> Any:
        return _body(self.request("POST", path, json=body, params=params or None, timeout_s=timeout_s))

    def patch(self, path: str, body: Any) -> Any:
        return _body(self.request("PATCH", path, json=body))

    def delete(self, path: str) -> None:
        self.request("DELETE", path)

    def projects(self, *, page_size: int = 200) -> Iterator[dict[str, Any]]:
        """Every project this user sees, with its id, title and created_at."""
        page = 1
        while True:
            found = self.get("/api/projects", page=page, page_size=page_size, include="id,title,created_at")
            yield from found["results"]
            if not found.get("next"):
                return
            page += 1

    def tasks_after(self, project_id: int, after_id: int, *, page_size: int) -> list[dict[str, Any]]:
        """The next tasks in order of id, with annotations (skipped too), predictions and drafts; [] at the end.

        Keyset paging: page numbers shift while people delete tasks."""
        return self._tasks(
            project_id,
            [_filter("id", "greater", "Number", after_id)],
            fields="all",
            resolve_uri="false",
            page_size=page_size,
        )

    def task_counts_after(self, project_id: int, after_id: int, *, page_size: int) -> list[dict[str, Any]]:
        """The next tasks in order of id, as lines of `id, created_at, updated_at` and the counts of annotations (made and
        skipped) and predictions; [] at the end. A tenth of the time that whole tasks take."""
        return self._tasks(
            project_id,
            [_filter("id", "greater", "Number", after_id)],
            include=_LINE,
            page_size=page_size,
        )

    def tasks_updated_since(
        self, project_id: int, since: datetime, after_id: int, *, page_size: int
    ) -> list[dict[str, Any]]:
        """The same lines, of the tasks touched later than `since` by Label Studio's clock, in order of id."""
        filters = [
            _filter("updated_at", "greater", "Datetime", format_time(since)),
            _filter("id", "greater", "Number", after_id),
        ]
        return self._tasks(project_id, filters, include=_LINE, page_size=page_size)

    def tasks_by_id(self, project_id: int, ids: list[int]) -> list[dict[str, Any]]:
        """These tasks whole, as `tasks_after` gives them; those that are gone are left out."""
        if not ids:
            return []
        return self._tasks(
            project_id,
            [_filter("id", "in_list", "List", ids)],
            fields="all",
            resolve_uri="false",
            page_size=len(ids),
        )

    def _tasks(
        self, project_id: int, filters: list[dict[str, Any]], *, page_size: int, **params: Any
    ) -> list[dict[str, Any]]:
        """In order of id. Whoever runs Label Studio may have made its pages smaller than ours (TASK_API_PAGE_SIZE_MAX):
        then several are fetched, since readers take a short page for the last one."""
        tasks: list[dict[str, Any]] = []
        after: list[dict[str, Any]] = []
        while True:
            query = {
                "filters": {"conjunction": "and", "items": [*filters, *after]},
                "ordering": ["tasks:id"],
            }
            try:
                found = self.get(
                    "/api/tasks",
                    project=project_id,
                    page=1,
                    page_size=page_size - len(tasks),
                    query=json.dumps(query),
                    **params,
                )
            except NotFound as error:
                # Label Studio answers 404 "Invalid page." for a first page without rows.
                if "Invalid page" in str(error):
                    return tasks
                raise
            page: list[dict[str, Any]] = found["tasks"]
            tasks += page
            if not page or len(tasks) >= page_size or len(page) >= (found.get("total") or 0):
                return tasks
            after = [_filter("id", "greater", "Number", page[-1]["id"])]

    def project(self, project_id: int) -> dict[str, Any]:
        """The project whole; raises NotFound when it is gone."""
        return dict(self.get(f"/api/projects/{project_id}/"))

    def users(self) -> list[dict[str, Any]]:
        """Everyone in the organisation, with e-mail."""
        return list(self.get("/api/users/"))

    def storages(self, project_id: int) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
        """(import or export, type, the storages of that type), type by type: the lists of all types at once leave out,
        without a word, a type whose own list fails (io_storages/all_api.py)."""
        for direction, root in (("import", "/api/storages"), ("export", "/api/storages/export")):
            for kind in self.get(f"{root}/types"):
                yield direction, kind["name"], list(self.get(f"{root}/{kind['name']}", project=project_id))

    def webhooks(self, project_id: int) -> list[dict[str, Any]]:
        """Answers carry the hooks' secret headers."""
        return list(self.get("/api/webhooks/", project=project_id))

    def ml_backends(self, project_id: int) -> list[dict[str, Any]]:
        return list(self.get("/api/ml", project=project_id))

    def views(self, project_id: int) -> list[dict[str, Any]]:
        """The tabs of the data manager."""
        return list(self.get("/api/dm/views/", project=project_id))

    def exported(self, project_id: int, task_ids: list[int]) -> list[dict[str, Any]]:
        """These tasks as the JSON export shows them: with `unique_id` of annotations and everybody's drafts.

        Asked in hundreds, since the ids stand in the address. Label Studio keeps a copy of each answer on its disk."""
        tasks: list[dict[str, Any]] = []
        for start in range(0, len(task_ids), _EXPORT_IDS):
            ids = task_ids[start : start + _EXPORT_IDS]
            tasks += self.get(
                f"/api/projects/{project_id}/export",
                **{"exportType": "JSON", "download_all_tasks": "true", "ids[]": ids},
            )
        return tasks

    def uploads(self, project_id: int) -> list[dict[str, Any]]:
        """The files uploaded into a project: `id`, `file` (such as upload/4/cea5609f-a.png) and `size`."""
        return list(self.get(f"/api/projects/{project_id}/file-uploads", all="true"))

    def upload(self, project_id: int, files: dict[str, Path], *, timeout_s: float = 600) -> None:
        """Upload files by name, without making tasks of them. Label Studio can keep a file and answer 400 all the same,
        where it wants to make tasks of it: look at `uploads` afterwards."""
        what = f"POST /api/projects/{project_id}/import"
        self.requests += 1
        with ExitStack() as opened, self._translated(what):
            body = {
                f"file{n}": (name, opened.enter_context(path.open("rb")))
                for n, (name, path) in enumerate(files.items())
            }
            answer = self._client().request(
                f"/api/projects/{project_id}/import",
                method="POST",
                params={"commit_to_project": "false"},
                files=body,
                force_multipart=True,
                request_options={"timeout_in_seconds": timeout_s, "max_retries": 0},
            )
        if answer.status_code >= 400:
            raise _ours(what, answer)

    def download(
        self, path: str, target: Path, *, max_bytes: int, timeout_s: float = 30, deadline_s: float = 1800
    ) -> Downloaded:
        """Stream a file that was uploaded into Label Studio into `target`.

        `timeout_s` is the longest silence, `deadline_s` the longest time in all. Raises TooLarge, and what every
        method raises; then `target` may hold a part of the file."""
        what = f"GET {path}"
        ends_at = time.monotonic() + deadline_s
        size, sha = 0, hashlib.sha256()
        with (
            self._translated(what),
            self._client().stream(
                path, method="GET", request_options={"timeout_in_seconds": timeout_s, "max_retries": 0}
            ) as answer,
        ):
            if answer.status_code >= 400:
                answer.read()
                raise _no_file(what, answer)
            if answer.is_redirect or answer.url.path.startswith("/user/login"):
                raise Refused(f"{what}: Label Studio sends us to its login page", hint=_TOKEN_HINT)
            with target.open("wb") as file:
                for block in answer.iter_bytes(_BLOCK_BYTES):
                    size += len(block)
                    if size > max_bytes:
                        raise TooLarge(
                            f"{what}: the file has more than {max_bytes // MIB} MiB",
                            hint="raise MEDIA_MAX_MIB, then run the baseline again",
                        )
                    if time.monotonic() > ends_at:
                        raise Unavailable(f"{what}: not done after {deadline_s:g} s")
                    sha.update(block)
                    file.write(block)
            content_type = answer.headers.get("content-type", "application/octet-stream")
        return Downloaded(sha256=sha.hexdigest(), size_bytes=size, content_type=content_type)


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """What came of a file."""

    sha256: str
    size_bytes: int
    content_type: str


_TOKEN_HINT = (
    "check LABEL_STUDIO_API_KEY; a legacy token works only where legacy tokens are enabled, "
    "a personal access token is made under Account & Settings"
)


def _filter(field: str, operator: str, type: str, value: Any) -> dict[str, Any]:
    """One condition of the data manager's language."""
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": type, "value": value}


def _clock_of(answer: httpx.Response) -> datetime | None:
    """The time in the answer's `Date` header."""
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).astimezone(UTC)
    except (ValueError, TypeError):
        return None


def _body(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else None
    except ValueError as error:
        raise Unavailable(f"{answer.request.url}: Label Studio answered something that is no JSON") from error


def _ours(what: str, answer: httpx.Response) -> OutsideError:
    said = _said(answer)[:500]
    status = answer.status_code
    if status == 404:
        return NotFound(f"{what}: {said}")
    if status == 401:
        return Refused(f"{what}: 401 {said}", hint=_TOKEN_HINT)
    if status == 403 and "reserved network address" in said:
        return Refused(
            f"{what}: {said}",
            hint="Label Studio refuses private addresses: start it with USE_DEFAULT_BANNED_SUBNETS=false "
            "(or SSRF_PROTECTION_ENABLED=false and ML_BLOCK_LOCAL_IP=false)",
        )
    # A 500 to a reading is a locked database or a bug of the moment; to a change it can be its answer to our values.
    if status in (429, 502, 503, 504) or (status == 500 and answer.request.method == "GET"):
        return Unavailable(f"{what}: {status} {said}")
    return Refused(f"{what}: {status} {said}")


def _no_file(what: str, answer: httpx.Response) -> OutsideError:
    """Label Studio 1.23.2 answers 500 with these words for a file it never had, and 404 for one it has lost."""
    if answer.status_code == 500 and "has no attribute 'has_permission'" in answer.text:
        return NotFound(f"{what}: Label Studio has no such file")
    return _ours(what, answer)


def _said(answer: httpx.Response) -> str:
    """Label Studio's own words out of its error body: `detail`, and `validation_errors` by field."""
    try:
        body = answer.json()
    except ValueError:
        return answer.text
    if not isinstance(body, dict):
        return answer.text
    errors = body.get("validation_errors")
    if not isinstance(errors, dict) or not errors:
        return str(body.get("detail") or answer.text)
    reasons = []
    for field, said in errors.items():
        words = " ".join(map(str, said)) if isinstance(said, list) else str(said)
        reasons.append(words if field == "non_field_errors" else f"{field}: {words}")
    return re.sub(r"<[^>]*>", "", "; ".join(reasons))
