"""Our own programs, and each connected project: what `status` finds, judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.settings import SidecarSettings
from sidecar.doctor.checks import Area, Check
from sidecar.plan import OK
from sidecar.status import ProjectStatus, Status

_LAG_S = 60.0
_TIMEOUT_S = 5.0


def check_addresses(settings: SidecarSettings) -> list[Check]:
    """The sidecar and the ML backend, from this machine: Label Studio may see it differently."""
    area = Area("ours")
    found = health(f"{settings.sidecar_url}/health", None)
    if found == "":
        area.ok(
            "sidecar",
            f"{settings.sidecar_url} answers (from this machine; Label Studio may see it differently)",
        )
    else:
        area.fail(
            "sidecar",
            f"{settings.sidecar_url}/health: {found} (from this machine)",
            "start it (`python -m sidecar serve`), or correct SIDECAR_URL; if only Label Studio reaches it there, "
            "run the doctor beside it",
        )
    if settings.ml_backend_url is None:
        area.info("ML backend", "ML_BACKEND_URL is not set: there are no pre-labels")
        return area.checks
    user, password = settings.basic_auth_user, settings.basic_auth_pass
    found = health(f"{settings.ml_backend_url}/health", (user, password) if user and password else None)
    if found == "":
        area.ok("ML backend", f"{settings.ml_backend_url} answers (from this machine)")
    else:
        area.fail(
            "ML backend",
            f"{settings.ml_backend_url}/health: {found} (from this machine)",
            "start it (`python -m ml_backend`), or correct ML_BACKEND_URL, BASIC_AUTH_USER and BASIC_AUTH_PASS",
        )
    return area.checks


def health(url: str, auth: Any) -> str:
    """Why an address is not well; empty when it is."""
    import httpx

    try:
        answer = httpx.get(url, auth=auth, timeout=_TIMEOUT_S, trust_env=False)  # no proxy stands before ours
    except (httpx.HTTPError, OSError) as error:
        return f"no answer ({type(error).__name__})"
    return "" if answer.status_code == 200 else f"answers {answer.status_code}"


def judge_status(status: Status, *, redis_up: bool) -> list[Check]:
    """Each project that is connected, or known to Redis; then what waits outside the projects."""
    area = Area("projects")
    _outside(area, status)
    touched = [project for project in status.projects if project.ml_backend is not None or project.connected]
    for project in touched:
        _project(area, project, redis_up)
    others = len(status.projects) - len(touched)
    if not touched:
        area.warn("connected", "none", "`python -m sidecar connect PROJECT`")
    elif others:
        area.info("connected", f"{len(touched)}; {others} more projects are not")
    return area.checks


def _outside(area: Area, status: Status) -> None:
    if status.quarantine:
        area.warn(
            "quarantine",
            f"{status.quarantine} webhooks could not be read",
            "`python -m sidecar quarantine list`",
        )
    if status.spool_entries is None:
        area.warn(
            "spool", "its file cannot be read", "check SPOOL_DIR; run the doctor where the sidecar runs"
        )
    elif status.spool_entries:
        area.warn(
            "spool",
            f"{status.spool_entries} events wait on disk for Redis",
            "they follow once Redis answers and the sidecar runs",
        )


def _project(area: Area, project: ProjectStatus, redis_up: bool) -> None:
    name = f"{project.id} {project.title or ''}".strip()
    again = f"`python -m sidecar connect {project.id}`"
    bad = list(_parts(project))
    for part, word in bad:
        text = f"{part}: {word}"
        if word.startswith("unknown"):
            area.warn(name, text, "Label Studio could not be asked: try again")
        elif part == "pictures":
            area.warn(
                name, text, f"see that there are pictures below STORAGE_PREFIX in the bucket, then {again}"
            )
        else:
            more = " (once the ML backend answers: see above)" if part == "ML backend" else ""
            area.fail(name, text, again + more)
    if not bad:
        area.ok(name, "webhook, ML backend and pictures are as they should be")
    if not redis_up:
        return
    baseline = project.baseline
    if baseline is not None and baseline.state == "failed":
        area.fail(name, f"baseline failed: {baseline.message}", f"{again} --baseline, once that is mended")
    elif baseline is not None and baseline.state == "unknown" and project.connected:
        area.warn(name, "nobody knows whether it was read whole", f"{again} --baseline")
    if project.trouble:
        area.fail(name, f"events do not reach the bucket: {project.trouble}", "mend that: they wait in Redis")
    elif (project.lag_s or 0) > _LAG_S:
        area.fail(
            name,
            f"{project.waiting} events wait, the oldest for {project.lag_s:.0f} s",
            "are the workers running? `python -m workers`",
        )
    if project.media_failed:
        area.warn(
            name, f"{project.media_failed} uploaded files are not in the bucket", "see the workers' log"
        )


def _parts(project: ProjectStatus) -> Sequence[tuple[str, str]]:
    words = {"webhook": project.webhook, "ML backend": project.ml_backend, "pictures": project.storage}
    return [(part, word) for part, word in words.items() if word not in (None, OK, "not used")]
