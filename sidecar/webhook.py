"""The door: `POST /webhook`. Checks who is knocking, stamps, writes down, answers 202. Nothing else while Label Studio waits."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable
from datetime import datetime

from flask import Blueprint, Request, request
from werkzeug.exceptions import ClientDisconnected

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
            _look_up("TOO_LARGE", journal, metrics, now())
            raise
        except ClientDisconnected:
            _look_up("CUT_SHORT", journal, metrics, now())
            raise
        answer = receive(body, journal, metrics, now())
        metrics.answered(time.perf_counter() - began)
        return answer, 202

    return bp


def read_body(incoming: Request, max_bytes: int) -> bytes:
    """The body; raises TooLarge, and ClientDisconnected when the sender went away before its end."""
    length = incoming.content_length
    body = b"" if (length or 0) > max_bytes else _read(incoming, max_bytes + 1)
    if max(len(body), length or 0) > max_bytes:
        raise TooLarge(
            f"the webhook has {length or f'over {max_bytes}'} bytes, more than {max_bytes}",
            hint="raise WEBHOOK_MAX_MIB; the connected projects are read again to make up for it",
        )
    if len(body) < (length or 0):
        raise ClientDisconnected
    return body


def _read(incoming: Request, most: int) -> bytes:
    """Up to so many bytes: a chunked body says its length only by ending."""
    parts, left = [], most
    while left > 0 and (part := incoming.stream.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _look_up(action: str, journal: Journal, metrics: Metrics, received_at: datetime) -> None:
    """What a webhook said is not kept, so every connected project is read again."""
    receive(json.dumps({"action": action}).encode(), journal, metrics, received_at)


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
