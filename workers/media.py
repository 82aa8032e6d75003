"""Copy files that were uploaded into Label Studio itself to media/: they exist nowhere else.

The object is named by its content, so a file that was copied and not yet recorded is found again, and two runs at once
write the same bytes. The order of deeds: object, record in the log, then Redis, which only saves work.
"""

from __future__ import annotations

import logging
import tempfile
import uuid
from pathlib import Path

from bridge.edges import redis as names
from bridge.errors import BridgeError, NotFound, OutsideError, TooLarge, Unavailable
from bridge.keys import Layout, MediaKey, safe_ext
from bridge.records import Record, Stamp, put
from bridge.settings import MIB
from workers import context
from workers.progress import Reporter

log = logging.getLogger(__name__)
EVENT = "MEDIA_COPIED"
RECORDED_TOGETHER = 20
GIVE_UP_AFTER = (
    3  # so many files in a row without an answer: Label Studio is away, waiting for each helps nobody
)


def copy(uid: str, paths: list[str]) -> None:
    """Copy those files that the bucket does not have yet.

    A file that is missing or too large costs itself only: it is named in `names.media_failed`, counted and logged. For
    the rest raises Unavailable at the end, naming them, so that the queue comes again."""
    here = context.current()
    layout = here.layout(uid)
    copied: list[Record] = []
    failed: dict[str, str] = {}
    in_a_row = 0
    report = Reporter("files", total=len(dict.fromkeys(paths)), now=here.now)
    for number, path in enumerate(dict.fromkeys(paths)):
        report(number)
        if _is_there(here, uid, path):
            continue
        if in_a_row >= GIVE_UP_AFTER:
            failed[path] = "not tried"
            continue
        try:
            copied.append(_copy_one(here, layout, path))
            in_a_row = 0
        except (NotFound, TooLarge) as error:
            _give_up(here, uid, path, error)
            in_a_row = 0
        except _FromLabelStudio as error:
            failed[path] = str(error)
            in_a_row += 1
        if len(copied) >= RECORDED_TOGETHER:
            _record(here, uid, copied)
            copied = []
    _record(here, uid, copied)
    if failed:
        told = "; ".join(f"{path} ({why})" for path, why in failed.items())
        raise Unavailable(f"{len(failed)} uploaded files of {uid} could not be copied yet: {told}")


class _FromLabelStudio(Exception):
    """Label Studio did not give the file; trouble of the bucket goes up as it is, since it concerns every file."""


def _is_there(here: context.Context, uid: str, path: str) -> bool:
    key = here.redis.hget(names.media(uid), path)
    return key is not None and here.store.head(key.decode()) is not None


def _copy_one(here: context.Context, layout: Layout, path: str) -> Record:
    """Fetch, upload unless the bucket has it, and say so in a record. Raises NotFound, TooLarge, _FromLabelStudio."""
    with tempfile.TemporaryDirectory(prefix="media-") as folder:
        target = Path(folder) / "file"
        stamp = Stamp(event_id=str(uuid.uuid4()), received_at=here.now(), source="media", event=EVENT)
        try:
            got = here.label_studio.download(path, target, max_bytes=here.settings.media_max_mib * MIB)
        except (NotFound, TooLarge):
            raise
        except OutsideError as error:
            raise _FromLabelStudio(str(error)) from error
        key = layout.media(MediaKey(sha256=got.sha256, ext=safe_ext(path)))
        there = here.store.head(key)
        if there is None or there.size_bytes != got.size_bytes:
            _upload(here, key, target, got.content_type)
    data = {
        "id": path,
        "path": path,
        "key": key,
        "sha256": got.sha256,
        "size_bytes": got.size_bytes,
        "content_type": got.content_type,
    }
    return put("media", data, stamp)


def _upload(here: context.Context, key: str, target: Path, content_type: str) -> None:
    try:
        here.store.upload(key, target, content_type=content_type)
    except NotFound as error:
        # No bucket: not the file's fault, so it is not given up.
        raise Unavailable(str(error)) from error


def _record(here: context.Context, uid: str, copied: list[Record]) -> None:
    if not copied:
        return
    here.log_writer(uid).append(copied)
    here.redis.hset(names.media(uid), mapping={record.id: record.data["key"] for record in copied})
    here.redis.hdel(names.media_failed(uid), *(record.id for record in copied))
    here.redis.hincrby(names.COUNTERS, "media_copied", len(copied))


def _give_up(here: context.Context, uid: str, path: str, error: BridgeError) -> None:
    log.error("the uploaded file %s of %s is not copied: %s", path, uid, error)
    if here.redis.hset(names.media_failed(uid), path, str(error)):
        here.redis.hincrby(names.COUNTERS, "media_failed", 1)
