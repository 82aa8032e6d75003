"""The bodies that could not be read: for a person to look at, and to read again once they can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from bridge import events
from bridge.edges import stream
from bridge.edges.stream import CONTROL, Quarantined
from bridge.errors import NotFound
from sidecar.clients import Clients
from sidecar.plan import Json


@dataclass(frozen=True, kw_only=True)
class Line:
    """A body we could not read, without the body: it may hold a secret."""

    id: str
    received_at: datetime
    source: str
    action: str
    size_bytes: int
    reason: str

    @classmethod
    def of(cls, item: Quarantined) -> Line:
        return cls(
            id=item.stream_id,
            received_at=item.entry.received_at,
            source=item.entry.source,
            action=item.entry.action,
            size_bytes=len(item.entry.body),
            reason=item.reason,
        )

    def to_json(self) -> Json:
        return dataclasses.asdict(self) | {"received_at": self.received_at.isoformat()}


@dataclass(frozen=True, kw_only=True)
class Retried:
    """What came of reading a body again: the project in whose stream it is now, or why it stays."""

    id: str
    uid: str = ""
    reason: str = ""


def newest(clients: Clients, count: int = 100) -> list[Quarantined]:
    """The newest entries first. Raises Unavailable."""
    with clients.redis_says() as connection:
        return stream.quarantined(connection, count)


def one(clients: Clients, id: str) -> Quarantined:
    """One entry. Raises NotFound, Unavailable."""
    with clients.redis_says() as connection:
        found = stream.quarantined_one(connection, id)
    if found is None:
        raise NotFound(
            f"the quarantine has no entry {id!r}", hint="`python -m sidecar quarantine list` shows them"
        )
    return found


def all_ids(clients: Clients) -> list[str]:
    """Oldest first. Raises Unavailable."""
    with clients.redis_says() as connection:
        return stream.quarantined_ids(connection)


def place_of(item: Quarantined) -> str:
    """The stream an entry belongs to, read by the present code. Raises Malformed when it still cannot be read."""
    entry = item.entry
    uid = events.read_envelope(entry.body).uid or item.uid or CONTROL
    events.records_of(entry.body, event_id=entry.event_id, received_at=entry.received_at, source=entry.source)
    return uid


def retry(clients: Clients, ids: Iterable[str]) -> Iterator[Retried]:
    """Read each body again, and put what can be read back into its project's stream, with the stamp it got at the door.

    In one step with leaving the quarantine: it is never in neither. What still cannot be read stays; so does what the
    drain cannot write, which puts it back. Raises Unavailable."""
    for id in ids:
        try:
            item = one(clients, id)
            uid = place_of(item)
        except (NotFound, events.Malformed) as error:
            yield Retried(id=id, reason=str(error))
            continue
        action = events.read_envelope(item.entry.body).action
        with clients.redis_says() as connection:
            stream.move_from_quarantine(connection, id, uid, dataclasses.replace(item.entry, action=action))
        yield Retried(id=id, uid=uid)
