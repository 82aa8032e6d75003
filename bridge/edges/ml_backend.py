"""An ML backend as we ask it: `/setup`, `/versions` and `/predict`, as Label Studio 1.23.2 does (facts: its ml/api_connector.py).

What can go wrong with a prediction is told apart by what helps: `Down` (wait), `Busy` (wait, it said so itself), `Cut` (ask
for less: this request ended without a usable answer), and `Refused` (a person must do something).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from bridge.errors import Busy, Refused, Unavailable

SETUP_TIMEOUT_S = 15.0
_SAID_CHARS = 300


class Down(Unavailable):
    """Nobody answers at its address."""


class Cut(Unavailable):
    """It took the request, and did not answer it as it should."""


class Rejected(Cut):
    """It says that the request is wrong in itself (4xx)."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What it will predict for a labeling config: under which version, and what a person should know of it."""

    version: str
    warnings: tuple[str, ...] = ()


class MlBackend:
    """One backend. Raises what the module says; close it when done."""

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        predict_timeout_s: float = 150.0,
    ) -> None:
        self._url = url.rstrip("/")
        self._predict_timeout_s = predict_timeout_s
        auth = httpx.BasicAuth(user, password) if user and password else None
        # The address is the operator's own: no proxy of the environment stands before it.
        self._client = httpx.Client(auth=auth, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def setup(self, *, project: str, label_config: str) -> Offer:
        """Raises Down, Busy, Refused."""
        body = {"project": project, "schema": label_config, "hostname": "", "access_token": ""}
        try:
            found = self._call("POST", "/setup", body, timeout_s=SETUP_TIMEOUT_S)
        except Rejected as error:
            raise Refused(str(error)) from error  # waiting makes no other labeling config of it
        except Cut as error:
            raise Unavailable(str(error)) from error
        version = found.get("model_version") if isinstance(found, dict) else None
        if not isinstance(version, str) or not version:
            raise Refused(
                f"the ML backend at {self._url} names no model_version in its answer to /setup",
                hint="without one nobody could tell which tasks are done",
            )
        warnings = found.get("warnings") if isinstance(found, dict) else None
        told = warnings if isinstance(warnings, list) else []
        return Offer(version=version, warnings=tuple(str(one) for one in told))

    def versions(self, project: str) -> list[str]:
        """Those it lists, for this project where it tells them apart; [] where it knows no such question."""
        return self._listed(project, "versions")

    def possible(self, project: str) -> list[str]:
        """Those that can be asked for with the labeling config it was told last; where it does not tell them apart, all."""
        return self._listed(project, "possible", "versions")

    def _listed(self, project: str, *names: str) -> list[str]:
        try:
            found = self._call("GET", f"/versions?project={quote(project)}", None, timeout_s=SETUP_TIMEOUT_S)
        except (Cut, Refused):
            return []
        fields = found if isinstance(found, dict) else {}
        listed: list[Any] = next((fields[name] for name in names if isinstance(fields.get(name), list)), [])
        return [str(one) for one in listed]

    def predict(
        self, tasks: Sequence[dict[str, Any]], *, project: str, label_config: str, model: str, by: str
    ) -> list[Any]:
        """One item a task, in order. `by` tells our backend that a job asks, and not to start another one."""
        params: dict[str, Any] = {"context": None, "prelabel": by}
        if model:
            params["model_version"] = model
        body = {"tasks": list(tasks), "project": project, "label_config": label_config, "params": params}
        found = self._call("POST", "/predict", body, timeout_s=self._predict_timeout_s)
        results = found.get("results") if isinstance(found, dict) else None
        if not isinstance(results, list):
            raise Cut(f"the ML backend at {self._url} answered without a list of results")
        if len(results) != len(tasks):
            raise Cut(f"the ML backend at {self._url} answered {len(results)} results for {len(tasks)} tasks")
        return results

    def _call(self, method: str, path: str, body: Any, *, timeout_s: float) -> Any:
        what = f"{method} {path} of the ML backend at {self._url}"
        content = None if body is None else json.dumps(body).encode()
        try:
            answer = self._client.request(
                method,
                f"{self._url}{path}",
                content=content,
                headers={"Content-Type": "application/json"},
                timeout=httpx.Timeout(timeout_s, connect=5.0),
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Down(
                f"no answer from the ML backend at {self._url} ({type(error).__name__})",
                hint="is it running, and is ML_BACKEND_URL right?",
            ) from error
        except httpx.TimeoutException as error:
            raise Cut(f"{what}: no answer within {timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise Cut(f"{what}: the connection broke ({type(error).__name__})") from error
        status = answer.status_code
        if status in (502, 503, 504, 429):
            raise Busy(f"{what}: {status} {_said(answer)}")
        if status in (401, 403):
            raise Refused(
                f"{what}: {status} {_said(answer)}", hint="check BASIC_AUTH_USER and BASIC_AUTH_PASS"
            )
        if status == 404:
            raise Refused(f"{what}: 404, it knows no {path}", hint="is ML_BACKEND_URL an ML backend?")
        if status >= 400:
            raise (Rejected if status < 500 else Cut)(f"{what}: {status} {_said(answer)}")
        try:
            return answer.json()
        except ValueError as error:
            raise Cut(f"{what}: the answer is no JSON") from error


def _said(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return answer.text[:_SAID_CHARS]
    said = body.get("error") or body.get("detail") if isinstance(body, dict) else None
    return str(said or answer.text)[:_SAID_CHARS]
