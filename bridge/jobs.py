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
QUEUES = (LIVE, BASELINE, MEDIA, CURRENT, METRICS, EXPORTS)
NOT_FINISHED = "not finished"  # the reason for a baseline that goes on where a run was cut off


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call to enqueue. `retry_waits_s`: how long to wait before each further try; empty: no retry by the queue."""

    queue: str
    name: str
    args: tuple[str | int | bool | list[str], ...]
    about: str
    timeout_s: int
    retry_waits_s: tuple[int, ...] = ()


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
