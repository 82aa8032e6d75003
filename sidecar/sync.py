"""Having Label Studio make tasks of the pictures in the bucket."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge.errors import NotFound, Refused
from sidecar.advice import advice
from sidecar.apply import bucket_trouble
from sidecar.clients import Clients
from sidecar.parts import storage
from sidecar.plan import STORAGE, Found, Project, wanted

SYNC_TIMEOUT_S = 3600.0
POLL_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Synced:
    """`new` tasks came in; the project now has `tasks`."""

    new: int
    tasks: int


def sync(clients: Clients, project: Project, *, sleep: Callable[[float], None] = time.sleep) -> Synced:
    """Have Label Studio look for new pictures. Raises NotFound without our import storage, Refused when it fails."""
    want = wanted(clients.settings, project.id)
    label_studio = clients.label_studio
    listed = label_studio.get("/api/storages/s3", project=project.id)
    ours = storage.ours(want, Found(storages=listed))
    if not ours:
        raise NotFound(
            f"project {project.id} has no import storage on {want.pictures}",
            hint=f"run `python -m sidecar connect {project.id}` first",
        )
    path = f"/api/storages/s3/{ours[0]['id']}"
    try:
        state = label_studio.post(f"{path}/sync", {}, timeout_s=SYNC_TIMEOUT_S)
    except Refused as error:
        raise Refused(advice(STORAGE, str(error), clients.settings, bucket_trouble(clients))) from error
    while state["status"] in (
        "queued",
        "in_progress",
    ):  # Label Studio with its own Redis does it in the background.
        sleep(POLL_S)
        state = label_studio.get(path)
    if state["status"] == "failed":
        reason = (state.get("traceback") or "it does not say why").strip().splitlines()[-1]
        raise Refused(f"Label Studio could not sync {want.pictures}: {reason}")
    tasks = label_studio.get(f"/api/projects/{project.id}", include="id,task_number")["task_number"]
    return Synced(new=state["last_sync_count"] or 0, tasks=tasks)
