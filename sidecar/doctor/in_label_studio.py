"""Label Studio: who we are there, and whether it may reach us.

Asked without changing anything: its "validate" of a storage saves nothing when it is given no id (seen, 1.23.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.errors import BridgeError, Unavailable
from sidecar.clients import Clients
from sidecar.doctor.checks import Area, Check, split_hint
from sidecar.plan import Json, wanted

TRIED = "1.23"
NEEDED = (
    *("projects.view", "tasks.view", "annotations.view", "webhooks.view", "webhooks.change"),
    *(
        "storages.view",
        "storages.change",
        "storages.sync",
        "projects.change",
        "predictions.any",
        "views.view",
    ),
)
_PROBE_BUCKET = "doctor-probe"
_TIMEOUT_S = 20.0
_PRIVATE = (
    "start Label Studio with USE_DEFAULT_BANNED_SUBNETS=false "
    "(or SSRF_PROTECTION_ENABLED=false and ML_BLOCK_LOCAL_IP=false)"
)


def check_label_studio(clients: Clients) -> tuple[list[Check], bool]:
    """The lines, and whether it can be asked for more."""
    area, studio = Area("Label Studio"), clients.label_studio
    address = clients.settings.label_studio.url
    try:
        who: Json = studio.get("/api/current-user/whoami")
    except BridgeError as error:
        reached = not isinstance(error, Unavailable)
        if reached:
            area.ok("address", f"{address} answers")
        area.failed(
            "token" if reached else "address",
            error,
            "check LABEL_STUDIO_API_KEY" if reached else "check LABEL_STUDIO_URL",
        )
        return area.checks, False
    area.ok("address", address)
    area.ok("token", f"is that of {who.get('email')}")
    _version(area, studio)
    area.checks.extend(judge_permissions(who.get("permissions")))
    try:
        project = next(iter(studio.projects()), None)
    except BridgeError as error:
        area.failed("projects", error, "check what the token's user may see")
        return area.checks, False
    if project is None:
        area.warn("reach", "there is no project yet, so nobody can say whether Label Studio may reach us")
    else:
        _reach(area, clients, int(project["id"]))
    return area.checks, True


def _version(area: Area, studio: Any) -> None:
    try:
        release = str(studio.get("/api/version").get("release", ""))
    except BridgeError:
        return
    if release.startswith(TRIED):
        area.ok("version", release)
    else:
        area.warn(
            "version", f"{release or 'unknown'}; ours was tried with {TRIED}", "run the end-to-end tests"
        )


def judge_permissions(permissions: Sequence[str] | None) -> list[Check]:
    """From whoami; Label Studio's community edition gives everybody everything."""
    area = Area("Label Studio")
    if permissions is None:
        area.info("permissions", "Label Studio does not tell what the token may do")
        return area.checks
    missing = [name for name in NEEDED if name not in permissions]
    if missing:
        area.fail(
            "permissions",
            f"the token's user may not: {', '.join(missing)}",
            "use the token of a user with these permissions",
        )
    else:
        area.ok("permissions", "the token may do all that connecting needs")
    return area.checks


def _reach(area: Area, clients: Clients, project_id: int) -> None:
    """Label Studio itself opens our addresses, as if they were stores; the error says whether it was allowed to."""
    settings = clients.settings
    probe = {
        "project": project_id,
        "bucket": _PROBE_BUCKET,
        "prefix": "",
        "s3_endpoint": settings.sidecar_url,
    }
    keys = {"aws_access_key_id": "doctor", "aws_secret_access_key": "doctor", "region_name": "us-east-1"}
    said = _validate(clients, probe | keys)
    area.checks.append(judge_reach(settings.sidecar_url, said))
    storage = wanted(settings, project_id).storage | {"prefix": ""}
    said = _validate(clients, storage)
    where = f"{storage['bucket']} at {storage['s3_endpoint']}"
    if said is None:
        area.ok("its bucket", f"Label Studio can open {where}")
    elif "reserved network address" in said:
        area.fail("its bucket", f"Label Studio refuses private addresses such as {where}", _PRIVATE)
    else:
        area.fail(
            "its bucket",
            f"Label Studio cannot open {where}",
            "if the bucket is well (below), set LABEL_STUDIO_S3_URL to the store's address as Label Studio reaches it",
        )


def _validate(clients: Clients, body: Json) -> str | None:
    """What Label Studio said against it; None when it could open it."""
    try:
        clients.label_studio.post("/api/storages/s3/validate", body, timeout_s=_TIMEOUT_S)
    except BridgeError as error:
        return str(error)
    return None


def judge_reach(url: str, said: str | None) -> Check:
    """From Label Studio's answer to opening SIDECAR_URL as if it were a store: anything but these is as it should be,
    since the sidecar is none."""
    area = Area("Label Studio")
    said = said or ""
    if "reserved network address" in said:
        area.fail("reach", f"Label Studio refuses private addresses such as {url}", _PRIVATE)
    elif "resolve hostname" in said:
        area.fail(
            "reach", f"Label Studio cannot resolve the name in {url}", "correct SIDECAR_URL, or its DNS"
        )
    elif "no answer" in said:
        area.fail(
            "reach",
            f"Label Studio hangs when it opens {url}: {split_hint(said)[0]}",
            "let Label Studio's machine through to SIDECAR_URL (firewall, network of the containers)",
        )
    else:
        area.ok("reach", f"Label Studio may open {url} (it does not tell what it found there)")
    return area.checks[0]
