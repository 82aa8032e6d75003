"""What verifying a record finds, and what can be told of a log object without a bucket. Pure.

A problem is one thing that is not as it should be, and names what would mend it. Nothing mends the log: it is the
record, so a damaged object of it is named and read as far as it goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.compare import Difference
from bridge.etags import md5_of
from bridge.keys import Layout, LogKey
from bridge.records import Record
from bridge.store import ObjectInfo

Part = Literal["log", "snapshots", "exports", "current", "media", "metrics", "label_studio"]
Repair = Literal["", "snapshots", "exports", "current", "media", "metrics", "reconcile"]
PARTS: tuple[Part, ...] = ("log", "snapshots", "exports", "current", "media", "metrics", "label_studio")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is not as it should be. `where` is a key of the bucket, or such as `annotation 12`; `what` is one
    word for programs, `words` says it to people; `repair` is the derived part to make again, or "" where nothing can;
    `manifest` is the key of the manifest that names the object."""

    part: Part
    where: str
    what: str
    words: str
    repair: Repair = ""
    manifest: str = ""
    difference: Difference | None = None

    @property
    def name(self) -> tuple[str, str, str, str]:
        """Equal for the same problem seen twice."""
        return (
            self.part,
            self.where,
            self.what,
            "" if self.difference is None else self.difference.field,
        )

    def to_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            name: getattr(self, name) for name in ("part", "where", "what", "words", "repair")
        }
        if self.difference is not None:
            fields |= {name: getattr(self.difference, name) for name in ("field", "recorded", "found")}
        return fields


@dataclass(kw_only=True)
class Report:
    """What was looked at and what was found. `skipped`: part -> why it was not looked at. `notes`: worth knowing, and
    no difference."""

    uid: str
    deep: bool
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def count(self, what: str, more: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "project": self.uid,
            "deep": self.deep,
            "counts": self.counts,
            "skipped": self.skipped,
            "notes": self.notes,
            "differences": [problem.to_json() for problem in self.problems],
        }


def persisting(first: Iterable[Problem], second: Iterable[Problem]) -> list[Problem]:
    """What was found twice; what only one look saw was under way."""
    seen = {problem.name for problem in first}
    return [problem for problem in second if problem.name in seen]


class Order:
    """Looks at the names of a log's objects as a listing gives them, one after the other."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._last = -1
        self._last_key = ""

    def look(self, info: ObjectInfo) -> list[Problem]:
        """What is wrong with one name, or its size, or its place after the one before."""
        key = self._layout.parse_log(info.key)
        if key is None:
            return [_log(info.key, "foreign", "is no object of the log: every reader passes over it")]
        found = []
        if self._layout.log(key) != info.key:
            found.append(_log(info.key, "misplaced", "lies under another day than its position says"))
        elif key.position <= self._last:
            found.append(_log(info.key, "order", f"does not come after {self._last_key}"))
        if info.size_bytes == 0:
            found.append(_log(info.key, "empty", "is empty: what was in it is lost"))
        self._last, self._last_key = key.position, info.key
        return found


@dataclass(frozen=True, kw_only=True)
class Content:
    """What one log object says: the records that can be read, as every reader takes them (a line that is no record costs
    itself only), and what is wrong with it."""

    records: list[Record]
    problems: list[Problem]
    newer: int = 0


def read_log_object(info: ObjectInfo, key: LogKey, body: bytes) -> Content:
    """Read one log object as far as it can be read. Raises nothing."""
    records: list[Record] = []
    problems: list[Problem] = []
    newer = 0
    if hashlib.sha256(body).hexdigest()[:16] != key.sha:
        words = f"its content is not what its name says ({len(body)} bytes): it was cut short or edited"
        problems.append(_log(info.key, "checksum", words))
    elif info.md5 is not None and info.md5 != md5_of(body):
        problems.append(_log(info.key, "etag", "the store tells another MD5 than its content has"))
    for number, line in enumerate(body.splitlines(), start=1):
        try:
            record = Record.from_json(line)
        except ValueError as error:
            problems.append(_log(info.key, "unreadable", f"line {number}: {error}"))
            continue
        records.append(record)
        if not record.understood:
            newer += 1
        elif record.op == "put" and record.version is None:
            problems.append(
                _log(info.key, "version", f"line {number}: {record.kind} {record.id} has no version")
            )
    return Content(records=records, problems=problems, newer=newer)


def _log(key: str, what: str, words: str) -> Problem:
    return Problem(part="log", where=key, what=what, words=words)


def of_difference(found: Difference) -> Problem:
    """A difference between the state and Label Studio as a problem that reconcile mends."""
    where = f"{found.kind} {found.id}"
    words = {
        "missing": "is in the record and not in Label Studio",
        "unexpected": "is in Label Studio and not in the record",
        "field": f"{found.field} is another in Label Studio than in the record",
    }[found.what]
    return Problem(
        part="label_studio", where=where, what=found.what, words=words, repair="reconcile", difference=found
    )
