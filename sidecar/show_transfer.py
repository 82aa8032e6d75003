"""What the bucket commands print. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from bridge.store import ObjectInfo
from sidecar.progress_bar import size_words

if TYPE_CHECKING:
    from bridge.edges.transfer import Report

_SHOWN = 50  # lines of one kind


@dataclass(kw_only=True)
class Row:
    """One object, or one folder with what is below it."""

    name: str
    size_bytes: int = 0
    objects: int = 0
    modified_at: str = ""

    def line(self) -> str:
        many = self.modified_at or ("1 object" if self.objects == 1 else f"{self.objects} objects")
        return f"{size_words(self.size_bytes):>10}  {many:<20}  {printable(self.name)}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def folded(objects: Iterable[ObjectInfo], folder: str) -> list[Row]:
    """One row an object directly in `folder` (without its slash), one row a folder in it."""
    start = len(folder) + 1 if folder else 0
    rows: dict[str, Row] = {}
    for info in objects:
        name, slash, _ = info.key[start:].partition("/")
        row = rows.setdefault(name + slash, Row(name=info.key[:start] + name + slash))
        row.size_bytes += info.size_bytes
        row.objects += 1
        row.modified_at = "" if slash else _time(info)
    return list(rows.values())


def row(info: ObjectInfo) -> Row:
    return Row(name=info.key, size_bytes=info.size_bytes, objects=1, modified_at=_time(info))


def _time(info: ObjectInfo) -> str:
    return f"{info.last_modified:%Y-%m-%d %H:%M:%S}"


def printable(text: str) -> str:
    """A key without what would move the cursor of a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def amount(objects: Sequence[ObjectInfo]) -> str:
    many = "1 object" if len(objects) == 1 else f"{len(objects)} objects"
    return f"{many} ({size_words(sum(info.size_bytes for info in objects))})"


def record_warning(record: Sequence[ObjectInfo]) -> str:
    """What is about to be lost, in red."""
    uids = sorted({_uid(info.key) for info in record} - {""})
    named = f" of project {', '.join(uids[:5])}{' …' if len(uids) > 5 else ''}" if uids else ""
    return click.style(
        f"{amount(record)} are the record{named}: every revision of what annotators did, with exports, models and "
        "metrics. A dead Label Studio is rebuilt from it, and it is nowhere else.",
        fg="red",
    )


def _uid(key: str) -> str:
    parts = f"/{key}".partition("/projects/")[2].split("/")
    return printable(parts[0])


def report_lines(report: Report, verb: str) -> Iterable[str]:
    """The summary: what failed and why first, then one line of numbers."""
    if report.dry_run:
        for item in report.sent[:_SHOWN]:
            yield f"would be {verb}  {printable(item.name)}  ({size_words(item.size_bytes)}, {item.why})"
        yield from _more(len(report.sent))
    for bad in report.failed[:_SHOWN]:
        yield f"{click.style('FAILED', fg='red')}  {printable(bad.name)}: {printable(bad.why)}"
    yield from _more(len(report.failed))
    said = f"would be {verb}" if report.dry_run else verb
    numbers = [f"{len(report.sent)} {said} ({size_words(report.sent_bytes)})"]
    if report.skipped:
        numbers.append(f"{len(report.skipped)} unchanged")
    if report.failed:
        numbers.append(f"{len(report.failed)} failed")
    yield ", ".join(numbers)


def _more(count: int) -> Iterable[str]:
    if count > _SHOWN:
        yield f"… and {count - _SHOWN} more (--json lists all)"


def report_json(report: Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "dry_run": report.dry_run,
        "sent": [asdict(item) for item in report.sent],
        "skipped": [asdict(item) for item in report.skipped],
        "failed": [asdict(item) for item in report.failed],
        "sent_bytes": report.sent_bytes,
    }
