"""metrics/: how the predictions compare with what people made of them (docs/metrics.md).

Derived from the log and from nothing else, in the lowest priority. The rows go into a file named by their content, then
the summary that names it replaces the old one: a reader finds the old pair or the new one, never half of one. The file
of the summary before stays for whoever is reading it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import LockError
from redis.lock import Lock

from bridge import jobs
from bridge.edges import queue, stream
from bridge.edges import redis as names
from bridge.edges.history import open_history
from bridge.errors import NotFound
from bridge.keys import Layout, MetricsRowsKey
from bridge.metrics import Summing, inferences_of, rows_of
from bridge.records import format_time
from bridge.state import StateView
from bridge.store import ObjectStore
from workers import context
from workers.progress import Reporter

log = logging.getLogger(__name__)
LOCK_TTL_S = 60  # below the time after which a killed worker's job is taken up again
BEAT_S = 10.0
PAUSE_S = 60  # a project's metrics are made at most once a minute …
SHARE = 20  # … and take at most a twentieth of the time of one worker


def refresh(uid: str) -> None:
    """Make metrics/ from the log as it is now. Returns at once when another worker is at it: the sweep comes again."""
    here = context.current()
    lock = here.redis.lock(names.metrics_lock(uid), timeout=LOCK_TTL_S)
    if not lock.acquire(blocking=False):
        return
    began = time.monotonic()
    try:
        newest = here.redis.get(names.last_key(uid))
        write(here, uid, lock)
        if newest is not None:
            here.redis.set(names.metrics_cursor(uid), newest)
    finally:
        pause_s = max(PAUSE_S, int(SHARE * (time.monotonic() - began)))
        here.redis.set(names.metrics_pause(uid), 1, ex=pause_s)
        try:
            lock.release()
        except LockError:
            log.warning("the lock of metrics/ of %s ran out before its work was done", uid)


def sweep(connection: redis.Redis) -> list[str]:
    """Enqueue the metrics of every project whose log has grown since they were made. Returns the uids.

    It is the only one to ask for them unasked, so many events cost one run, and the last event is never left out."""
    found = []
    for uid in stream.uids(connection):
        newest = connection.get(names.last_key(uid))
        if newest is None or newest == connection.get(names.metrics_cursor(uid)):
            continue
        waiting = connection.get(names.metrics_job(uid))
        if waiting is not None and queue.is_under_way(connection, waiting.decode()):
            continue
        if connection.set(names.metrics_pause(uid), 1, nx=True, ex=PAUSE_S):
            connection.set(names.metrics_job(uid), queue.enqueue(connection, jobs.metrics(uid)))
            found.append(uid)
    return found


def write(here: context.Context, uid: str, lock: Lock) -> None:
    """Rows first, the summary that names them last, then the rows that nobody needs any more."""
    layout, store = here.layout(uid), here.store
    beat = _Beat(lock)
    report = Reporter("log objects", total=None, now=here.now)
    with open_history(store, layout, beat=beat, report=lambda done, _: report(done)) as state:
        before = _summary(store, layout)
        with tempfile.TemporaryDirectory(prefix="metrics-") as folder:
            path = Path(folder) / "annotations.jsonl"
            summing, sha256, count = _write_rows(state, path, beat)
            key = layout.metrics_rows(MetricsRowsKey(sha=sha256[:16]))
            size_bytes = path.stat().st_size
            there = store.head(key)
            if there is None or there.size_bytes != size_bytes:
                store.upload(key, path, content_type="application/x-ndjson")
        inferences = inferences_of(state)
    summary = {
        "project": uid,
        "position": state.newest_key,
        "baseline_complete": state.baseline_completed_at is not None,
        **summing.to_json(inferences),
        "rows": {"key": key, "count": count, "size_bytes": size_bytes, "sha256": sha256},
    }
    if summary != {name: value for name, value in before.items() if name != "made_at"}:
        body = json.dumps(summary | {"made_at": format_time(here.now())}, ensure_ascii=False, indent=1)
        store.put(layout.metrics_summary, body.encode(), content_type="application/json")
        _remove_old(store, layout, keep={key, before.get("rows", {}).get("key")})


def _write_rows(state: StateView, path: Path, beat: _Beat) -> tuple[Summing, str, int]:
    """What the rows sum up to, the SHA-256 of their file, and how many there are."""
    summing, digest, count = Summing(), hashlib.sha256(), 0
    with path.open("wb") as file:
        for row in rows_of(state):
            beat()
            count += 1
            line = json.dumps(row.to_json(), ensure_ascii=False, separators=(",", ":")).encode(
                errors="backslashreplace"
            )
            digest.update(line + b"\n")
            file.write(line + b"\n")
            summing.add(row)
    return summing, digest.hexdigest(), count


def _summary(store: ObjectStore, layout: Layout) -> dict[str, Any]:
    try:
        found = json.loads(store.get(layout.metrics_summary))
    except (NotFound, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remove_old(store: ObjectStore, layout: Layout, keep: set[str | None]) -> None:
    for info in list(store.keys(layout.metrics_prefix)):
        if layout.parse_metrics_rows(info.key) is not None and info.key not in keep:
            store.delete(info.key)


class _Beat:
    """Keeps a lock while its holder works."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._beaten = time.monotonic()

    def __call__(self) -> None:
        """Raises LockError when the lock was lost: another worker is at it."""
        if time.monotonic() - self._beaten > BEAT_S:
            self._lock.extend(LOCK_TTL_S, replace_ttl=True)
            self._beaten = time.monotonic()
