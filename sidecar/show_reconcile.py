"""What reconcile found, as lines for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from bridge.progress import Progress

_SHOWN = 20
_WORDS = {
    "missing": "was missing in the record",
    "outdated": "was outdated in the record",
    "deleted": "is deleted in Label Studio",
    "reopened": "was believed deleted, and is there",
    "webhook": "webhook repaired",
    "absent": "the project is not in this Label Studio any more",
    "found_again": "the project is there again",
}


def progress_words(progress: Progress) -> str:
    return f"  comparing: {progress.words()}"


def result_lines(result: Mapping[str, Any]) -> Iterable[str]:
    """One run: how it ended, what was repaired and why, what waits for a person."""
    uid = result["project"]
    if result["state"] != "done":
        yield click.style(f"{uid}: {result['state']}: {result['message']}", fg="red")
        return
    dry = result["mode"] == "dry run"
    count = result["repaired"]
    verb = "would be repaired" if dry else "repaired"
    words = f"{count} {verb}" if count else "the record says what Label Studio says"
    yield (
        f"{click.style(uid, bold=True)} ({result['depth']}): {result['tasks_compared']} tasks compared, {words}; "
        f"{result['requests']} requests"
    )
    if result["absent_since"]:
        yield click.style(
            f"  this Label Studio does not have the project since {result['absent_since'][:19]}; its record stays as it is",
            fg="red",
        )
    for name, number in sorted(result["counts"].items()):
        kind, _, what = name.partition(" ")
        yield f"  {number:>6} {kind:<10} {_WORDS.get(what, what)}"
    shown = result["repairs"][:_SHOWN]
    for repair in shown:
        yield f"         {_repair(repair)}"
    left = count - len(shown)
    if left > 0:
        yield f"         … and {left} more: --json names up to 200, `reconcile {uid} --list` the newest 100"
    yield from _held(uid, result["held"])
    if result["message"]:
        yield click.style(f"  {result['message']}", fg="yellow")


def _repair(repair: Mapping[str, str]) -> str:
    return f"{repair['kind']} {repair['id']}: {_WORDS.get(repair['what'], repair['what'])} ({repair['why']})"


def _held(uid: str, held: Mapping[str, Any]) -> Iterable[str]:
    if not held:
        return
    yield click.style(f"  HELD: {held['reason']}; nothing of that is deleted in the record.", fg="red")
    yield click.style(f"  For example {', '.join(held['examples'][:5])}.", fg="red")
    yield click.style(
        f"  If it is meant: python -m sidecar reconcile {uid} --accept-deletions. If this is the wrong Label Studio, "
        "or an older one, correct that instead.",
        fg="red",
    )


def overview_lines(found: Mapping[str, Any]) -> Iterable[str]:
    """Each project's last looks and what is held; projects nobody has connected; the newest repairs."""
    for project in found["projects"]:
        times = ", ".join(
            f"{depth} {project[f'{depth}_done_at'][:19] or 'not yet'}"
            for depth in ("incremental", "light", "full")
        )
        yield f"{click.style(project['uid'], bold=True)}: {times}"
        if project["absent_since"]:
            yield click.style(f"  not in this Label Studio since {project['absent_since'][:19]}", fg="red")
        yield from _held(project["uid"], project["held"])
    for uid, title in found["not_connected"].items():
        yield click.style(f"{uid} {title}: not connected", fg="yellow")
    if not found["repairs"]:
        yield "No repairs so far."
    for repair in found["repairs"]:
        yield f"{repair['at'][:19]}  {repair['project']}  {_repair(repair)}"
