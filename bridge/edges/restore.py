"""What a restore keeps in the bucket, and the moments that a record can be restored to.

The order lies beside the record that is restored; the report and the map of ids beside the record of the project that
was made. All of it can be written again, and none of it is needed to go on: the restored tasks carry it in their meta.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.edges.history import open_history
from bridge.edges.log import log_keys, newest_key, read_good_lines
from bridge.errors import NotFound, SenderError
from bridge.keys import Layout, projects_prefix, uid_of_key
from bridge.records import Source, format_time
from bridge.restore import Order
from bridge.state import State
from bridge.store import ObjectStore

_TICK = timedelta(microseconds=1)


def write_json(store: ObjectStore, key: str, value: Any) -> None:
    body = json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
    store.put(key, body, content_type="application/json")


def read_json(store: ObjectStore, key: str) -> dict[str, Any] | None:
    """An object, or None where there is none that can be read."""
    try:
        found = json.loads(store.get(key))
    except (NotFound, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_order(store: ObjectStore, layout: Layout, order: Order) -> None:
    write_json(store, layout.restore_order(order.id), order.to_json())


def read_order(store: ObjectStore, layout: Layout, id: str) -> Order | None:
    found = read_json(store, layout.restore_order(id))
    try:
        return None if found is None else Order.from_json(found)
    except (ValueError, KeyError, TypeError):
        return None


def orders(store: ObjectStore, layout: Layout) -> list[Order]:
    """Every restore that was asked for of this record, the newest last."""
    ids = [layout.parse_restore_order(info.key) for info in store.keys(layout.restores_prefix)]
    found = [order for id in ids if id is not None and (order := read_order(store, layout, id)) is not None]
    return sorted(found, key=lambda order: order.asked_at)


def made_uid(store: ObjectStore, layout: Layout, id: str) -> str | None:
    """The uid of the project that a restore made, as noted."""
    found = read_json(store, layout.restore_project(id))
    uid = None if found is None else found.get("uid")
    return uid if isinstance(uid, str) else None


def uids_in_bucket(store: ObjectStore, prefix: str, start: str = "") -> Iterator[str]:
    """The uids of the projects of which the bucket has anything; `start`: those that begin so."""
    root = projects_prefix(prefix)
    after = ""
    while (info := next(iter(store.keys(f"{root}{start}", start_after=after)), None)) is not None:
        uid = uid_of_key(info.key, prefix)
        if uid is None:
            after = info.key
            continue
        yield uid
        after = f"{root}{uid}0"  # "0" comes right after "/": past everything of this project


def read_state(store: ObjectStore, layout: Layout, at: datetime | None) -> tuple[State, list[str]]:
    """The state of a project, and the keys of the log objects of which not every line could be read."""
    with open_history(store, layout, at=at) as history:
        return history.state(), history.unreadable


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A moment of a record, and the state then. `unreadable`: log objects that cannot be read whole."""

    at: datetime
    state: State
    absent_since: datetime | None
    unreadable: list[str]


def moment(store: ObjectStore, layout: Layout, at: datetime | None) -> Moment:
    """The state to restore: at a time, or else the last at which the project was present.

    Raises NotFound where the bucket has no record of the project, SenderError for a time before its first."""
    first = next(iter(log_keys(store, layout)), None)
    newest = newest_key(store, layout)
    parsed = None if newest is None else layout.parse_log(newest.key)
    if first is None or parsed is None:
        raise NotFound(
            f"the bucket has no record of project {layout.uid}",
            hint="`python -m sidecar bucket ls` shows what is there",
        )
    last = datetime.fromtimestamp((parsed.position + 1) / 1000, UTC)
    if at is not None:
        begins = min((record.received_at for record in read_good_lines(store, first.key)[0]), default=at)
        if at < begins:
            raise SenderError(
                f"{format_time(at)} is before the record of project {layout.uid} begins: it goes from "
                f"{format_time(begins)} to {format_time(last)}",
                hint="give a time between the two, or none for the last one",
            )
        state, unreadable = read_state(store, layout, at)
        return Moment(at=at, state=state, absent_since=None, unreadable=unreadable)
    state, unreadable = read_state(store, layout, None)
    absent = state.absent_since
    if absent is None:
        # The door's clock can be ahead of that of the worker who gave the position.
        at = max([last, *_received(state)])
        return Moment(at=at, state=state, absent_since=None, unreadable=unreadable)
    # Whoever still sends webhooks is there, whatever our token was shown; and the door's clock can be ahead of a reader's.
    present = max([absent - _TICK, *_received(state, source="webhook")])
    state, unreadable = read_state(store, layout, present)
    return Moment(at=present, state=state, absent_since=absent, unreadable=unreadable)


def _received(state: State, *, source: Source | None = None) -> Iterator[datetime]:
    """When the records that a state shows were received; with a source, those of it alone."""
    for things in state.things.values():
        for thing in things.values():
            if thing.deleted_at is not None and source in (None, "webhook"):
                yield thing.deleted_at  # by webhook: ours name what they end, but for views
            for life in thing.incarnations.values():
                if life.newest is not None and source in (None, life.newest.source):
                    yield life.newest.received_at
                if life.gone_at is not None and source is None:
                    yield life.gone_at
