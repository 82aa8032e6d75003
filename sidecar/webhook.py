"""The door: `POST /webhook`. Checks who is knocking, stamps, writes down, answers 202. Nothing else while Label Studio waits."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable
from datetime import datetime

from flask import Blueprint, Request, request

from bridge import events
from bridge.edges.stream import CONTROL, Entry
from bridge.errors import TooLarge
from sidecar.journal import Journal
from sidecar.metrics import Metrics

log = logging.getLogger(__name__)


def make_blueprint(
    *, journal: Journal, secret: str, max_bytes: int, metrics: Metrics, now: Callable[[], datetime]
) -> Blueprint:
    bp = Blueprint("webhook", __name__)

    @bp.post("/webhook")
    def webhook() -> tuple[dict[str, str], int]:
        began = time.perf_counter()
        events.check_secret(request.headers, secret)
        try:
            body = read_body(request, max_bytes)
        except TooLarge:
            # What it said is not kept, so it is looked up: every connected project is read again.
            note = json.dumps({"action": "TOO_LARGE"}).encode()
            receive(note, journal, metrics, now())
            raise
        answer = receive(body, journal, metrics, now())
        metrics.answered(time.perf_counter() - began)
        return answer, 202

    return bp


def read_body(incoming: Request, max_bytes: int) -> bytes:
    """The body; raises TooLarge. Read in full first: Label Studio must see an answer, not a broken connection."""
    if incoming.content_length is not None and incoming.content_length > max_bytes:
        raise TooLarge(
            f"the webhook has {incoming.content_length} bytes, more than {max_bytes}",
            hint="raise WEBHOOK_MAX_MIB; the connected projects are read again to make up for it",
        )
    return incoming.get_data(cache=False)


def receive(body: bytes, journal: Journal, metrics: Metrics, received_at: datetime) -> dict[str, str]:
    """Stamp and keep one body. Whatever it is, it is kept: in its project's stream, or in the quarantine."""
    event_id = uuid.uuid4().hex
    try:
        envelope = events.read_envelope(body)
    except events.Malformed as error:
        entry = Entry(event_id=event_id, received_at=received_at, source="webhook", action="?", body=body)
        where = journal.quarantine(entry, str(error))
        metrics.heard("unreadable", where)
        log.warning("a webhook could not be read and is in the quarantine: %s", error)
        return {"status": "quarantined", "event_id": event_id, "reason": str(error)}
    entry = Entry(
        event_id=event_id, received_at=received_at, source="webhook", action=envelope.action, body=body
    )
    where = journal.append(envelope.uid or CONTROL, entry)
    metrics.heard(envelope.action, where)
    return {"status": "accepted", "event_id": event_id}
