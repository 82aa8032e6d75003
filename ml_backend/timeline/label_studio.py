"""A project's annotated tasks, from Label Studio's API. The rim."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from bridge.errors import Refused, Unavailable
from ml_backend.images import Token

_PAGE = 100
_TIMEOUT_S = 60.0


class AnnotatedTasks:
    """As the user of the token sees them."""

    def __init__(self, url: str, api_key: str | None, *, http: httpx.Client | None = None) -> None:
        self._url = url
        self._api_key = api_key
        self._http = http or httpx.Client(timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False)
        self._token = Token(api_key, url, self._http, time.monotonic)

    @property
    def can_ask(self) -> bool:
        return self._api_key is not None

    def of(self, project_id: int) -> Iterator[dict[str, Any]]:
        """Every task with an annotation, whole, in order of id. Raises Unavailable, Refused.

        By the id of the last one, since page numbers shift while people work."""
        after = 0
        while True:
            page = self._page(project_id, after)
            yield from page
            if not page:
                return
            after = int(page[-1]["id"])

    def _page(self, project_id: int, after: int) -> list[dict[str, Any]]:
        filters = [("id", after), ("total_annotations", 0)]
        query = {
            "filters": {
                "conjunction": "and",
                "items": [
                    {
                        "filter": f"filter:tasks:{field}",
                        "operator": "greater",
                        "type": "Number",
                        "value": value,
                    }
                    for field, value in filters
                ],
            },
            "ordering": ["tasks:id"],
        }
        params: dict[str, Any] = {
            "project": project_id,
            "page": 1,
            "page_size": _PAGE,
            "fields": "all",
            "resolve_uri": "false",
            "query": json.dumps(query),
        }
        what = f"GET {self._url}/api/tasks"
        try:
            answer = self._http.get(f"{self._url}/api/tasks", params=params, headers=self._token.headers())
            if answer.status_code == 401 and self._token.renewable:
                headers = self._token.headers(renew=True)
                answer = self._http.get(f"{self._url}/api/tasks", params=params, headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{what}: no answer ({type(error).__name__})",
                hint="is Label Studio running, and is LABEL_STUDIO_URL right?",
            ) from error
        if answer.status_code in (401, 403):
            raise Refused(f"{what}: {answer.status_code}", hint="check LABEL_STUDIO_API_KEY")
        if answer.status_code == 404 and "Invalid page" in answer.text:
            return []  # what 1.23.2 answers for a first page without rows
        try:
            tasks = answer.json()["tasks"] if answer.status_code == 200 else None
        except (ValueError, KeyError, TypeError):
            tasks = None
        if not isinstance(tasks, list):
            raise Unavailable(f"{what}: answered {answer.status_code} without tasks")
        return [task for task in tasks if isinstance(task, dict)]
