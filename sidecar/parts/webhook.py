"""The webhook by which Label Studio tells the sidecar what happens in a project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge import hooks
from sidecar.plan import MISSING, OK, WEBHOOK, Call, Fine, Found, Json, Step, Wanted


def ours(want: Wanted, found: Found) -> list[Json]:
    """Ours among those found; see bridge/hooks.py."""
    return hooks.ours(want.hook, found.webhooks)


def drift_of(want: Wanted, hook: Mapping[str, Any]) -> list[str]:
    """What is not as wanted, in words."""
    return hooks.drift_of(want.hook, hook)


def trouble(want: Wanted, found: Found) -> str:
    """Why events may not arrive: "missing", "drifted: …", "unknown"; empty when they do."""
    if WEBHOOK in found.trouble:
        return "unknown"
    mine = ours(want, found)
    if not mine:
        return MISSING
    drift = drift_of(want, mine[0])
    return f"drifted: {', '.join(drift)}" if drift else ""


def connect(want: Wanted, found: Found) -> list[Step]:
    url = want.hook["url"]
    mine = ours(want, found)
    if not mine:
        return [
            Call(part=WEBHOOK, text=f"register {url}", method="POST", path="/api/webhooks/", body=want.hook)
        ]
    first, *others = mine
    steps: list[Step] = []
    if drift := drift_of(want, first):
        steps.append(
            Call(
                part=WEBHOOK,
                text=f"repair {url} ({', '.join(drift)})",
                method="PATCH",
                path=f"/api/webhooks/{first['id']}/",
                body=hooks.repaired(want.hook, first),
            )
        )
    else:
        steps.append(Fine(part=WEBHOOK, text=url))
    return steps + [remove_hook(WEBHOOK, hook, "remove a second one") for hook in others]


def remove_hook(part: str, hook: Mapping[str, Any], why: str) -> Call:
    return Call(part=part, text=f"{why}: {hook['url']}", method="DELETE", path=f"/api/webhooks/{hook['id']}/")


def disconnect(want: Wanted, found: Found) -> list[Step]:
    steps: list[Step] = [remove_hook(WEBHOOK, hook, "remove") for hook in ours(want, found)]
    return steps or [Fine(part=WEBHOOK, text="none is registered")]


def word(want: Wanted, found: Found) -> str:
    if WEBHOOK in found.trouble:
        return f"unknown: {found.trouble[WEBHOOK]}"
    return trouble(want, found) or OK
