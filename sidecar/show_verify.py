"""What `archive verify` and `archive projects` print. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import click

from bridge.verify import PARTS, Problem, Report
from sidecar.progress_bar import size_words
from sidecar.recorded import Recorded
from sidecar.show_transfer import printable

SHOWN = 20  # problems of one part
_VALUE = 60  # characters of one value


def report_lines(report: Report) -> Iterator[str]:
    """A line a part, and below it what is wrong there, the first ones of many."""
    counts = report.counts
    yield (
        f"{report.uid}: {counts.get('log_objects', 0)} log objects with {counts.get('records', 0)} records read"
        + (f", {counts['compared']} things compared with Label Studio" if "compared" in counts else "")
    )
    for part in PARTS:
        found = [problem for problem in report.problems if problem.part == part]
        name = part.replace("_", " ")
        if part in report.skipped:
            yield f"  {name:<13} {click.style('not compared', fg='yellow')}: {report.skipped[part]}"
        elif not found:
            yield f"  {name:<13} {click.style('ok', fg='green')}"
        else:
            many = "1 difference" if len(found) == 1 else f"{len(found)} differences"
            yield f"  {name:<13} {click.style(many, fg='red')}"
        for problem in found[:SHOWN]:
            yield f"    {problem_line(problem)}"
        if len(found) > SHOWN:
            yield f"    … and {len(found) - SHOWN} more: --json lists all"
    for note in report.notes[:SHOWN]:
        yield f"  note: {printable(note)}"
    if changed := counts.get("changed_meanwhile"):
        yield f"  note: {changed} things changed while they were looked at, and were not compared"


def problem_line(problem: Problem) -> str:
    line = f"{problem.where} {problem.words}"
    found = problem.difference
    if found is not None and found.what == "field":
        line += f": {_value(found.recorded)} in the record, {_value(found.found)} in Label Studio"
    return printable(line)


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE else f"{text[:_VALUE]}…"


def projects_lines(projects: Iterable[Recorded]) -> Iterator[str]:
    none = True
    for one in projects:
        none = False
        there = f"absent since {one.absent_since}" if one.absent_since else "present"
        newest = one.newest_at or "empty"
        yield (
            f"{one.uid:<18} {size_words(one.size_bytes):>10}  {one.log_objects:>7} log objects, newest {newest}  "
            f"{there}  {printable(one.title)}"
        )
    if none:
        yield "no records yet: `python -m sidecar connect PROJECT` begins one"
