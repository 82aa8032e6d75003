"""The bodies that could not be read, for a person to look at. Read only."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from bridge.edges import stream
from bridge.edges.stream import Quarantined
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


def newest(clients: Clients, count: int = 100) -> list[Quarantined]:
    """The newest entries first. Raises Unavailable."""
    with clients.redis_says() as connection:
        return stream.quarantined(connection, count)


def one(clients: Clients, id: str) -> Quarantined:
    """One entry. Raises NotFound, Unavailable."""
    with clients.redis_says() as connection:
        size = stream.quarantine_size(connection)
        found = [item for item in stream.quarantined(connection, max(size, 1)) if item.stream_id == id]
    if not found:
        raise NotFound(
            f"the quarantine has no entry {id!r}", hint="`python -m sidecar quarantine list` shows them"
        )
    return found[0]
