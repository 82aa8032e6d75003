"""Exports as the commands and the API ask for them and hand them out; making them is a worker's job."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bridge import exports as rules
from bridge.edges import exports as registry
from bridge.edges.exports import View
from bridge.errors import BridgeError, Corrupt, NotFound, OutsideError, SenderError, Unavailable
from bridge.export_manifest import File
from bridge.exports import Format, uid_of_export
from bridge.keys import Layout, projects_prefix, uid_of_key
from bridge.labeling import parse_config
from sidecar import metrics_of_project
from sidecar.clients import Clients
from sidecar.gather import find_project

WAIT_S = 3600.0
_BLOCK = 1024 * 1024


def layout_of(clients: Clients, uid: str) -> Layout:
    return Layout(uid, clients.settings.s3.bucket_prefix)


def uid_of(clients: Clients, given: str) -> str:
    """The uid of a project given by id, title or uid; when Label Studio is away, by what Redis or the bucket knows."""
    try:
        return metrics_of_project.uid_of(clients, given)
    except NotFound:
        raise
    except OutsideError:
        found = _in_bucket(clients, given) if given.isdecimal() else []
        if not found:
            raise
        return max(found, key=lambda uid: int(uid.partition(".")[2]))


def _in_bucket(clients: Clients, project_id: str) -> list[str]:
    """The uids under which the bucket has records of projects with this id."""
    prefix = clients.settings.s3.bucket_prefix
    start = f"{projects_prefix(prefix)}{project_id}."
    found: list[str] = []
    after = ""
    while (info := next(iter(clients.store.keys(start, start_after=after)), None)) is not None:
        uid = uid_of_key(info.key, prefix)
        if uid is None:
            break
        found.append(uid)
        after = (
            f"{projects_prefix(prefix)}{uid}0"  # "0" comes right after "/": past everything of this project
        )
    return found


def ask(clients: Clients, given: str, format: object, tasks: object, by: str) -> View:
    """Ask for an export of what is in the bucket now. The same content gives the same export.

    Raises SenderError for a format there is not or that does not fit, NotFound for a project the bucket does not know."""
    wanted, which = rules.find_format(format), rules.check_tasks(tasks)
    uid = uid_of(clients, given)
    _check_fits(clients, wanted, uid)
    layout = layout_of(clients, uid)
    with clients.redis_says() as connection:
        source = registry.newest_source(clients.store, connection, layout)
        order = registry.order_of(layout, wanted.name, which, source)
        return registry.ask(connection, clients.store, layout, order, by, datetime.now(UTC))


def _check_fits(clients: Clients, format: Format, uid: str) -> None:
    """Say at once what the worker would say later, if Label Studio can be asked; the worker looks into the record."""
    if not format.needs:
        return
    try:
        project = find_project(clients.label_studio, uid.partition(".")[0])
        if project.uid != uid:
            return
        label_config = clients.label_studio.get(f"/api/projects/{project.id}").get("label_config") or ""
    except BridgeError:
        return
    rules.check_fits(format, parse_config(label_config))


def look(clients: Clients, export_id: str) -> View:
    """How one export is. Without Redis, those that are whole. Raises SenderError or NotFound."""
    layout = layout_of(clients, uid_of_export(export_id))
    manifest = registry.read_manifest(clients.store, layout, export_id)
    if manifest is not None:
        return registry.look(None, clients.store, layout, export_id)
    with clients.redis_says() as connection:
        return registry.look(connection, clients.store, layout, export_id)


def listed(clients: Clients, given: str) -> list[View]:
    """The newest hundred exports of a project, the newest first."""
    layout = layout_of(clients, uid_of(clients, given))
    with clients.redis_says() as connection:
        return registry.listed(connection, clients.store, layout)


def wait(
    clients: Clients,
    export_id: str,
    *,
    wait_s: float = WAIT_S,
    say: Callable[[View], None] = lambda view: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> View:
    """Until the export is whole. Raises Unavailable when it has failed or `wait_s` have passed."""
    deadline = clock() + wait_s
    while True:
        view = look(clients, export_id)
        say(view)
        if view.state == "complete":
            return view
        if view.state == "failed":
            raise Unavailable(f"the export failed: {view.message}")
        if clock() >= deadline:
            why = f": {view.message}" if view.message else ""
            raise Unavailable(
                f"the export {export_id} is {view.state} after {wait_s:.0f} s{why}",
                hint="is a worker of the queue `exports` running? `python -m sidecar jobs list` shows what waits",
            )
        sleep(0.3)


def file_of(view: View, name: str) -> File:
    """Raises SenderError while the export is not whole, NotFound when it has no such file."""
    if view.manifest is None:
        why = f": {view.message}" if view.message else ""
        raise SenderError(
            f"the export {view.id} is {view.state}{why}; its files are there when it is complete"
        )
    file = view.manifest.file(name)
    if file is None:
        names = ", ".join(one.name for one in view.manifest.files)
        raise NotFound(f"the export {view.id} has no file {name!r}: it has {names}")
    return file


def fetch(clients: Clients, file: File, target: Path) -> None:
    """Download one file and compare it with the manifest. Raises Corrupt, leaving nothing behind."""
    clients.store.download(file.key, target)
    digest = hashlib.sha256()
    with target.open("rb") as source:
        while block := source.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != file.sha256:
        target.unlink()
        raise Corrupt(
            f"{file.key} in the bucket is not what the manifest says", hint="ask for the export again"
        )
