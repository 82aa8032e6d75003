"""Looking at a project's snapshots: their files, and with `deep` whether reading from them gives the state of the log."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from bridge import snapshots as rules
from bridge.edges.history import open_history
from bridge.edges.verify_derived import Look, file_problems, source_problems
from bridge.errors import NotFound
from bridge.keys import SnapshotKey
from bridge.state import State, Thing
from bridge.verify import Problem

_NAMED = 5  # things of a state that differs


def snapshots(look: Look) -> Iterator[Problem]:
    """Every file that a manifest names is there, whole. What has no manifest is no snapshot, and not looked at."""
    layout, store = look.layout, look.store
    there = {info.key: info for info in store.keys(layout.snapshots_prefix)}
    newest, sound = "", True
    for key in there:
        parsed = layout.parse_snapshot(key)
        if parsed is None or parsed.name != rules.MANIFEST:
            continue
        found: list[Problem] = []
        try:
            manifest = rules.Manifest.from_json(store.get(key))
        except NotFound:
            continue  # thinned out since it was listed
        except ValueError as error:
            what = "newer" if "a newer version" in str(error) else "unreadable"
            words = f"cannot be read: {error}"
            yield Problem(
                part="snapshots", where=key, what=what, words=words, repair="snapshots", manifest=key
            )
            continue
        for file in manifest.files:
            name = layout.snapshot(SnapshotKey(position=parsed.position, name=file.name))
            said = {"key": name, "size_bytes": file.size_bytes, "sha256": file.sha256}
            found += file_problems(look, "snapshots", key, said, there, "snapshots")
        found += source_problems(look, key, manifest.newest_key, manifest.log_objects)
        yield from found
        newest, sound = key, not found
    # Of a damaged snapshot, or a log that has lost something since, more is said above than the states can tell.
    if look.deep and newest and sound and not look.log_is_damaged and can_read_tables():
        yield from _state(look, newest)


def can_read_tables() -> bool:
    """The sidecar's image is without pyarrow; a worker's has it."""
    return importlib.util.find_spec("pyarrow") is not None


def _state(look: Look, manifest: str) -> Iterator[Problem]:
    """The state as readers have it, from the newest snapshot, beside the fold of all of the log."""
    with open_history(look.store, look.layout, up_to=look.ordered_log_keys[-1]) as history:
        differ = list(_different(look.state, history.state()))
    if differ:
        names = ", ".join(differ[:_NAMED]) + (" …" if len(differ) > _NAMED else "")
        words = f"does not lead to the state of the log: {len(differ)} things differ: {names}"
        yield Problem(
            part="snapshots",
            where=manifest,
            what="differs",
            words=words,
            repair="snapshots",
            manifest=manifest,
        )


def _different(one: State, other: State) -> Iterator[str]:
    for kind in sorted(one.things.keys() | other.things.keys()):
        ours, theirs = one.things.get(kind, {}), other.things.get(kind, {})
        for id in sorted(ours.keys() | theirs.keys()):
            if _said(ours.get(id)) != _said(theirs.get(id)):
                yield f"{kind} {id}"


def _said(thing: Thing | None) -> object:
    return None if thing is None else thing.to_json()
