"""The files of current/: what stands in them, and where. Pure; workers/current.py writes them, `verify` checks them."""

from __future__ import annotations

import json
from typing import Any

from bridge.keys import CurrentKey, Layout
from bridge.records import format_time
from bridge.state import State, Thing


def document(thing: Thing, *, alive: bool) -> dict[str, Any]:
    """What stands in the file: the annotation as Label Studio's own JSON, and our bookkeeping beside it."""
    record = thing.record
    return {
        "annotation": thing.data,
        "alive": alive,
        "version": None if record is None or record.version is None else format_time(record.version),
        "received_at": None if record is None else format_time(record.received_at),
        "fold": thing.to_json(),
    }


def document_bytes(thing: Thing, *, alive: bool) -> bytes:
    """The file as it is put into the bucket; half an emoji becomes its escape."""
    found = document(thing, alive=alive)
    try:
        return json.dumps(found, ensure_ascii=False, indent=1).encode()
    except UnicodeEncodeError:
        return json.dumps(found, indent=1).encode()


def wanted(state: State, layout: Layout, id: str) -> tuple[str, str, bool]:
    """For an annotation of the state: the key it has in current/, the one it must not have, and whether it shows."""
    thing = state.things["annotation"][id]
    alive = thing.alive and not state.hidden(thing)
    keys = [layout.current(CurrentKey(annotation_id=id, deleted=deleted)) for deleted in (not alive, alive)]
    return keys[0], keys[1], alive
