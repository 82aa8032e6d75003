"""The ML backend, the second webhook that Label Studio adds to it, and whether its pre-labels are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.parts import webhook
from sidecar.plan import (
    MISSING,
    ML_BACKEND,
    ML_TITLE,
    OK,
    Call,
    Fine,
    Found,
    Json,
    Note,
    Project,
    RemoveHooks,
    Step,
    Wanted,
)

_TROUBLED = ("DI", "ER")  # Label Studio's codes for Disconnected and Error


def ours(want: Wanted, found: Found) -> list[Json]:
    """Those at our address or with our title (the address has changed); the one that Label Studio uses comes first."""
    url = want.ml_backend["url"] if want.ml_backend else None
    return sorted(
        (ml for ml in found.ml_backends if ml["url"].rstrip("/") == url or ml.get("title") == ML_TITLE),
        key=lambda ml: int(ml["id"]),
    )


def drift_of(want: Wanted, backend: Mapping[str, Any]) -> list[str]:
    """What is not as wanted. Label Studio never tells the password, but has just tried it: its state says."""
    assert want.ml_backend is not None
    needs_auth = want.ml_backend["auth_method"] == "BASIC_AUTH"
    checks = {
        "address": backend["url"].rstrip("/") == want.ml_backend["url"],
        "authentication": backend.get("auth_method") == want.ml_backend["auth_method"],
        "user name": not needs_auth or backend.get("basic_auth_user") == want.ml_backend["basic_auth_user"],
        "no password": not needs_auth or bool(backend.get("basic_auth_pass_is_set")),
        "not interactive": not want.ml_backend.get("is_interactive") or bool(backend.get("is_interactive")),
        f"it is {backend.get('readable_state') or 'in trouble'}": backend.get("state") not in _TROUBLED,
    }
    return [name for name, right in checks.items() if not right]


def connect(want: Wanted, found: Found, project: Project) -> list[Step]:
    if want.ml_backend is None:
        return [Note(part=ML_BACKEND, text="none is registered: ML_BACKEND_URL is not set")]
    url = want.ml_backend["url"]
    mine = ours(want, found)
    steps: list[Step] = []
    if not mine:
        steps.append(
            Call(part=ML_BACKEND, text=f"register {url}", method="POST", path="/api/ml", body=want.ml_backend)
        )
    elif drift := drift_of(want, mine[0]):
        steps.append(
            Call(
                part=ML_BACKEND,
                text=f"repair {url} ({', '.join(drift)})",
                method="PATCH",
                path=f"/api/ml/{mine[0]['id']}",
                # Everything again: Label Studio checks the backend with this body alone, and drops what is left out.
                body=want.ml_backend
                | {"title": mine[0].get("title"), "extra_params": mine[0].get("extra_params")},
            )
        )
    else:
        steps.append(Fine(part=ML_BACKEND, text=url))
    steps += [
        Call(
            part=ML_BACKEND,
            text=f"remove a second one: {ml['url']}",
            method="DELETE",
            path=f"/api/ml/{ml['id']}",
        )
        for ml in mine[1:]
    ]
    steps += _second_hook_steps(want, found, mine, created=not mine)
    return steps + _shown_steps(found, project, mine)


def _second_hook_steps(want: Wanted, found: Found, mine: list[Json], *, created: bool) -> list[Step]:
    urls = {want.ml_hook_url} | {f"{ml['url'].rstrip('/')}/webhook" for ml in mine}
    ours_too = {hook["id"] for hook in webhook.ours(want, found)}
    there = [hook for hook in found.webhooks if hook["url"] in urls and hook["id"] not in ours_too]
    steps: list[Step] = [
        webhook.remove_hook(ML_BACKEND, hook, "remove the webhook Label Studio added to it") for hook in there
    ]
    if created and not there and want.ml_hook_url and want.ml_hook_url != want.hook["url"]:
        steps.append(
            RemoveHooks(
                part=ML_BACKEND,
                text=f"remove the webhook Label Studio adds to it: {want.ml_hook_url}",
                url=want.ml_hook_url,
            )
        )
    return steps


def _shown_steps(found: Found, project: Project, mine: list[Json]) -> list[Step]:
    """Label Studio shows pre-labels on its own only from its first backend, and only when the project names it."""
    others = [other for other in found.ml_backends if other["id"] not in {ml["id"] for ml in mine}]
    first_other = min(others, key=lambda ml: ml["id"], default=None)
    steps: list[Step] = []
    if first_other and (not mine or first_other["id"] < mine[0]["id"]):
        steps.append(
            Note(
                part=ML_BACKEND,
                text=f"Label Studio uses only the first ML backend of a project, here {first_other['title']!r} at "
                f"{first_other['url']}: remove that one under Settings > Model to use ours",
            )
        )
    if not project.shows_predictions:
        steps.append(
            Note(
                part=ML_BACKEND,
                text="pre-labels are switched off: tick Settings > Annotation > Use predictions to prelabel tasks",
            )
        )
        return steps
    title = mine[0].get("title") if mine else ML_TITLE
    # Removing a second backend of the same title makes Label Studio forget the choice.
    forgets = any(ml.get("title") == project.model_version for ml in mine[1:])
    if mine and (not project.model_version or forgets):
        steps.append(
            Call(
                part=ML_BACKEND,
                text=f"show its pre-labels in the project ({title})",
                method="PATCH",
                path=f"/api/projects/{project.id}",
                body={"model_version": title},
            )
        )
    elif project.model_version and project.model_version != title:
        steps.append(
            Note(
                part=ML_BACKEND,
                text=f"the project shows the predictions of {project.model_version!r}: choose {title!r} under "
                "Settings > Annotation to see ours as tasks are opened",
            )
        )
    return steps


def disconnect(want: Wanted, found: Found) -> list[Step]:
    mine = ours(want, found)
    steps: list[Step] = [
        Call(part=ML_BACKEND, text=f"remove {ml['url']}", method="DELETE", path=f"/api/ml/{ml['id']}")
        for ml in mine
    ]
    steps += _second_hook_steps(want, found, mine, created=False)
    return steps or [Fine(part=ML_BACKEND, text="none is registered")]


def word(want: Wanted, found: Found) -> str:
    if ML_BACKEND in found.trouble:
        return f"unknown: {found.trouble[ML_BACKEND]}"
    if want.ml_backend is None:
        return "not used"
    mine = ours(want, found)
    if not mine:
        return MISSING
    if drift := drift_of(want, mine[0]):
        return f"drifted: {', '.join(drift)}"
    if mine[0]["id"] != min(backend["id"] for backend in found.ml_backends):
        return "drifted: another ML backend is first, Label Studio uses that one"
    return OK
