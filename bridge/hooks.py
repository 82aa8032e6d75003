"""The webhook by which Label Studio tells the sidecar what happens in a project: what it is like, and what is wrong with
one that is there. Pure; `connect` registers it, reconcile repairs it. Tried on Label Studio 1.23.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.events import PROJECT_HOOK_ACTIONS, SECRET_HEADER

Json = dict[str, Any]


def wanted_hook(project_id: int, sidecar_url: str, secret: str) -> Json:
    """The webhook as Label Studio's API takes it. Holds the secret and is never shown."""
    return {
        "project": project_id,
        "url": f"{sidecar_url}/webhook",
        "headers": {SECRET_HEADER: secret},
        "send_payload": True,
        # Not "all actions": with LABEL_LINK_CREATED among them, `POST /api/labels/` answers 500 (a Label Studio bug).
        "send_for_all_actions": False,
        "actions": list(PROJECT_HOOK_ACTIONS),
        "is_active": True,
    }


def ours(want: Mapping[str, Any], found: Iterable[Json]) -> list[Json]:
    """Ours: those at our address, then those carrying our secret (the address has changed).

    One with another secret at another address is another sidecar's."""
    hooks = list(found)
    secret = want["headers"][SECRET_HEADER]
    here = [hook for hook in hooks if hook["url"] == want["url"]]
    moved = [hook for hook in hooks if (hook.get("headers") or {}).get(SECRET_HEADER) == secret]
    return here + [hook for hook in moved if hook not in here]


def drift_of(want: Mapping[str, Any], hook: Mapping[str, Any]) -> list[str]:
    """What is not as wanted, in words."""
    headers = hook.get("headers") or {}
    checks = {
        "address": hook["url"] == want["url"],
        "secret": headers.get(SECRET_HEADER) == want["headers"][SECRET_HEADER],
        "payload off": hook.get("send_payload") is True,
        "switched off": hook.get("is_active") is True,
        "actions": not hook.get("send_for_all_actions")
        and set(hook.get("actions") or ()) == set(want["actions"]),
    }
    return [name for name, right in checks.items() if not right]


def repaired(want: Json, hook: Mapping[str, Any]) -> Json:
    """The body of the PATCH that makes a webhook as wanted.

    Always with `actions`: Label Studio empties them on a PATCH that does not name them."""
    return {
        **{name: value for name, value in want.items() if name != "project"},
        "headers": (hook.get("headers") or {}) | want["headers"],
    }


@dataclass(frozen=True, kw_only=True)
class HookRepair:
    """One request that makes events arrive again. `why` never holds a secret."""

    method: str
    path: str
    why: str
    body: Json = field(repr=False)


def repair_of(want: Json, found: Iterable[Json]) -> HookRepair | None:
    """What reconcile does by itself: register the webhook where there is none of ours, set right one at our address.

    One that carries our secret to another address is left to `connect`: a worker whose SIDECAR_URL is not the sidecar's
    would take the events away from the right one."""
    mine = ours(want, found)
    if not mine:
        return HookRepair(method="POST", path="/api/webhooks/", why="it was missing", body=want)
    first = mine[0]
    drift = drift_of(want, first)
    if not drift or "address" in drift:
        return None
    return HookRepair(
        method="PATCH",
        path=f"/api/webhooks/{first['id']}/",
        why=", ".join(drift),
        body=repaired(want, first),
    )
