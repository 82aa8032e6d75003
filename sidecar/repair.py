"""What `archive verify --repair` does: have the derived parts made again. Nothing here touches the log.

What is damaged is removed where its maker would believe it, and the maker is asked; what is not damaged stays.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from redis import Redis

from bridge import jobs
from bridge.edges import exports as export_registry
from bridge.edges import redis as names
from bridge.errors import BridgeError, OutsideError, TooLarge, Unavailable
from bridge.export_manifest import Manifest
from bridge.keys import Layout
from bridge.reconcile import FULL
from bridge.records import format_time
from bridge.state import State
from bridge.verify import Problem, Repair, Report
from sidecar.clients import Clients
from sidecar.recorded import layout_of

LOCK_TTL_S = 120
LOCK_WAIT_S = 30
_MEDIA_A_JOB = 100


def repair(clients: Clients, report: Report) -> Iterator[str]:
    """Ask for everything that can be made again, one part after the other; yields what was done, in words.

    Raises Unavailable when Redis does not answer: jobs are asked for there."""
    layout = layout_of(clients, report.uid)
    by_part: dict[Repair, list[Problem]] = {}
    for problem in report.problems:
        by_part.setdefault(problem.repair, []).append(problem)
    with clients.redis_says() as connection:
        for part, make in _MAKERS.items():
            if part in by_part:
                yield from make(clients, connection, layout, by_part[part])


def _current(clients: Clients, connection: Redis, layout: Layout, problems: list[Problem]) -> Iterator[str]:
    """Wrong files go, and the job begins at the log's beginning: it joins what it finds with what it reads."""
    with _held(connection, names.current_lock(layout.uid)):
        for problem in problems:
            if problem.what != "missing" and layout.parse_current(problem.where) is not None:
                clients.store.delete(problem.where)
        connection.delete(names.current_cursor(layout.uid))
    clients.enqueue(connection, jobs.current(layout.uid))
    yield f"current/: {len(problems)} files are made again from the log"


def _metrics(clients: Clients, connection: Redis, layout: Layout, problems: list[Problem]) -> Iterator[str]:
    for problem in problems:
        if layout.parse_metrics_rows(problem.where) is not None:
            clients.store.delete(problem.where)
    connection.delete(names.metrics_cursor(layout.uid))
    clients.enqueue(connection, jobs.metrics(layout.uid))
    yield "metrics/: made again from the log"


def _media(clients: Clients, connection: Redis, layout: Layout, problems: list[Problem]) -> Iterator[str]:
    """A copy with wrong content is replaced when Label Studio still has the very file; a missing one is copied by the
    job that copies uploads."""
    paths = [problem.where for problem in problems if problem.what == "missing"]
    for start in range(0, len(paths), _MEDIA_A_JOB):
        some = paths[start : start + _MEDIA_A_JOB]
        connection.hdel(names.media(layout.uid), *some)
        clients.enqueue(connection, jobs.media(layout.uid, some))
    if paths:
        yield f"media/: {len(paths)} files are copied from Label Studio again, if it still has them"
    damaged = [problem.where for problem in problems if problem.what != "missing"]
    state = _recorded_media(clients, layout) if damaged else State()
    for path in damaged:
        thing = state.thing("media", path)
        said = {} if thing is None else thing.data
        try:
            with tempfile.TemporaryDirectory(prefix="media-") as folder:
                target = Path(folder) / "file"
                limit = max(int(said["size_bytes"]), 1)
                got = clients.label_studio.download(path, target, max_bytes=limit)
                if got.sha256 != said["sha256"]:
                    yield f"media/: {path} is another file in Label Studio now; the copy stays as it is"
                    continue
                clients.store.upload(said["key"], target, content_type=got.content_type)
                yield f"media/: {path} was copied again"
        except TooLarge:
            yield f"media/: {path} is another file in Label Studio now; the copy stays as it is"
        except (BridgeError, KeyError) as error:
            yield f"media/: {path} cannot be copied again: {error}"


def _recorded_media(clients: Clients, layout: Layout) -> State:
    from bridge.edges.log import read_records

    state = State()
    for record in read_records(clients.store, layout):
        if record.kind == "media":
            state.add(record)
    return state


def _snapshots(clients: Clients, connection: Redis, layout: Layout, problems: list[Problem]) -> Iterator[str]:
    """Without its manifest a snapshot is none: readers take the one before, or the log."""
    manifests = _manifests(clients, problems)
    clients.enqueue(connection, jobs.snapshot(layout.uid))
    yield f"snapshots/: {len(manifests)} are no longer read; a new one is made from the log"


def _exports(clients: Clients, connection: Redis, layout: Layout, problems: list[Problem]) -> Iterator[str]:
    """Made again of the same log object, where their manifest still says which it was."""
    again = []
    for key in dict.fromkeys(problem.manifest for problem in problems):
        try:
            again.append(Manifest.from_json(json.loads(clients.store.get(key))))
        except (OutsideError, ValueError, KeyError, TypeError, AttributeError):
            pass  # unreadable: nobody can tell what was asked for
    removed = _manifests(clients, problems)
    now = format_time(datetime.now(UTC))
    yield f"exports/: {len(removed)} are no longer listed"
    for manifest in again:
        connection.hdel(names.export_contents(layout.uid), manifest.content_sha256)
        try:
            source, tasks = str(manifest.source["log_key"]), str(manifest.options["tasks"])
            order = export_registry.order_of(layout, manifest.format, tasks, source)
            request = export_registry.Request(order=order, asked_by="archive verify", asked_at=now)
            export_registry.note(connection, order.id, request)
            export_registry.enqueue(connection, request)
        except (BridgeError, ValueError, KeyError) as error:
            yield f"exports/: {manifest.export_id} cannot be asked for again: {error}"
            continue
        yield f"exports/: {order.id} is made again"


def _manifests(clients: Clients, problems: list[Problem]) -> list[str]:
    """Remove the manifests that name something damaged; their files stay for whoever needs what is left of them."""
    keys = list(dict.fromkeys(problem.manifest for problem in problems if problem.manifest))
    for key in keys:
        clients.store.delete(key)
    return keys


def _reconcile(clients: Clients, connection: Redis, layout: Layout, problems: list[Problem]) -> Iterator[str]:
    clients.enqueue(connection, jobs.reconcile(layout.uid, FULL))
    yield f"{len(problems)} differences from Label Studio: a full reconcile is asked for"


class _held:
    """A job's lock, so that no run of it undoes what is done meanwhile."""

    def __init__(self, connection: Redis, name: str) -> None:
        self._lock = connection.lock(name, timeout=LOCK_TTL_S)

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=True, blocking_timeout=LOCK_WAIT_S):
            raise Unavailable("a worker is making current/ just now", hint="try again in a minute")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_Maker = Callable[[Clients, Redis, Layout, list[Problem]], Iterator[str]]
_MAKERS: dict[Repair, _Maker] = {
    "snapshots": _snapshots,
    "current": _current,
    "metrics": _metrics,
    "media": _media,
    "exports": _exports,
    "reconcile": _reconcile,
}
