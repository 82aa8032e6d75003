"""Sending uploads, tasks and predictions again. Each first finds out what is there; what is unclear ends the run, and
the next one looks again: an import is not idempotent."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from bridge.edges.label_studio import LabelStudio
from bridge.errors import NotFound, OutsideError, Refused, Unavailable
from bridge.restore import Media, TaskSource
from bridge.restore_bodies import (
    Import,
    imports,
    prediction_body,
    task_body,
    upload_name,
    uploaded,
)
from bridge.restore_check import match_predictions
from workers.progress import Reporter
from workers.restore_target import Present, Work, again, answered, present, unclear

log = logging.getLogger(__name__)
TASKS_A_REQUEST = 250
BYTES_A_REQUEST = 8_000_000
FILES_A_REQUEST = 20
UPLOAD_BYTES = 64_000_000
PREDICTIONS_A_REQUEST = 500
IMPORT_TIMEOUT_S = 600
# An import that a killed run had sent can still be under way in Label Studio when the next run looks.
SETTLE_S = 3.0


# --- uploads


def uploads(work: Work) -> None:
    """Send the uploaded files that are not there yet, and learn the paths that Label Studio gives them."""
    wanted = work.source.uploads
    if not wanted:
        return
    report = Reporter("uploaded files", total=len(wanted), now=work.here.now)
    there = _uploaded(work)
    left: dict[str, Media] = {}
    for media in wanted:
        if media.sha256[:12] not in there:
            left.setdefault(media.sha256, media)
    with tempfile.TemporaryDirectory(prefix="restore-") as folder:
        for batch in _batches(list(left.values())):
            report(len(wanted) - len(left))
            work.beat()
            _send_files(work, batch, Path(folder))
            for media in batch:
                left.pop(media.sha256, None)
    learn_uploads(work)


def learn_uploads(work: Work) -> None:
    """The paths that Label Studio has given the files, and which it does not have."""
    wanted = work.source.uploads
    there = _uploaded(work) if wanted else {}
    for media in wanted:
        if media.sha256[:12] in there:
            work.ids.uploads[media.path] = there[media.sha256[:12]]
        elif not any(one.kind == "media" and one.id == media.path for one in work.left_out):
            work.leave_out("media", media.path, "Label Studio does not list it after it was sent")


def _uploaded(work: Work) -> dict[str, str]:
    """Beginning of the checksum -> path as task data has it."""
    listed = again(work, lambda: work.target.uploads(work.project_id))
    return uploaded({str(file["file"]): f"/data/{quote(str(file['file']))}" for file in listed})


def _batches(files: list[Media]) -> Iterator[list[Media]]:
    """Of one kind of file each: Label Studio refuses tables and pictures in one request."""
    batch: list[Media] = []
    for media in sorted(files, key=lambda media: _ext(media)):
        if batch and (
            len(batch) >= FILES_A_REQUEST
            or _ext(media) != _ext(batch[0])
            or sum(one.size_bytes for one in batch) + media.size_bytes > UPLOAD_BYTES
        ):
            yield batch
            batch = []
        batch.append(media)
    if batch:
        yield batch


def _ext(media: Media) -> str:
    return PurePosixPath(media.path).suffix.lower()


def _send_files(work: Work, batch: Sequence[Media], folder: Path) -> None:
    files: dict[str, Path] = {}
    for media in batch:
        path = folder / media.sha256
        try:
            work.here.store.download(media.key, path)
        except NotFound:
            work.leave_out("media", media.path, f"its copy {media.key} is gone from the bucket")
            continue
        files[upload_name(media)] = path
    try:
        if files:
            work.target.upload(work.project_id, files)
    except Refused as error:
        if answered(error, 401) or answered(error, 403):
            raise
        # It keeps files that it could make no tasks of; those it does not keep are sent one by one, to find the bad one.
        if len(files) == 1:
            log.info("upload into project %d: %s", work.project_id, error)
        for media in batch if len(files) > 1 else ():
            if media.sha256[:12] not in _uploaded(work):
                _send_files(work, [media], folder)
    finally:
        for path in files.values():
            path.unlink(missing_ok=True)


# --- tasks


def tasks(work: Work, *, first_run: bool) -> None:
    """Import the tasks that are not there yet, in order, with the `inner_id`s they had."""
    found = Present() if first_run else _settled(work)
    if found.doubles:
        remove_doubles(work, found)
    wanted = work.source.tasks
    work.ids.tasks.update(found.ids)
    missing = [task for task in wanted if task.id not in work.ids.tasks]
    report = Reporter("tasks", total=len(wanted), now=work.here.now, done_at_start=len(wanted) - len(missing))
    for request in imports(missing, found.inner_id, most=TASKS_A_REQUEST, most_bytes=BYTES_A_REQUEST):
        report(len(work.ids.tasks))
        work.beat()
        for task, id in _import(work, request):
            work.ids.tasks[task.id] = id


def _settled(work: Work) -> Present:
    """What is there once nothing more arrives from a run that was killed."""
    found = present(work)
    while True:
        work.sleep(SETTLE_S)
        later = present(work)
        if later == found:
            return later
        found = later


def remove_doubles(work: Work, found: Present) -> None:
    """Remove tasks that were imported twice: the later ones, which nobody has worked on yet."""
    for id in found.doubles:
        log.warning("task %d of project %d was imported twice: removing it", id, work.project_id)
        again(work, lambda id=id: _delete(work.target, f"/api/tasks/{id}/"))  # type: ignore[misc]


def _delete(target: LabelStudio, path: str) -> None:
    try:
        target.delete(path)
    except NotFound:
        pass


def _import(work: Work, request: Import) -> Iterator[tuple[TaskSource, int]]:
    """Send one request; where Label Studio refuses it, halves of it, so that one bad task costs itself alone.

    Raises Unavailable where it is unclear what became of it."""
    try:
        yield from zip(request.tasks, _import_at_once(work, request), strict=True)
    except OutsideError as error:
        if unclear(error):
            raise Unavailable(f"importing {len(request.tasks)} tasks: {error}") from error
        if not answered(error, 400):
            raise
        if len(request.tasks) == 1:
            work.leave_out("task", request.tasks[0].id, str(error))
            return
        half = len(request.tasks) // 2
        for part in (request.tasks[:half], request.tasks[half:]):
            yield from _import(work, Import(tasks=part))


def _import_at_once(work: Work, request: Import) -> list[int]:
    bodies = [task_body(task, work.order, work.ids) for task in request.tasks]
    if request.alone and bodies[0].get("annotations"):
        # Only the import takes annotations with a task; a run that is cut off here finds the wrong number later.
        (id,) = _import_at_once(work, Import(tasks=request.tasks))
        work.target.patch(f"/api/tasks/{id}/", {"inner_id": request.tasks[0].data.get("inner_id")})
        return [id]
    if request.alone:
        body = bodies[0] | {
            "project": work.project_id,
            "inner_id": request.tasks[0].data.get("inner_id"),
        }
        return [int(work.target.post("/api/tasks/", body)["id"])]
    answer = work.target.post(
        f"/api/projects/{work.project_id}/import", bodies, timeout_s=IMPORT_TIMEOUT_S, return_task_ids="true"
    )
    return [int(id) for id in answer["task_ids"]]


# --- predictions


def predictions(work: Work, found: Mapping[int, list[dict[str, Any]]]) -> None:
    """Send the predictions that are not there yet. `found`: those that are, by new task id."""
    missing: list[tuple[Mapping[str, Any], int]] = []
    for task in work.source.tasks:
        new = work.ids.tasks.get(task.id)
        if new is None:
            continue
        there, absent, _ = match_predictions(task.predictions, found.get(new, []))
        work.ids.predictions.update(there)
        missing += [(one, new) for one in absent]
    total = work.source.counts["predictions"]
    report = Reporter("predictions", total=total, now=work.here.now, done_at_start=total - len(missing))
    for start in range(0, len(missing), PREDICTIONS_A_REQUEST):
        report(total - len(missing) + start)
        work.beat()
        _send_predictions(work, missing[start : start + PREDICTIONS_A_REQUEST])


def _send_predictions(work: Work, chunk: Sequence[tuple[Mapping[str, Any], int]]) -> None:
    path = f"/api/projects/{work.project_id}/import/predictions"
    bodies = [prediction_body(one, task) for one, task in chunk]
    try:
        created = work.target.post(path, bodies, timeout_s=IMPORT_TIMEOUT_S)["created"]
    except OutsideError as error:
        if unclear(error):
            raise Unavailable(f"importing {len(bodies)} predictions: {error}") from error
        if not answered(error, 400):
            raise
        created = 0
    if created == len(bodies):
        return
    # What does not fit the labeling config is dropped without a word; one at a time Label Studio takes everything.
    there = predictions_there(work) if created else {}
    for one, task in chunk:
        _, absent, _ = match_predictions([one], there.get(task, []))
        if not absent:
            continue
        work.beat()
        try:
            work.target.post("/api/predictions/", prediction_body(one, task) | {"project": work.project_id})
        except OutsideError as error:
            if unclear(error):
                raise Unavailable(f"sending a prediction: {error}") from error
            if not answered(error, 400):
                raise
            work.leave_out("prediction", one["id"], str(error))


def predictions_there(work: Work) -> dict[int, list[dict[str, Any]]]:
    """The restored project's predictions, by new task id."""
    found: dict[int, list[dict[str, Any]]] = {}
    for one in again(work, lambda: work.target.get("/api/predictions/", project=work.project_id)):
        found.setdefault(int(one["task"]), []).append(one)
    return found
