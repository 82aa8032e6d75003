"""Finding and fetching the snapshots of a project. Needs no pyarrow: looking at a list of them is for the sidecar too."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

from bridge.errors import NotFound
from bridge.keys import Layout, SnapshotKey
from bridge.snapshots import MANIFEST, Manifest
from bridge.store import ObjectStore

log = logging.getLogger(__name__)


class Unusable(ValueError):
    """A snapshot whose files are not what its manifest says: an older one, or the log itself, serves instead."""


def positions(store: ObjectStore, layout: Layout) -> tuple[list[int], list[int]]:
    """The positions with a manifest, and those with some file, each in order."""
    whole, some = set(), set()
    for info in store.keys(layout.snapshots_prefix):
        key = layout.parse_snapshot(info.key)
        if key is not None:
            some.add(key.position)
            if key.name == MANIFEST:
                whole.add(key.position)
    return sorted(whole), sorted(some)


def manifest_at(store: ObjectStore, layout: Layout, position: int) -> Manifest | None:
    """The manifest at a position; None, with a line in the log, where it cannot be read or is another version's."""
    key = layout.snapshot(SnapshotKey(position=position, name=MANIFEST))
    try:
        found = Manifest.from_json(store.get(key))
        if found.position != position or found.uid != layout.uid:
            raise ValueError(f"it speaks of {found.uid} at {found.position}")
    except NotFound:
        return None  # thinned since it was listed
    except ValueError as error:
        log.warning("passed over the snapshot %s: %s", key, error)
        return None
    return found


def manifests(store: ObjectStore, layout: Layout) -> Iterator[Manifest]:
    """Those that this version of us can read, the newest first; each is fetched when it is asked for."""
    for position in reversed(positions(store, layout)[0]):
        found = manifest_at(store, layout, position)
        if found is not None:
            yield found


def fetch(
    store: ObjectStore, layout: Layout, manifest: Manifest, folder: Path, tables: set[str]
) -> dict[str, Path]:
    """Download the files of these tables into a folder. Raises Unusable when one is gone or is not what was written."""
    paths = {}
    for file in manifest.files:
        if file.table not in tables:
            continue
        key = layout.snapshot(SnapshotKey(position=manifest.position, name=file.name))
        path = folder / f"{manifest.position}-{file.name}"
        try:
            store.download(key, path)
        except NotFound as error:
            raise Unusable(f"{key} is gone") from error
        if path.stat().st_size != file.size_bytes or sha256_of(path) != file.sha256:
            raise Unusable(f"{key} is not what was written: its checksum differs")
        paths[file.table] = path
    return paths


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
