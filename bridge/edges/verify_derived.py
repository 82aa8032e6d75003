"""Looking at what is derived from a log, to verify it: exports/, current/, media/ and metrics/.

Listings tell most of it: the size of an object, and where the store tells an MD5, its content. With `deep` every object
is read.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from bridge.current import document, document_bytes, wanted
from bridge.errors import NotFound
from bridge.etags import md5_of
from bridge.events import upload_paths
from bridge.export_manifest import Manifest
from bridge.exports import MANIFEST, VERSION
from bridge.keys import Layout
from bridge.state import State
from bridge.store import ObjectInfo, ObjectStore
from bridge.verify import Part, Problem, Repair

_BLOCK = 8 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look at the derived parts needs. `state` and `log_keys` are those of the log as far as it was read."""

    store: ObjectStore
    layout: Layout
    state: State
    log_keys: set[str]
    deep: bool
    log_is_damaged: bool = False

    @cached_property
    def ordered_log_keys(self) -> list[str]:
        return sorted(self.log_keys)


Check = Callable[[Look], Iterator[Problem]]


def current(look: Look) -> Iterator[Problem]:
    """One file an annotation, with what the fold says of it, and no others."""
    there = {info.key: info for info in look.store.keys(look.layout.current_prefix)}
    for id, thing in look.state.things.get("annotation", {}).items():
        key, other, alive = wanted(look.state, look.layout, id)
        if there.pop(other, None) is not None:
            yield _current(other, "unexpected", f"lies there though the annotation is {_life(alive)}")
        info = there.pop(key, None)
        if info is None:
            yield _current(key, "missing", f"is missing: the annotation is {_life(alive)}")
        elif look.deep or info.md5 != md5_of(document_bytes(thing, alive=alive)):
            said = _json(look.store, key)
            if said != json.loads(json.dumps(document(thing, alive=alive))):
                yield _current(key, "differs", "is not what the log says of the annotation")
    for key in there:
        yield _current(key, "unexpected", "belongs to no annotation that the log knows")


def _life(alive: bool) -> str:
    return "there" if alive else "deleted"


def _current(key: str, what: str, words: str) -> Problem:
    return Problem(part="current", where=key, what=what, words=words, repair="current")


def media(look: Look) -> Iterator[Problem]:
    """Every upload that a task names has its copy. Reads the copies with `deep`."""
    store, layout = look.store, look.layout
    there = {info.key: info for info in store.keys(layout.media_prefix)}
    read: dict[str, str] = {}  # key -> SHA-256 of what lies there
    for task in look.state.alive("task"):
        for path in upload_paths(task.data.get("data") or {}):
            thing = look.state.thing("media", path)
            if thing is None or thing.record is None:
                yield _media(path, "missing", "was not copied yet, or Label Studio did not give it")
                continue
            said = thing.data
            info = there.get(str(said.get("key")))
            if info is None:
                yield _media(path, "missing", f"has no copy: {said.get('key')} is gone")
            elif info.size_bytes != said.get("size_bytes"):
                words = f"{info.key} has {info.size_bytes} bytes, not {said.get('size_bytes')}"
                yield _media(path, "size", words)
            elif look.deep:
                if info.key not in read:
                    read[info.key] = sha256_of(store, info) or ""
                if read[info.key] != said.get("sha256"):
                    yield _media(path, "checksum", f"{info.key} is not the file that was copied")


def _media(path: str, what: str, words: str) -> Problem:
    return Problem(part="media", where=path, what=what, words=words, repair="media")


def metrics(look: Look) -> Iterator[Problem]:
    """The summary names a file that is there, and a log object that is there."""
    key = look.layout.metrics_summary
    if look.store.head(key) is None:
        return
    summary = _json(look.store, key)
    rows = summary.get("rows") if isinstance(summary, dict) else None
    if not isinstance(summary, dict) or not isinstance(rows, dict):
        yield Problem(
            part="metrics",
            where=key,
            what="unreadable",
            words="is no summary: it was cut short or edited",
            repair="metrics",
        )
        return
    yield from file_problems(look, "metrics", key, rows, {}, "metrics")
    yield from source_problems(look, key, summary.get("position"), 0)


def exports(look: Look) -> Iterator[Problem]:
    """Every file that a manifest names is there, whole. What has no manifest is no export, and not looked at."""
    layout, store = look.layout, look.store
    there = {info.key: info for info in store.keys(layout.exports_prefix)}
    for key in there:
        parsed = layout.parse_export(key)
        if parsed is None or parsed.name != MANIFEST:
            continue
        fields = _json(store, key)
        try:
            manifest = Manifest.from_json(fields)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            newer = isinstance(fields, dict) and _is_newer(fields.get("version"))
            words = f"is no manifest that this version can read ({type(error).__name__}: {error})"
            yield Problem(
                part="exports",
                where=key,
                what="newer" if newer else "unreadable",
                words=words,
                repair="exports",
                manifest=key,
            )
            continue
        for file in manifest.files:
            said = {"key": file.key, "size_bytes": file.size_bytes, "sha256": file.sha256}
            yield from file_problems(look, "exports", key, said, there, "exports")
        said = manifest.source
        yield from source_problems(look, key, said.get("log_key"), said.get("log_objects"))


def _is_newer(version: Any) -> bool:
    return isinstance(version, int) and version > VERSION


def file_problems(
    look: Look, part: Part, manifest: str, said: dict[str, Any], there: dict[str, ObjectInfo], repair: Repair
) -> Iterator[Problem]:
    """One file that a manifest names: there, as long as it says, and with `deep` with its checksum."""
    key = str(said.get("key"))
    problem = partial(Problem, part=part, where=key, repair=repair, manifest=manifest)
    info = there.get(key) or look.store.head(key)
    if info is None:
        yield problem(what="missing", words=f"is gone; {manifest} names it")
    elif info.size_bytes != said.get("size_bytes"):
        words = f"has {info.size_bytes} bytes; {manifest} says {said.get('size_bytes')}"
        yield problem(what="size", words=words)
    elif look.deep and sha256_of(look.store, info) != said.get("sha256"):
        yield problem(what="checksum", words=f"does not have the checksum that {manifest} says")


def source_problems(look: Look, manifest: str, log_key: Any, count: Any) -> Iterator[Problem]:
    """What was made of a log whose newest object was `log_key`, the last of `count`, tells when the log has lost some
    since: there can only be more by now."""
    if not isinstance(log_key, str) or not log_key:
        return
    if log_key not in look.log_keys:
        words = f"is gone from the log; {manifest} was made of it"
        yield Problem(part="log", where=log_key, what="missing", words=words)
    there = bisect.bisect_right(look.ordered_log_keys, log_key)
    if isinstance(count, int) and there < count:
        words = f"holds {there} objects up to {log_key}; {manifest} was made of {count}: the others are gone"
        yield Problem(part="log", where=look.layout.log_prefix, what="lost", words=words)


def _json(store: ObjectStore, key: str) -> Any:
    """What the object holds; None when it is gone or no JSON."""
    try:
        return json.loads(store.get(key))
    except (NotFound, ValueError):
        return None


def sha256_of(store: ObjectStore, info: ObjectInfo) -> str | None:
    """The SHA-256 of an object of any size, in hex; None when it went away meanwhile."""
    sha = hashlib.sha256()
    try:
        for start in range(0, info.size_bytes, _BLOCK):
            sha.update(store.get_range(info.key, start, _BLOCK))
    except NotFound:
        return None
    return sha.hexdigest()
