"""Carrying the steps out. A step that fails costs only itself: its outcome says why and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from bridge import jobs
from bridge.edges import redis as names
from bridge.errors import BridgeError, NotFound
from bridge.records import format_time
from sidecar.advice import advice
from sidecar.clients import Clients
from sidecar.plan import (
    BASELINE_UNDER_WAY,
    STORAGE,
    Call,
    CannotTell,
    Fine,
    Note,
    Project,
    ReadAgain,
    RemoveHooks,
    StartBaseline,
    Step,
    StopBaseline,
)

if TYPE_CHECKING:
    from bridge.edges.label_studio import LabelStudio

BASELINE_PENDING_MS = 60_000
Result = Literal["done", "kept", "note", "failed", "planned"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a step. `detail` says why it failed and what to do."""

    part: str
    text: str
    result: Result
    detail: str = ""


def failed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.result == "failed"]


def carry_out(
    steps: Sequence[Step], clients: Clients, project: Project, *, dry_run: bool = False
) -> Iterator[Outcome]:
    """Every step's outcome, as it comes. With `dry_run` nothing is changed."""
    for step in steps:
        said: dict[str, Any] = {"part": step.part, "text": step.text}
        if isinstance(step, Fine):
            yield Outcome(**said, result="kept")
        elif isinstance(step, Note):
            yield Outcome(**said, result="note")
        elif isinstance(step, CannotTell):
            yield Outcome(**said, result="failed")
        elif dry_run:
            yield Outcome(**said, result="planned")
        else:
            try:
                _do(step, clients, project)
            except BridgeError as error:
                from_here = bucket_trouble(clients) if step.part == STORAGE else ""
                detail = advice(step.part, str(error), clients.settings, from_here)
                yield Outcome(**said, result="failed", detail=detail)
            else:
                yield Outcome(**said, result="done")


def bucket_trouble(clients: Clients) -> str:
    """What is wrong with the bucket as seen from here; empty when it opens."""
    try:
        clients.check_bucket()
    except BridgeError as error:
        return str(error)
    return ""


def _do(step: Step, clients: Clients, project: Project) -> None:
    if isinstance(step, Call):
        _call(clients.label_studio, step)
    elif isinstance(step, RemoveHooks):
        for hook in clients.label_studio.get("/api/webhooks/", project=project.id):
            if hook["url"] == step.url:
                clients.label_studio.delete(f"/api/webhooks/{hook['id']}/")
    elif isinstance(step, StartBaseline):
        start_baseline(clients, project.uid)
    elif isinstance(step, ReadAgain):
        # A request that comes while one is running has the worker repeat it afterwards.
        with clients.redis_says() as connection:
            clients.enqueue(connection, jobs.baseline(project.uid, "connect"))
    elif isinstance(step, StopBaseline):
        stop_baseline(clients, project.uid)
    else:
        raise TypeError(f"no way to carry out {type(step).__name__}")


def _call(label_studio: LabelStudio, step: Call) -> None:
    try:
        label_studio.request(step.method, step.path, json=step.body)
    except NotFound:
        if step.method != "DELETE":  # Gone already is what was wanted.
            raise


def start_baseline(clients: Clients, uid: str) -> None:
    """Enqueue it from its beginning, marked as queued first: the worker may be faster than we are.

    Raises Unavailable."""
    marks: dict[Any, Any] = {
        "state": "queued",
        "done": 0,
        "updated_at": format_time(datetime.now(UTC)),
        "message": "asked for by connect",
    }
    with clients.redis_says() as connection:
        connection.sadd(names.WANTED, uid)
        connection.hdel(names.baseline(uid), "cursor", "total")
        connection.hset(names.baseline(uid), mapping=marks)
        # So that the scheduler, which looks for lost ones, does not enqueue it a second time.
        connection.set(names.baseline_pending(uid), 1, px=BASELINE_PENDING_MS)
        clients.enqueue(connection, jobs.baseline(uid, "connect"))


def stop_baseline(clients: Clients, uid: str) -> None:
    """Nobody starts it again, and one that is running stops at its next page. Raises Unavailable."""
    with clients.redis_says() as connection:
        connection.srem(names.WANTED, uid)
        connection.srem(names.REREAD, uid)
        state: Any = connection.hget(names.baseline(uid), "state")
        if state and state.decode() in BASELINE_UNDER_WAY:
            connection.hset(
                names.baseline(uid), mapping={"state": "stopped", "message": "stopped by disconnect"}
            )
