"""The jobs: their queues, dotted names and arguments. The sidecar names jobs by string and imports none of them.

Arguments are ids, small and JSON. Running any job twice, or killing it at any line, does no harm: that rests on the
immutable log and the fold, never on the queue.
"""

from __future__ import annotations

from dataclasses import dataclass

LIVE = "live"
BASELINE = "baseline"
MEDIA = "media"
CURRENT = "current"
EXPORTS = "exports"
METRICS = "metrics"
SNAPSHOTS = "snapshots"
RESTORE = "restore"
RECONCILE = "reconcile"
PRELABEL = "prelabel"
QUEUES = (LIVE, BASELINE, MEDIA, CURRENT, METRICS, RECONCILE, EXPORTS, RESTORE, PRELABEL, SNAPSHOTS)
NOT_FINISHED = "not finished"  # the reason for a baseline that goes on where a run was cut off


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call to enqueue. `retry_waits_s`: how long to wait before each further try; empty: no retry by the queue.
    `at_front`: ahead of what waits in its queue, since a person waits for it."""

    queue: str
    name: str
    args: tuple[str | int | bool | list[str], ...]
    about: str
    timeout_s: int
    retry_waits_s: tuple[int, ...] = ()
    at_front: bool = False


def drain(uid: str) -> Job:
    """Carry a project's stream into its log. The sweep starts it again, so the queue need not."""
    return Job(
        queue=LIVE,
        name="workers.archive.drain",
        args=(uid,),
        about=f"archive events of {uid}",
        timeout_s=120,
        retry_waits_s=(5, 30),  # so that a killed worker's drain does not stay behind as a failed job
    )


def baseline(uid: str, reason: str) -> Job:
    """Read all of a project from Label Studio into its log; goes on where an earlier run stopped."""
    return Job(
        queue=BASELINE,
        name="workers.baseline.run",
        args=(uid, reason),
        about=f"baseline of {uid} ({reason})",
        timeout_s=6 * 3600,
        retry_waits_s=(5, 30, 120, 600),
    )


def reconcile(uid: str, depth: str, mode: str = "repair", token: str = "") -> Job:
    """Compare a project with its record and repair what differs (bridge/reconcile.py names depths and modes).

    `token` names the result that a person waits for. What the schedule asks for, it asks for again by itself."""
    return Job(
        queue=RECONCILE,
        name="workers.reconcile.run",
        args=(uid, depth, mode, token),
        about=f"reconcile {uid} ({depth})",
        timeout_s=6 * 3600,
        retry_waits_s=(5, 30, 120) if token else (5,),
        at_front=bool(token),
    )


def new_projects() -> Job:
    """Find the projects of Label Studio that nobody has connected."""
    return Job(
        queue=RECONCILE,
        name="workers.reconcile_sweep.find_projects",
        args=(),
        about="look for projects that are not connected",
        timeout_s=600,
        retry_waits_s=(5,),
    )


def media(uid: str, paths: list[str]) -> Job:
    """Copy uploaded files into the bucket."""
    return Job(
        queue=MEDIA,
        name="workers.media.copy",
        args=(uid, paths),
        about=f"copy {len(paths)} uploaded files of {uid}",
        timeout_s=3600,
        retry_waits_s=(5, 30, 120, 600, 3600),
    )


def current(uid: str) -> Job:
    """Bring current/ up to the end of the log."""
    return Job(
        queue=CURRENT,
        name="workers.current.refresh",
        args=(uid,),
        about=f"refresh current/ of {uid}",
        timeout_s=3600,
        retry_waits_s=(5, 30, 120, 600),
    )


def metrics(uid: str) -> Job:
    """Compare predictions with what people made of them, and write metrics/."""
    return Job(
        queue=METRICS,
        name="workers.metrics.refresh",
        args=(uid,),
        about=f"metrics of {uid}",
        timeout_s=3600,
        retry_waits_s=(5, 30, 120, 600),
    )


def snapshot(uid: str) -> Job:
    """Fold the log into tables under snapshots/, on top of the newest snapshot."""
    return Job(
        queue=SNAPSHOTS,
        name="workers.snapshot.make",
        args=(uid,),
        about=f"snapshot of {uid}",
        timeout_s=6 * 3600,
        retry_waits_s=(5, 30, 120, 600),
    )


def export(uid: str, format: str, tasks: str, source_key: str) -> Job:
    """Write the export of a project's state as of one log object into the bucket. Its id follows from the arguments."""
    return Job(
        queue=EXPORTS,
        name="workers.export.run",
        args=(uid, format, tasks, source_key),
        about=f"export {uid} as {format}",
        timeout_s=6 * 3600,
        retry_waits_s=(5, 30, 120, 600),
    )


def export_trigger(uid: str, reason: str) -> Job:
    """Ask for the exports of EXPORT_FORMATS, of what is in the log by then."""
    return Job(
        queue=EXPORTS,
        name="workers.export.trigger",
        args=(uid, reason),
        about=f"ask for exports of {uid} ({reason})",
        timeout_s=300,
        retry_waits_s=(5, 30, 120, 600),
    )


def restore(uid: str, restore_id: str) -> Job:
    """Bring a project back from its record into Label Studio; goes on where an earlier run stopped."""
    return Job(
        queue=RESTORE,
        name="workers.restore.run",
        args=(uid, restore_id),
        about=f"restore {uid} ({restore_id})",
        timeout_s=48 * 3600,
        retry_waits_s=(5, 30, 120, 600),
    )


def prelabel(uid: str, id: str) -> Job:
    """Begin a pre-labelling job, or go on with it: find its tasks, and enqueue them in chunks."""
    return Job(
        queue=PRELABEL,
        name="workers.prelabel.run",
        args=(uid, id),
        about=f"pre-label {uid}: find the tasks ({id})",
        timeout_s=6 * 3600,
        retry_waits_s=(5, 30, 120),
    )


def prelabel_chunk(uid: str, id: str, chunk: str, tasks: int) -> Job:
    """Predict some tasks of a pre-labelling job. The sweep enqueues it again for as long as it is not done."""
    return Job(
        queue=PRELABEL,
        name="workers.prelabel.chunk",
        args=(uid, id, chunk),
        about=f"pre-label {uid}: {tasks} tasks from {chunk} on ({id})",
        timeout_s=6 * 3600,
        retry_waits_s=(5, 30, 120),
    )


def prelabel_finish(uid: str, id: str) -> Job:
    """Write what waits to be written, take away what it replaces, and report."""
    return Job(
        queue=PRELABEL,
        name="workers.prelabel.finish",
        args=(uid, id),
        about=f"pre-label {uid}: write and report ({id})",
        timeout_s=6 * 3600,
        retry_waits_s=(5, 30, 120),
    )


def prelabel_wanted(uid: str) -> Job:
    """Begin a pre-labelling job for the tasks that were wanted meanwhile."""
    return Job(
        queue=PRELABEL,
        name="workers.prelabel.begin_wanted",
        args=(uid,),
        about=f"pre-label what is wanted of {uid}",
        timeout_s=300,
        retry_waits_s=(5, 30),
    )
