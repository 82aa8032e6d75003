"""Reading what is there: a project by id or title, and what is registered for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bridge.edges import redis as names
from bridge.errors import BridgeError, NotFound, SenderError
from sidecar.clients import Clients
from sidecar.parts import storage as storage_part
from sidecar.plan import ML_BACKEND, STORAGE, WEBHOOK, Found, Json, Project, Wanted

if TYPE_CHECKING:
    from bridge.edges.label_studio import LabelStudio


def find_project(label_studio: LabelStudio, given: str) -> Project:
    """A project by its id or its title. Raises NotFound, or SenderError when several have this title."""
    if given.isdecimal():
        try:
            return project_by_id(label_studio, int(given))
        except NotFound:
            pass  # It may be a title.
    listed = list(label_studio.projects())
    same = [p for p in listed if p["title"] == given]
    same = same or [p for p in listed if (p["title"] or "").casefold() == given.casefold()]
    if len(same) > 1:
        ids = ", ".join(str(p["id"]) for p in sorted(same, key=lambda p: p["id"]))
        raise SenderError(f"{len(same)} projects are called {given!r}: give the id, one of {ids}")
    if not same:
        raise NotFound(
            f"Label Studio has no project with the id or title {given!r}",
            hint="`python -m sidecar status` lists them; the token's user must see it",
        )
    return project_by_id(label_studio, same[0]["id"])


def project_by_id(label_studio: LabelStudio, id: int) -> Project:
    """Raises NotFound."""
    try:
        return Project.of(label_studio.get(f"/api/projects/{id}"))
    except NotFound as error:
        raise NotFound(f"Label Studio has no project {id} that the token's user sees") from error


def gather(
    clients: Clients,
    project: Project,
    want: Wanted,
    *,
    webhooks: Sequence[Json] | None = None,
    check: bool,
    dry_run: bool = False,
) -> Found:
    """What is registered now. `webhooks`: those of the project, when they are known already. `check`: look at
    the baseline too, and whether there are pictures and Label Studio can open them; not the latter in a dry run, since
    Label Studio saves the storage again, as it is, when it is asked to try it."""
    trouble: dict[str, str] = {}

    def ask(part: str, path: str) -> list[Json]:
        try:
            answer = clients.label_studio.get(path, project=project.id)
            return list(answer["results"] if isinstance(answer, dict) else answer)
        except BridgeError as error:
            trouble[part] = str(error)
            return []

    found = Found(
        webhooks=list(webhooks) if webhooks is not None else ask(WEBHOOK, "/api/webhooks/"),
        ml_backends=ask(ML_BACKEND, "/api/ml"),
        storages=ask(STORAGE, "/api/storages/s3"),
        trouble=trouble,
    )
    if not check:
        return found
    has_pictures = _has_pictures(clients, want)
    ours = storage_part.ours(want, found)
    storage_trouble = ""
    if ours and not dry_run and has_pictures is not False and not storage_part.drift_of(want, ours[0]):
        storage_trouble = _storage_trouble(clients.label_studio, ours[0])
    return replace(
        found,
        has_pictures=has_pictures,
        storage_trouble=storage_trouble,
        baseline_state=_baseline_state(clients, project.uid),
    )


def _baseline_state(clients: Clients, uid: str) -> str:
    """ "" where Redis does not know, or is away: the step that needs it fails by itself."""
    try:
        with clients.redis_says() as connection:
            state: Any = connection.hget(names.baseline(uid), "state")
    except BridgeError:
        return ""
    return state.decode() if state else ""


def _has_pictures(clients: Clients, want: Wanted) -> bool | None:
    try:
        return next(clients.store.keys(f"{want.storage['prefix']}/"), None) is not None
    except BridgeError:
        return None


def _storage_trouble(label_studio: LabelStudio, storage: Json) -> str:
    """Whether Label Studio can open it with the keys it holds. They cannot be read, so they are tried."""
    kept = ("id", "project", "bucket", "prefix", "s3_endpoint", "region_name", "presign", "synchronizable")
    try:
        label_studio.post("/api/storages/s3/validate", {name: storage.get(name) for name in kept})
    except BridgeError:
        return "Label Studio cannot open it"
    return ""
