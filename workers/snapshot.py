"""snapshots/: the state of a project as tables, so that a reader needs one snapshot and the rest of the log, not all of it.

A snapshot is the one before with what the log says since: objects are folded in passes of PASS_BYTES, and each pass copies
the rows it does not touch. The manifest is put last; a run that is killed leaves files that nobody takes for a snapshot,
and the next one takes a position of its own. Memory: some 410 MiB, whatever the length of the log (docs/tables.md).
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from bridge import jobs
from bridge.edges import queue, snapshots, stream
from bridge.edges import redis as names
from bridge.edges.lines import Line
from bridge.edges.log import log_keys, parse_object
from bridge.errors import NotFound
from bridge.keys import Layout, LogKey, SnapshotKey
from bridge.records import format_time, parse_time
from bridge.snapshots import (
    FOLDED,
    LEFT_BEHIND,
    MANIFEST,
    STILL_READ,
    File,
    Manifest,
    thinned,
)
from bridge.state import State
from bridge.store import ObjectInfo, ObjectStore
from bridge.tables import content_rules, file_stem
from workers import context
from workers.kept_lock import held
from workers.progress import Reporter

if TYPE_CHECKING:
    from bridge.edges.folded import Folded

log = logging.getLogger(__name__)
LOCK_TTL_S = 120
PASS_BYTES = 16 * 1024 * 1024
PAUSE_S = 600  # a project's snapshots are made at most every ten minutes …
SHARE = 20  # … and take at most a twentieth of the time of one worker
REMOVED = "removed.json"  # since when a snapshot's manifest is gone


def make(uid: str) -> None:
    """Make a snapshot of the log as it is now, and thin out the old ones. Returns at once when another worker is at it,
    or when the newest snapshot has everything in it. Raises LockLost when another worker may have taken over."""
    here = context.current()
    with held(here.redis, names.snapshot_lock(uid), ttl_s=LOCK_TTL_S) as lock:
        if lock is None:
            log.info("another worker is at the snapshot of %s", uid)
            return
        began = time.monotonic()
        counted = int(here.redis.hget(names.snapshot(uid), "records") or 0)
        newest = here.redis.get(names.last_key(uid)) or b""
        made = Snapshot(here.store, here.layout(uid), beat=lock, now=here.now).run()
        here.redis.hincrby(names.snapshot(uid), "records", -counted)
        here.redis.hset(
            names.snapshot(uid),
            mapping={
                "at": format_time(here.now()),
                "newest": newest,
                "pause_s": max(PAUSE_S, int(SHARE * (time.monotonic() - began))),
            },
        )
        if made is not None:
            log.info("snapshot %d of %s is whole: %s", made.position, uid, made.rows())
        thin(here, here.layout(uid), lock)


def sweep(here: context.Context) -> list[str]:
    """Enqueue a snapshot of every project whose log has grown by SNAPSHOT_EVERY_RECORDS, or at all when the last one is
    SNAPSHOT_EVERY_HOURS old. Returns the uids."""
    found = []
    for uid in stream.uids(here.redis):
        newest = here.redis.get(names.last_key(uid))
        said = {name.decode(): value for name, value in here.redis.hgetall(names.snapshot(uid)).items()}
        if newest is None or newest == said.get("newest") or here.redis.exists(names.snapshot_lock(uid)):
            continue
        if not _due(here, said):
            continue
        if here.redis.set(names.snapshot_pending(uid), 1, nx=True, ex=PAUSE_S):
            queue.enqueue(here.redis, jobs.snapshot(uid))
            found.append(uid)
    return found


def _due(here: context.Context, said: dict[str, bytes]) -> bool:
    settings = here.settings
    last = parse_time(said["at"].decode()) if "at" in said else None
    age = None if last is None else here.now() - last
    if age is not None and timedelta(0) <= age < timedelta(seconds=int(said.get("pause_s", PAUSE_S))):
        return False
    every = settings.snapshot_every_records
    if every and int(said.get("records", 0)) >= every:
        return True
    hours = settings.snapshot_every_hours
    if not hours:
        return False
    return age is None or not timedelta(0) <= age < timedelta(hours=hours)


class Snapshot:
    """One run, under the lock."""

    def __init__(
        self, store: ObjectStore, layout: Layout, *, beat: Callable[..., None], now: Callable[[], datetime]
    ) -> None:
        self._store, self._layout, self._beat, self._now = store, layout, beat, now

    def run(self) -> Manifest | None:
        """The manifest of the new snapshot, or None when the newest one has everything in it."""
        # Here, not above: the worker of another queue does not need the 60 MB that pyarrow takes.
        from bridge.edges.folded import Entry, Folded, FoldedWriter
        from bridge.edges.tables import microseconds, moment
        from workers.snapshot_tables import Tables

        with tempfile.TemporaryDirectory(prefix="snapshot-") as name:
            folder = Path(name)
            previous, paths = self._previous(folder)
            before = paths.pop(FOLDED, None)
            folded, tables = FoldedWriter(before), Tables(folder, paths, self._beat)
            named = None if before is None else Folded(before)
            report = Reporter("log objects", total=None, now=self._now)
            newest_key = "" if previous is None else previous.newest_key
            baseline = None if previous is None else previous.baseline_completed_at
            done, changed, last_key = 0, False, ""
            for part in _passes(self._store, self._layout, named):
                state = State(baseline_completed_at=baseline)
                for info, key, is_new in part:
                    self._beat()
                    report(done := done + 1)
                    times = self._read(info, state)
                    changed = changed or is_new or times is not None
                    last_key = max(last_key, info.key)
                    newest_key = newest_key if times is None else max(newest_key, info.key)
                    folded.add(
                        Entry(
                            key=key,
                            read=times is not None,
                            received_from=microseconds(min(times or [], default=None)),
                            received_to=microseconds(max(times or [], default=None)),
                        )
                    )
                baseline = state.baseline_completed_at
                tables.fold_in(state)
            if not changed:
                return None
            path = folder / f"{FOLDED}.parquet"
            read, unreadable, first, last = folded.write(path)
            position = self._position(max(newest_key, last_key))
            files = [
                self._upload(position, table, file_stem(table), tables.paths[table], tables.rows(table))
                for table in sorted(tables.paths)
            ]
            manifest = Manifest(
                uid=self._layout.uid,
                position=position,
                previous=None if previous is None else previous.position,
                newest_key=newest_key,
                log_objects=read,
                unreadable=unreadable,
                received_from=moment(first),
                received_to=moment(last),
                baseline_completed_at=baseline,
                content_rules=content_rules(),
                files=(*files, self._upload(position, FOLDED, FOLDED, path, read + unreadable)),
                created_at=self._now(),
            )
            self._beat(now=True)  # whoever lost the lock puts no manifest
            self._put_manifest(manifest)
            return manifest

    def _previous(self, folder: Path) -> tuple[Manifest | None, dict[str, Path]]:
        """The newest snapshot that is what its manifest says, with all its files, or nothing to begin with."""
        for manifest in snapshots.manifests(self._store, self._layout):
            tables = {file.table for file in manifest.files}
            try:
                return manifest, snapshots.fetch(self._store, self._layout, manifest, folder, tables)
            except snapshots.Unusable as error:
                log.error(
                    "the snapshot %d of %s is passed over: %s", manifest.position, self._layout.uid, error
                )
        return None, {}

    def _read(self, info: ObjectInfo, state: State) -> list[datetime] | None:
        """Fold one log object; when its records were received, or None when it cannot be read.

        Of a damaged one nothing goes into the tables: whoever reads folds its good lines from the log, and when a person
        has mended it, nothing that the damage said is left in a snapshot."""
        try:
            lines = parse_object(self._store, info.key, Line.read)
        except (ValueError, NotFound) as error:
            log.error("the snapshot leaves a log object to its readers: %s", error)
            return None
        for line in lines:
            state.add(line)
            line.let_go()
        return [line.received_at for line in lines]

    def _position(self, newest_key: str) -> int:
        """That of the newest log object, or a later one that no snapshot, whole or not, has had."""
        parsed = self._layout.parse_log(newest_key)
        taken = snapshots.positions(self._store, self._layout)[1]
        return max(0 if parsed is None else parsed.position, taken[-1] + 1 if taken else 0)

    def _upload(self, position: int, table: str, stem: str, path: Path, rows: int) -> File:
        name = f"{stem}.parquet"
        self._beat()
        self._store.upload(
            self._layout.snapshot(SnapshotKey(position=position, name=name)),
            path,
            content_type="application/vnd.apache.parquet",
        )
        return File(
            table=table,
            name=name,
            size_bytes=path.stat().st_size,
            sha256=snapshots.sha256_of(path),
            rows=rows,
        )

    def _put_manifest(self, manifest: Manifest) -> None:
        key = self._layout.snapshot(SnapshotKey(position=manifest.position, name=MANIFEST))
        self._store.put(key, manifest.to_json(), content_type="application/json")


def _passes(
    store: ObjectStore, layout: Layout, named: Folded | None
) -> Iterator[list[tuple[ObjectInfo, LogKey, bool]]]:
    """The log objects that are not in the snapshot before, PASS_BYTES at a time; whether each is new to it, or was there
    and could not be read. The whole log is listed: an object can have come with an old position."""
    part: list[tuple[ObjectInfo, LogKey, bool]] = []
    size = 0
    for info in log_keys(store, layout):
        key = layout.parse_log(info.key)
        entry = None if named is None or key is None else named.find(key)
        if key is None or (entry is not None and entry.read):
            continue
        if part and size + info.size_bytes > PASS_BYTES:
            yield part
            part, size = [], 0
        part.append((info, key, entry is None))
        size += info.size_bytes
    if part:
        yield part


def thin(here: context.Context, layout: Layout, beat: Callable[[], None]) -> None:
    """Remove the snapshots that SNAPSHOT_KEEP_DAYS does not keep: the manifest first, so that nobody begins to read it, the
    files some hours later, when nobody reads them any more. And what dead jobs have left behind."""
    store, now = here.store, here.now()
    whole, some = snapshots.positions(store, layout)
    for position in thinned(whole, now, keep_days=here.settings.snapshot_keep_days):
        beat()
        if snapshots.manifest_at(store, layout, position) is None:
            continue  # another version of us wrote it: not ours to remove
        store.put(layout.snapshot(SnapshotKey(position=position, name=REMOVED)), b"{}")
        store.delete(layout.snapshot(SnapshotKey(position=position, name=MANIFEST)))
        log.info("the snapshot %d of %s is thinned out", position, layout.uid)
    for position in sorted({*some} - {*whole}):
        beat()
        found = list(store.keys(f"{layout.snapshots_prefix}{position:013d}/"))
        marks = [info for info in found if info.key.endswith(f"/{REMOVED}")]
        since = max(info.last_modified for info in (marks or found))
        if now - since > (STILL_READ if marks else LEFT_BEHIND):
            for info in sorted(found, key=lambda info: info in marks):
                store.delete(info.key)
