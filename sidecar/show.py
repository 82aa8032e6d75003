"""Turning values into lines for a terminal of 100 columns. Pure; click removes the colours where none can be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import click

from sidecar.apply import Outcome
from sidecar.plan import MISSING, OK, Project
from sidecar.quarantine import Line
from sidecar.status import Baseline, Neighbour, ProjectStatus, Status

_COLOURS = {"done": "green", "kept": None, "note": "yellow", "failed": "red", "planned": "cyan"}
_SAID = {"done": "done", "kept": "as it was", "note": "note", "failed": "FAILED", "planned": "would do"}
_TITLE, _BASELINE = 20, 24  # columns
_SHOWN_BYTES = 4000
_SECRET = re.compile(
    r'("(?:[a-z_]*(?:token|password|passwd|secret|api_key|access_key(?:_id)?)|authorization)"\s*:\s*)"(?:[^"\\]|\\.)*"?',
    re.IGNORECASE,
)


def project_line(project: Project) -> str:
    return f"Project {project.id} {click.style(project.title, bold=True)} ({project.uid})"


def outcome_lines(outcome: Outcome) -> str:
    word = click.style(f"{_SAID[outcome.result]:<9}", fg=_COLOURS[outcome.result])
    line = f"  {outcome.part:<10}  {word}  {outcome.text}"
    return f"{line}\n{'':14}{outcome.detail}" if outcome.detail else line


def status_lines(status: Status) -> Iterable[str]:
    yield from map(_neighbour, status.neighbours)
    yield _line("quarantine", status.quarantine == 0, _quarantine(status.quarantine))
    yield _line("spool", status.spool_entries == 0, _spool(status.spool_entries, status.spool_bytes))
    if status.spool_warning:
        yield _line("", False, status.spool_warning)
    if status.missed:
        names = ", ".join(status.missed)
        yield _line(
            "refused",
            False,
            f"events of these projects were not kept, and they are to be read again: {names}",
        )
    if status.unassigned_waiting:
        yield _line(
            "unassigned", False, f"{status.unassigned_waiting} events without a project wait to be read"
        )
    yield ""
    if status.projects:
        yield click.style(
            f"{'id':>5}  {'project':<{_TITLE}}  {'webhook':<8}  {'ML':<8}  {'pictures':<8}  {'baseline':<{_BASELINE}}  "
            f"{'waiting':>7}  {'lag':>6}",
            bold=True,
        )
    elif status.neighbours[0].ok:
        yield "This Label Studio has no project that the token's user sees."
    for project in status.projects:
        yield _row(project)
        yield from (f"{'':7}{line}" for line in _remarks(project))


def _line(name: str, good: bool, text: str) -> str:
    return f"{name:<13} {click.style(text, fg=None if good else 'red')}"


def _neighbour(neighbour: Neighbour) -> str:
    if neighbour.ok:
        return f"{neighbour.name:<13} {click.style('up', fg='green')}    {neighbour.detail}"
    return f"{neighbour.name:<13} {click.style(f'down: {neighbour.detail}', fg='red')}"


def _quarantine(size: int | None) -> str:
    if size is None:
        return "unknown (Redis is down)"
    return "empty" if size == 0 else f"{size} unreadable: see `python -m sidecar quarantine list`"


def _spool(entries: int | None, size_bytes: int | None) -> str:
    if entries is None:
        return "unknown (its file cannot be read)"
    return "empty" if entries == 0 else f"{entries} events, {size_bytes} bytes, wait for Redis"


def _row(project: ProjectStatus) -> str:
    title = project.title if project.title is not None else f"({project.uid})"
    if project.webhook == MISSING and project.ml_backend is None:
        return f"{project.id:>5}  {_fit(title, _TITLE)}  not connected"
    return (
        f"{project.id:>5}  {_fit(title, _TITLE)}  {_cell(project.webhook)}  {_cell(project.ml_backend)}  "
        f"{_cell(project.storage)}  {_fit(baseline_words(project.baseline), _BASELINE)}  "
        f"{_number(project.waiting):>7}  {_lag(project):>6}"
    )


def _cell(word: str | None) -> str:
    short = "-" if word is None or word == "not used" else word.partition(":")[0]
    colour = "green" if short == OK else None if short == "-" or word == MISSING else "red"
    return click.style(f"{short:<8}", fg=colour)


def _fit(text: str, width: int) -> str:
    return f"{text if len(text) <= width else text[: width - 1] + '…':<{width}}"


def baseline_words(baseline: Baseline | None) -> str:
    if baseline is None or baseline.state == "unknown":
        return "unknown"
    if baseline.total is None:
        return baseline.state
    return f"{baseline.state} {baseline.done} of {baseline.total}"


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


def _lag(project: ProjectStatus) -> str:
    if project.lag_s is None:
        return "?"
    if project.lag_s < 100:
        return f"{project.lag_s:.1f} s"
    return f"{project.lag_s / 60:.0f} min" if project.lag_s < 6000 else f"{project.lag_s / 3600:.0f} h"


def _remarks(project: ProjectStatus) -> Iterable[str]:
    """What the row has no room for: each on a line of its own."""
    words = {"webhook": project.webhook, "ML backend": project.ml_backend, "pictures": project.storage}
    for name, word in words.items():
        if word and ":" in word:
            yield f"{name} {word}"
    if project.connected and project.baseline and project.baseline.state == "unknown":
        yield f"baseline unknown; run `python -m sidecar connect {project.id}`"
    if project.baseline and project.baseline.state == "failed" and project.baseline.message:
        yield f"baseline failed: {project.baseline.message}"
    if project.held:
        yield click.style(
            f"deletions are HELD: {project.held}; see `python -m sidecar reconcile {project.uid} --list`",
            fg="red",
        )
    if project.absent_since:
        yield click.style(
            f"not in this Label Studio since {project.absent_since[:19]}; the record stays as it is", fg="red"
        )
    if project.trouble:
        yield click.style(f"events do not reach the bucket: {project.trouble}", fg="red")
    if project.media_failed:
        yield click.style(
            f"{project.media_failed} uploaded files are not in the bucket: the workers' log names them and says why",
            fg="red",
        )


def quarantine_lines(items: Sequence[Line]) -> Iterable[str]:
    if not items:
        yield "The quarantine is empty."
        return
    yield click.style(f"{'id':<18}  {'received':<20}  {'bytes':>8}  reason", bold=True)
    for item in items:
        received = f"{item.received_at:%Y-%m-%d %H:%M:%S}"
        yield f"{item.id:<18}  {received:<20}  {item.size_bytes:>8}  {item.reason}"


def body_text(body: bytes) -> str:
    """The beginning of a body as text, without what looks like a secret and without control characters."""
    text = _SECRET.sub(r'\1"***"', body[:_SHOWN_BYTES].decode(errors="replace"))
    text = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    left = len(body) - _SHOWN_BYTES
    return f"{text}\n… {left} more bytes" if left > 0 else text
