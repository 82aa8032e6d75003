"""Files and folders to and from a bucket, for the command line and for notebooks.

    from bridge.edges.s3 import open_store
    from bridge.edges.transfer import download, upload
    from bridge.settings import S3Settings

    store = open_store(S3Settings.from_env(os.environ), "pictures")
    report = upload(store, Path("new-pictures"), "images/")
    report.failed          # [Failed(name='cat.jpg', key='images/cat.jpg', why='…')]: everything else is there

Several files travel at once, each under a key of its own; the parts of one file follow one another, as CORTX wants it.
Doing it again sends only what is missing or has changed, so it goes on where it was cut off.
"""

from __future__ import annotations

import mimetypes
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bridge.edges.local_files import (
    found_below,
    local_file,
    local_files,
    md5_below,
    md5_of_file,
    stay_inside,
    words,
)
from bridge.errors import BridgeError, FileChanged, NotFound, SenderError, Unavailable
from bridge.store import ObjectInfo, ObjectStore
from bridge.transfer import (
    Item,
    LocalFile,
    Refuse,
    Send,
    Skip,
    key_trouble,
    plan_downloads,
    plan_uploads,
)

AT_ONCE = 8
_DELETE_AT_ONCE = 1000
_AWAY_AFTER = 2 * AT_ONCE  # answers of "down or busy" without a good one between
_SEND_TRIES = 3  # of a file that changes while it is sent


class Progress(Protocol):
    """Is told how it goes, from several threads; what it raises stops the transfer."""

    def start(self, files: int, size_bytes: int) -> None:
        """So much is to be sent."""

    def moved(self, size_bytes: int) -> None:
        """So many bytes more have gone; less than nothing when a file is begun again."""

    def finished(self, item: Item, why: str) -> None:
        """One file is done; `why` is empty when it went well."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """One file that did not go, and why, with what to do."""

    name: str
    key: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of each file. `dry_run`: nothing was sent, `sent` would have been."""

    sent: Sequence[Item]
    skipped: Sequence[Item]
    failed: Sequence[Failed]
    dry_run: bool = False
    sent_bytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sent_bytes", sum(item.size_bytes for item in self.sent))

    @property
    def ok(self) -> bool:
        return not self.failed


class _Stopped(Exception):
    """Raised inside a transfer that shall end at once."""


def upload(
    store: ObjectStore,
    source: Path,
    prefix: str = "",
    *,
    force: bool = False,
    dry_run: bool = False,
    at_once: int = AT_ONCE,
    progress: Progress | None = None,
    is_protected: Callable[[str], bool] = lambda key: False,
) -> Report:
    """Send a file to `{prefix}{its name}`, or a folder's files to `{prefix}{their path in it}`.

    `prefix` is empty or ends with a slash. Unchanged files are skipped (same size and MD5) unless `force`. One file that
    cannot be sent costs only itself. Raises SenderError when there is no such file or folder, and what a listing of
    the store raises; KeyboardInterrupt ends it within a part of a file: call it again to go on."""
    _check_prefix(prefix)
    if source.is_dir():
        root, files = source, list(local_files(source))
    elif source.exists():
        root, files = source.parent, [local_file(source.parent, source)]
    else:
        raise SenderError(f"there is no file or folder {str(source)!r}")
    there = _there(store, prefix, files if not source.is_dir() else None)
    plan = plan_uploads(
        files, there, prefix=prefix, force=force, md5_of=md5_below(root), is_protected=is_protected
    )

    def send(item: Item, moved: Callable[[int], None]) -> None:
        _send(store, root / item.name, item.key, moved)

    return _carry_out(plan, send, dry_run=dry_run, at_once=at_once, progress=progress)


def download(
    store: ObjectStore,
    prefix: str,
    target: Path,
    *,
    force: bool = False,
    dry_run: bool = False,
    at_once: int = AT_ONCE,
    progress: Progress | None = None,
) -> Report:
    """Fetch every object below `prefix` (empty, or ending with a slash) into the folder `target`.

    A file appears under its name only when it is whole. Objects whose names would leave the folder are refused. Raises
    NotFound when there is nothing below the prefix, and as `upload` does."""
    _check_prefix(prefix)
    objects = list(store.keys(prefix))
    if not objects:
        raise NotFound(f"there is nothing below {prefix!r}")
    have = {file.name: file for file in found_below(target, (info.key[len(prefix) :] for info in objects))}
    plan = plan_downloads(objects, have, prefix=prefix, force=force, md5_of=md5_below(target))

    def fetch(item: Item, moved: Callable[[int], None]) -> None:
        path = target / item.name
        stay_inside(target, path)
        _fetch(store, item, path, moved)

    return _carry_out(plan, fetch, dry_run=dry_run, at_once=at_once, progress=progress)


