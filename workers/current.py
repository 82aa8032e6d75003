"""current/annotations/{id}.json: the newest version of each annotation, for people and simple tools.

Derived from the log and from nothing else, in low priority: a cursor names the newest log object taken in. Each file
carries what the fold needs to go on (`fold`), so an update costs its own annotations, not the history. A deleted
annotation's last version moves to current/deleted/, where a late version of it stays hidden.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import redis

from bridge.current import document, document_bytes
from bridge.edges import redis as names
from bridge.edges.history import open_history
from bridge.edges.log import log_keys, read_good_lines
from bridge.errors import NotFound
from bridge.keys import CurrentKey, Layout
from bridge.state import StateView, Thing
from bridge.store import ObjectStore
from workers import context
from workers.kept_lock import Kept, held

log = logging.getLogger(__name__)
LOCK_TTL_S = 120
OBJECTS_A_STEP = 500


def refresh(uid: str) -> None:
    """Take in every log object after the cursor. Coalesces: one run serves all that was asked for before it began.

    Raises LockLost when another run may have taken over: what was not noted is done again."""
    here = context.current()
    with held(here.redis, names.current_lock(uid), ttl_s=LOCK_TTL_S, wait_s=LOCK_TTL_S) as lock:
        if lock is None:
            return
        here.redis.delete(names.current_pending(uid))
        while _step(here.store, here.redis, here.layout(uid), lock):
            pass


def _step(store: ObjectStore, connection: redis.Redis, layout: Layout, lock: Kept) -> bool:
    """Take in some log objects; False when there are no more."""
    saved = connection.get(names.current_cursor(layout.uid))
    touched: dict[str, Thing] = {}
    newest = ""
    hides = shows = False
    for taken, info in enumerate(log_keys(store, layout, after=saved.decode() if saved else "")):
        if taken == OBJECTS_A_STEP:
            break
        lock()
        for record in read_good_lines(store, info.key)[0]:
            if record.kind == "annotation":
                touched.setdefault(record.id, Thing()).add(record)
            hides = hides or (record.kind == "task" and record.op == "delete")
            shows = shows or (record.kind == "task" and record.observed_at is not None)
        newest = info.key
    if not newest:
        return False
    # A task that was deleted, or found by a reading, hides or shows annotations that no record names. A baseline's first
    # pages show none that a file hides.
    whole = hides or (shows and _has_any(store, layout))
    if not whole:
        for id, thing in touched.items():
            lock()
            whole = not _merge_into(store, layout, id, thing) or whole
    if whole:
        with open_history(store, layout, beat=lock) as state:
            write_all(store, layout, state, beat=lock)
    lock(now=True)  # whoever lost the lock must not set back what another run has noted
    connection.set(names.current_cursor(layout.uid), newest)
    return True


def _has_any(store: ObjectStore, layout: Layout) -> bool:
    return next(iter(store.keys(layout.current_prefix)), None) is not None


def _stored(store: ObjectStore, key: str) -> dict[str, Any] | None:
    try:
        found = json.loads(store.get(key))
    except NotFound:
        return None
    except ValueError:
        log.error("%s is not JSON; it is written anew", key)
        return None
    return found if isinstance(found, dict) else None


def _merge_into(store: ObjectStore, layout: Layout, id: str, fresh: Thing) -> bool:
    """Join what is new into the stored file. False when only the whole state can tell: an annotation that was gone
    seems to live, but its task may be deleted; or somebody has edited the file."""
    thing = Thing()
    was_gone = False
    for deleted in (False, True):
        found = _stored(store, layout.current(CurrentKey(annotation_id=id, deleted=deleted)))
        if found is not None:
            try:
                thing.merge(Thing.from_json(found["fold"]))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.error(
                    "the file of annotation %s is not as we wrote it (%r): it is written anew", id, error
                )
                return False
            was_gone = was_gone or deleted
    thing.merge(fresh)
    if was_gone and thing.alive:
        return False
    _write(store, layout, id, thing, alive=thing.alive)
    return True


def _write(store: ObjectStore, layout: Layout, id: str, thing: Thing, *, alive: bool) -> None:
    """Write first, remove after: dying in between leaves both, which the next merge joins."""
    body = document_bytes(thing, alive=alive)
    here = layout.current(CurrentKey(annotation_id=id, deleted=not alive))
    there = layout.current(CurrentKey(annotation_id=id, deleted=alive))
    store.put(here, body, content_type="application/json")
    if store.head(there) is not None:
        store.delete(there)


def write_all(store: ObjectStore, layout: Layout, state: StateView, *, beat: Callable[[], None]) -> None:
    """Write the file of every annotation that differs from the state: after a task was deleted or found again.

    `beat` is called for each; what it raises ends this, and the next run finds what is left."""
    for id, thing in state.every("annotation"):
        beat()
        alive = thing.alive and not state.hidden(thing)
        found = _stored(store, layout.current(CurrentKey(annotation_id=id, deleted=not alive)))
        if found is None or found != json.loads(json.dumps(document(thing, alive=alive))):
            _write(store, layout, id, thing, alive=alive)
