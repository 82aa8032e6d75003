"""A project's state and its log as lines of JSON, for `archive dump` and `archive log`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from bridge.edges.log import log_keys
from bridge.edges.verify_log import in_order
from bridge.errors import NotFound
from bridge.keys import LogKey
from bridge.records import KINDS, Record, format_time
from bridge.state import State, Thing
from bridge.store import ObjectInfo
from bridge.verify import read_log_object
from sidecar.clients import Clients
from sidecar.recorded import layout_of

# How far a record's time at the door and its place in the log may be apart: the log was behind, or a clock was.
_SLACK = timedelta(days=1)


def records(
    clients: Clients, uid: str, *, since: datetime | None = None
) -> Iterator[tuple[str, Record | str]]:
    """(key of the object, record) for every record of the log in its order; for what is damaged, how, in words."""
    layout = layout_of(clients, uid)
    after = ""
    if since is not None:
        position = max(0, int((since - _SLACK).timestamp() * 1000))
        after = layout.log(LogKey(position=position, sha="0" * 16))

    def fetch(info: ObjectInfo) -> bytes | None:
        try:
            return clients.store.get(info.key)
        except NotFound:
            return None

    infos = list(log_keys(clients.store, layout, after=after))
    for info, body in zip(infos, in_order(infos, fetch), strict=True):
        key = layout.parse_log(info.key)
        if body is None or key is None:
            yield info.key, "was listed, and is gone"
            continue
        content = read_log_object(info, key, body)
        for problem in content.problems:
            yield info.key, problem.words
        for record in content.records:
            yield info.key, record


def dumped(state: State, kinds: tuple[str, ...], *, all_things: bool) -> Iterator[str]:
    """One line a thing. `kinds`: only those; none: all of them. `all_things`: deleted and hidden ones, too."""
    for kind in sorted(state.things.keys() & set(kinds) if kinds else state.things, key=_kind_order):
        for id, thing in sorted(state.things[kind].items(), key=lambda item: _id_order(item[0])):
            hidden = state.hidden(thing)
            if all_things or (thing.alive and not hidden):
                yield _thing_line(kind, id, thing, hidden)


def _thing_line(kind: str, id: str, thing: Thing, hidden: bool) -> str:
    record = thing.record
    created_at = None if record is None else record.created_at
    version = None if record is None else record.version
    return line(
        {
            "kind": kind,
            "id": id,
            "created_at": None if created_at is None else format_time(created_at),
            "alive": thing.alive,
            "hidden": hidden,
            "version": None if version is None else format_time(version),
            "data": thing.data,
        }
    )


def _kind_order(kind: str) -> tuple[int, str]:
    return (KINDS.index(kind) if kind in KINDS else len(KINDS), kind)


def _id_order(id: str) -> tuple[int, int, str]:
    return (0, int(id), "") if id.isascii() and id.isdigit() else (1, 0, id)


def line(fields: Any, *, indent: int | None = None) -> str:
    """JSON, on one line unless indented; half an emoji, which is no UTF-8, as its escape."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(fields, ensure_ascii=False, indent=indent, separators=separators)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(fields, indent=indent, separators=separators)
    return text