def download_file(
    store: ObjectStore,
    key: str,
    path: Path,
    *,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Fetch one object into the file `path`. Raises NotFound when there is no such object."""
    info = store.head(key)
    if info is None:
        raise NotFound(f"there is no object {key!r}")
    have = {key: local_file(path.parent, path)} if path.exists() else {}
    item: Item = Send(name=path.name, key=key, size_bytes=info.size_bytes, why="new")
    if have and not force:
        local = have[key]
        same = local.size_bytes == info.size_bytes and info.md5 is not None
        if same and not local.trouble and md5_of_file(path) == info.md5:
            item = Skip(name=path.name, key=key, size_bytes=info.size_bytes, why="unchanged")

    def fetch(item: Item, moved: Callable[[int], None]) -> None:
        _fetch(store, item, path, moved)

    return _carry_out([item], fetch, dry_run=dry_run, at_once=1, progress=progress)


def remove(store: ObjectStore, objects: Sequence[ObjectInfo], *, progress: Progress | None = None) -> Report:
    """Delete these objects, a thousand at a time. A missing one is no error. Raises what a store that is down raises."""
    items = {info.key: Send(name=info.key, key=info.key, size_bytes=info.size_bytes) for info in objects}
    if progress is not None:
        progress.start(len(items), sum(item.size_bytes for item in items.values()))
    failed: dict[str, str] = {}
    for keys in _in_batches(list(items)):
        refused = store.delete_many(keys)
        failed |= refused
        for key in keys:
            if progress is not None:
                progress.moved(items[key].size_bytes)
                progress.finished(items[key], refused.get(key, ""))
    return Report(
        sent=[item for key, item in items.items() if key not in failed],
        skipped=[],
        failed=[Failed(name=key, key=key, why=why) for key, why in failed.items()],
    )


def _in_batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _DELETE_AT_ONCE):
        yield keys[start : start + _DELETE_AT_ONCE]


# --- one file


def _there(store: ObjectStore, prefix: str, files: Sequence[LocalFile] | None) -> dict[str, ObjectInfo]:
    """What lies below the prefix; for a single file only what is under its key."""
    if files is None:
        return {info.key: info for info in store.keys(prefix)}
    keys = [f"{prefix}{file.name}" for file in files if not key_trouble(f"{prefix}{file.name}")]
    return {info.key: info for info in map(store.head, keys) if info is not None}


def _send(store: ObjectStore, path: Path, key: str, moved: Callable[[int], None]) -> None:
    """Send a file until it has held still for it. A torn object is not left in the store."""
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    for _ in range(_SEND_TRIES):
        before = path.stat()
        try:
            store.upload(key, path, content_type=content_type, progress=moved)
        except FileChanged:
            continue
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            return
        moved(-before.st_size)
    store.delete(key)
    raise SenderError(
        f"it changed while it was sent, {_SEND_TRIES} times; nothing is left under its key: "
        "send it again when nobody writes it"
    )


def _fetch(store: ObjectStore, item: Item, path: Path, moved: Callable[[int], None]) -> None:
    """The store keeps it beside its place until it is whole; the file that was there stays until then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    store.download(item.key, path, progress=moved)


def _check_prefix(prefix: str) -> None:
    if prefix.startswith("/") or (prefix and not prefix.endswith("/")):
        raise SenderError(f"the prefix {prefix!r} must end with a slash, and not begin with one")


# --- all files


def _carry_out(
    plan: Sequence[Item],
    move: Callable[[Item, Callable[[int], None]], None],
    *,
    dry_run: bool,
    at_once: int,
    progress: Progress | None,
) -> Report:
    sends = [item for item in plan if isinstance(item, Send)]
    skipped = [item for item in plan if isinstance(item, Skip)]
    failed = {
        item.key: Failed(name=item.name, key=item.key, why=item.why)
        for item in plan
        if isinstance(item, Refuse)
    }
    if dry_run:
        return Report(sent=sends, skipped=skipped, failed=list(failed.values()), dry_run=True)
    if progress is not None:
        progress.start(len(sends), sum(item.size_bytes for item in sends))
    sent: dict[str, Item] = {}
    stop, away = threading.Event(), _Away()

    def moved(size_bytes: int) -> None:
        if stop.is_set():
            raise _Stopped
        if progress is not None:
            progress.moved(size_bytes)

    def one(item: Item) -> str:
        """Why it did not go; empty when it did."""
        if stop.is_set():
            raise _Stopped
        if away.why:
            return f"not tried: {away.why}"
        try:
            move(item, moved)
        except OSError as error:
            return words(error)
        except BridgeError as error:
            away.heard(error)
            return str(error)
        away.heard(None)
        return ""

    for item, why in _side_by_side(sends, one, stop, at_once):
        if why:
            failed[item.key] = Failed(name=item.name, key=item.key, why=why)
        else:
            sent[item.key] = item
        if progress is not None:
            progress.finished(item, why)
    order = [item.key for item in plan]
    return Report(
        sent=[sent[key] for key in order if key in sent],
        skipped=skipped,
        failed=[failed[key] for key in order if key in failed],
    )


class _Away:
    """Notices that the store is gone: a thousand files need not find out one by one, each after seconds."""

    def __init__(self) -> None:
        self.why = ""
        self._in_a_row = 0

    def heard(self, error: BridgeError | None) -> None:
        self._in_a_row = self._in_a_row + 1 if isinstance(error, Unavailable) else 0
        if self._in_a_row >= _AWAY_AFTER:
            self.why = f"the store failed {_AWAY_AFTER} times in a row, at last with: {error}"


def _side_by_side(
    items: Sequence[Item], one: Callable[[Item], str], stop: threading.Event, at_once: int
) -> Iterator[tuple[Item, str]]:
    """The items with what became of each, as they end; no more are under way than can be stopped at once."""
    left = iter(items)
    under_way: dict[Future[str], Item] = {}
    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="transfer") as pool:
        try:
            while True:
                for item in left:
                    under_way[pool.submit(one, item)] = item
                    if len(under_way) >= at_once * 2:
                        break
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    yield under_way.pop(future), future.result()
        finally:
            stop.set()
            for future in under_way:
                future.cancel()
