"""The projects that the bucket holds a record of, found without Label Studio and without Redis."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from bridge.edges.log import log_keys
from bridge.edges.verify_log import in_order
from bridge.errors import NotFound, SenderError
from bridge.keys import Layout, projects_prefix, uid_of_key
from bridge.records import Record, format_time
from bridge.state import State
from bridge.store import ObjectStore
from sidecar.clients import Clients

_ELSEWHERE = re.compile(r"(?:(.*)/)?projects/[0-9]{1,19}\.[0-9]{1,12}/")
_LOOKED_AT = 1000  # objects, when the prefix holds nothing


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One project in the bucket. `absent_since`: since when Label Studio is known not to have it."""

    uid: str
    title: str
    absent_since: str | None
    log_objects: int
    objects: int
    size_bytes: int
    newest_position: int | None
    newest_at: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def uids(clients: Clients) -> Iterator[str]:
    """Every project under our prefix; one short listing each."""
    start = projects_prefix(clients.settings.s3.bucket_prefix)
    after = ""
    while (info := next(iter(clients.store.keys(start, start_after=after)), None)) is not None:
        uid = uid_of_key(info.key, clients.settings.s3.bucket_prefix)
        if uid is None:
            after = info.key  # something that is not ours
            continue
        yield uid
        after = f"{start}{uid}0"  # "0" comes right after "/": past everything of this project


def find_uid(clients: Clients, given: str) -> str:
    """A project of the bucket by uid, id or title. Of several projects that had an id one after the other, the newest.

    Raises NotFound, naming those there are, and SenderError when several have the title."""
    there = list(uids(clients))
    if given in there:
        return given
    same_id = [uid for uid in there if uid.partition(".")[0] == given]
    if same_id:
        return max(same_id, key=lambda uid: int(uid.partition(".")[2]))
    titles = {uid: project_of(clients, uid)[0] for uid in there}
    called = [uid for uid, title in titles.items() if title and title == given]
    called = called or [uid for uid, title in titles.items() if title.casefold() == given.casefold()]
    if len(called) > 1:
        raise SenderError(f"{len(called)} projects are called {given!r}: give one of {', '.join(called)}")
    if not called:
        raise _no_such(clients, given, titles)
    return called[0]


def _no_such(clients: Clients, given: str, titles: dict[str, str]) -> NotFound:
    s3 = clients.settings.s3
    place = f"s3://{s3.bucket}/{projects_prefix(s3.bucket_prefix)}"
    if titles:
        names = ", ".join(f"{uid} ({title})" if title else uid for uid, title in titles.items())
        return NotFound(f"there is no record of {given!r} under {place}", hint=f"there are: {names}")
    return NotFound(f"there is no record of any project under {place}", hint=_hint(clients))


def _hint(clients: Clients) -> str:
    """What to do when nothing is under our prefix: records may lie under another one."""
    found = set()
    for info in islice(clients.store.keys(), _LOOKED_AT):
        if match := _ELSEWHERE.match(info.key):
            found.add(match[1] or "")
    if not found:
        return "check BUCKET and BUCKET_PREFIX; `python -m sidecar connect PROJECT` begins a record"
    names = " or ".join(repr(prefix) for prefix in sorted(found))
    return f"the bucket has records with BUCKET_PREFIX {names}"


def layout_of(clients: Clients, uid: str) -> Layout:
    return Layout(uid, clients.settings.s3.bucket_prefix)


def look(clients: Clients, uid: str) -> Recorded:
    """Reads the project's part of the listing, and of the log the lines about the project itself."""
    layout = layout_of(clients, uid)
    objects = size_bytes = log_objects = 0
    newest: int | None = None
    for info in clients.store.keys(layout.root):
        objects, size_bytes = objects + 1, size_bytes + info.size_bytes
        if (key := layout.parse_log(info.key)) is not None:
            log_objects, newest = log_objects + 1, key.position
    title, absent_since = project_of(clients, uid)
    return Recorded(
        uid=uid,
        title=title,
        absent_since=None if absent_since is None else format_time(absent_since),
        log_objects=log_objects,
        objects=objects,
        size_bytes=size_bytes,
        newest_position=newest,
        newest_at=None if newest is None else format_time(datetime.fromtimestamp(newest / 1000, UTC)),
    )


def project_of(clients: Clients, uid: str) -> tuple[str, datetime | None]:
    """(title or "", since when it is absent) as the log says, whatever is damaged in it."""
    store, layout = clients.store, layout_of(clients, uid)
    state = State()
    keys = [info.key for info in log_keys(store, layout)]
    for body in in_order(keys, lambda key: _body(store, key)):
        for line in body.splitlines():
            if not line.startswith(b'{"kind":"project"'):
                continue
            try:
                state.add(Record.from_json(line))
            except ValueError:
                continue
    thing = next(iter(state.things.get("project", {}).values()), None)
    title = "" if thing is None else thing.data.get("title")
    return title if isinstance(title, str) else "", state.absent_since


def _body(store: ObjectStore, key: str) -> bytes:
    try:
        return store.get(key)
    except NotFound:
        return b""
