"""What reconcile remembers in Redis: its repairs, what it holds for a person, what came of a run.

Lists are bounded; losing them loses no data, since every repair is in the log, and the next look finds what is left.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import redis

from bridge.edges import redis as names
from bridge.reconcile import Repair
from bridge.records import format_time

REPAIRS_KEPT = 1000
RESULT_TTL_S = 24 * 3600
_SHOWN = 200


@dataclass(kw_only=True)
class Report:
    """What one run found. `held`: why deletions wait for a person, with their number by kind; {} when none do."""

    uid: str
    depth: str
    mode: str
    state: str = "running"
    message: str = ""
    started_at: str = ""
    finished_at: str = ""
    tasks_compared: int = 0
    requests: int = 0
    absent_since: str = ""
    held: dict[str, Any] = field(default_factory=dict)
    repairs: list[Repair] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, repairs: Iterable[Repair]) -> None:
        """Every one is counted, the first ones are named."""
        for repair in repairs:
            self.counts[f"{repair.kind} {repair.what}"] += 1
            if len(self.repairs) < _SHOWN:
                self.repairs.append(repair)

    def to_json(self) -> dict[str, Any]:
        return {
            "project": self.uid,
            "depth": self.depth,
            "mode": self.mode,
            "state": self.state,
            "message": self.message,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "tasks_compared": self.tasks_compared,
            "requests": self.requests,
            "absent_since": self.absent_since,
            "held": self.held,
            "repaired": self.counts.total(),
            "counts": dict(self.counts),
            "repairs": [repair.to_json() for repair in self.repairs],
        }


def remember(connection: redis.Redis, uid: str, repairs: list[Repair]) -> None:
    """Count the repairs for `/metrics`, and list them, newest first."""
    if not repairs:
        return
    pipe = connection.pipeline(transaction=False)
    for what, count in Counter(repair.what for repair in repairs).items():
        pipe.hincrby(names.COUNTERS, f"reconcile_{what}", count)
    newest = [json.dumps(repair.to_json()) for repair in repairs[-REPAIRS_KEPT:]]
    pipe.lpush(names.repairs(uid), *newest)
    pipe.ltrim(names.repairs(uid), 0, REPAIRS_KEPT - 1)
    pipe.execute()


def listed(connection: redis.Redis, uid: str, count: int = 100) -> list[dict[str, str]]:
    """The newest repairs of a project, newest first."""
    found: Any = connection.lrange(names.repairs(uid), 0, count - 1)
    return [{"project": uid} | json.loads(text) for text in found]


def newest(connection: redis.Redis, uids: Iterable[str], count: int = 100) -> list[dict[str, str]]:
    """The newest repairs of several projects, newest first."""
    every = [repair for uid in uids for repair in listed(connection, uid, count)]
    return sorted(every, key=lambda repair: repair["at"], reverse=True)[:count]


def save_result(connection: redis.Redis, token: str, report: Report) -> None:
    if token:
        connection.set(names.reconcile_result(token), json.dumps(report.to_json()), ex=RESULT_TTL_S)


def read_result(connection: redis.Redis, token: str) -> dict[str, Any] | None:
    found: Any = connection.get(names.reconcile_result(token))
    if found is None:
        return None
    result: dict[str, Any] = json.loads(found)
    return result


def hold(connection: redis.Redis, uid: str, held: dict[str, Any]) -> None:
    """Say that deletions wait for a person; {} when none do any more."""
    if held:
        connection.hset(names.reconcile(uid), "held", json.dumps(held))
    else:
        connection.hdel(names.reconcile(uid), "held")


def held_of(connection: redis.Redis, uid: str) -> dict[str, Any]:
    found: Any = connection.hget(names.reconcile(uid), "held")
    result: dict[str, Any] = json.loads(found) if found else {}
    return result


def note_older(connection: redis.Redis, uid: str, reason: str) -> None:
    """Why deletions wait for a person though they are few, found before they were; "" when they do no more."""
    if reason:
        connection.hset(names.reconcile(uid), "older", reason)
    else:
        connection.hdel(names.reconcile(uid), "older")


def older(connection: redis.Redis, uid: str) -> str:
    found: Any = connection.hget(names.reconcile(uid), "older")
    return found.decode() if found else ""


def absent_since(connection: redis.Redis, uid: str) -> str:
    """When Label Studio was found without the project, as text; "" while it is there."""
    found: Any = connection.hget(names.reconcile(uid), "absent_since")
    return found.decode() if found else ""


def note_absent(connection: redis.Redis, uid: str, since: datetime | None) -> None:
    if since is None:
        connection.hdel(names.reconcile(uid), "absent_since")
    else:
        connection.hset(names.reconcile(uid), "absent_since", format_time(since))


def done_at(connection: redis.Redis, uid: str, depth: str) -> str:
    """When a run of this depth ended well, as text; "" when none has."""
    found: Any = connection.hget(names.reconcile(uid), f"{depth}_done_at")
    return found.decode() if found else ""
