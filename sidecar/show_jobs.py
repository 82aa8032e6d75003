"""Jobs as lines for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import click

from bridge.edges.job_list import FAILED, RUNNING, STOPPED, WAITING, JobInfo
from bridge.progress import span
from bridge.records import format_time

SHORT_ID = 8
_COLOURS = {RUNNING: "green", FAILED: "red", STOPPED: "yellow", WAITING: "yellow"}


def lines(found: Sequence[JobInfo], now: datetime) -> Iterator[str]:
    """One line a job, and a second one where a try has failed."""
    if not found:
        yield "There are no jobs: nothing waits, runs or has failed."
        return
    yield click.style(f"{'id':<{SHORT_ID}}  {'queue':<8}  {'state':<14}  {'age':>6}  what", bold=True)
    for job in found:
        state = click.style(f"{job.state:<14}", fg=_COLOURS.get(job.state))
        about = job.about if job.progress is None else f"{job.about}: {job.progress.words()}"
        yield f"{job.id[:SHORT_ID]:<{SHORT_ID}}  {job.queue:<8}  {state}  {_age(job.created_at, now):>6}  {about}"
        if job.reason:
            yield f"{'':{SHORT_ID}}  {_first_line(job.reason)}{_next(job, now)}"


def detail_lines(job: JobInfo, now: datetime, *, traceback: bool) -> Iterator[str]:
    """Everything of one job, why it failed first."""
    if job.reason:
        yield click.style(job.reason, fg="red")
    yield f"{'id':<10} {job.id}"
    yield f"{'state':<10} {job.state}{_next(job, now)}"
    yield f"{'what':<10} {job.about}"
    if job.progress is not None:
        yield f"{'progress':<10} {job.progress.words()}"
    yield f"{'queue':<10} {job.queue}"
    yield f"{'job':<10} {job.name}({', '.join(map(repr, job.args))})"
    for name, when in (("created", job.created_at), ("started", job.started_at), ("ended", job.ended_at)):
        if when is not None:
            yield f"{name:<10} {format_time(when)[:19].replace('T', ' ')} UTC ({_age(when, now)} ago)"
    yield f"{'tries left':<10} {job.tries_left}"
    if job.worker and job.state == RUNNING:
        yield f"{'worker':<10} {job.worker}"
    if traceback and job.traceback:
        yield ""
        yield job.traceback.rstrip()
    elif job.traceback:
        yield "(--traceback shows where in the code)"


def _age(when: datetime | None, now: datetime) -> str:
    return "?" if when is None else span((now - when).total_seconds())


def _next(job: JobInfo, now: datetime) -> str:
    if job.state == FAILED:
        return "; no try is left: `python -m sidecar jobs retry " + job.id[:SHORT_ID] + "` runs it again"
    if job.next_try_at is None:
        return ""
    return (
        f"; tried again in {span((job.next_try_at - now).total_seconds())}, {job.tries_left} more after that"
    )


def _first_line(text: str) -> str:
    return text.splitlines()[0]
