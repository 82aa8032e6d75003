"""Label Studio's REST API, through the SDK's own authenticated HTTP client.

The SDK tells legacy tokens from personal access tokens and refreshes the latter. Its typed models are not used for
reading: they drop fields that the record must keep, so answers stay the JSON that Label Studio sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
from label_studio_sdk import LabelStudio as SdkClient
from label_studio_sdk.core.api_error import ApiError

from bridge.errors import NotFound, OutsideError, Refused, Unavailable
from bridge.settings import LabelStudioSettings


class LabelStudio:
    """One Label Studio, as one user of it. Every method raises Unavailable, Refused or NotFound."""

    def __init__(self, settings: LabelStudioSettings, *, timeout_s: float = 60) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._sdk: SdkClient | None = None

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
        address = self._settings.url
        try:
            if self._sdk is None:
                self._sdk = SdkClient(
                    base_url=address, api_key=self._settings.api_key, timeout=self._timeout_s
                )
            answer: httpx.Response = self._sdk._client_wrapper.httpx_client.request(
                path,
                method=method,
                params=params,
                json=json,
                request_options={"timeout_in_seconds": timeout_s or self._timeout_s, "max_retries": 0},
            )
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
        if answer.status_code >= 400:
            raise _ours(what, answer)
        return answer

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
        query = {
            "filters": {
                "conjunction": "and",
                "items": [
                    {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after_id}
                ],
            },
            "ordering": ["tasks:id"],
        }
        try:
            found = self.get(
                "/api/tasks",
                project=project_id,
                fields="all",
                resolve_uri="false",
                page=1,
                page_size=page_size,
                query=json.dumps(query),
            )
        except NotFound as error:
            # Label Studio answers 404 "Invalid page." for a first page without rows.
            if "Invalid page" in str(error):
                return []
            raise
        tasks: list[dict[str, Any]] = found["tasks"]
        return tasks


_TOKEN_HINT = (
    "check LABEL_STUDIO_API_KEY; a legacy token works only where legacy tokens are enabled, "
    "a personal access token is made under Account & Settings"
)


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
    if status in (429, 502, 503, 504):
        return Unavailable(f"{what}: {status} {said}")
    return Refused(f"{what}: {status} {said}")


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
