"""A snapshot's manifest, which snapshot serves which question, and which ones are thinned out. Pure.

snapshots/{position}/ holds one Parquet file a table, `folded.parquet` with the name of every log object in it and when
its records were received, and manifest.json, put last. Without the manifest there is no snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.records import format_time, parse_time

SCHEMA = 1
"""Raised when a row's meaning changes. Readers take their own number only."""

MANIFEST = "manifest.json"
FOLDED = "folded"
LATE = timedelta(days=1)
"""Readers look for objects that a snapshot does not name from this long before its position on."""
STILL_READ = timedelta(hours=6)
"""For so long after its manifest was removed the files of a snapshot stay, for whoever reads them."""
LEFT_BEHIND = timedelta(days=1)
"""Files without a manifest and older than this are a dead job's."""


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of a snapshot. `table`: a kind, a table of regions, or `folded`."""

    table: str
    name: str
    size_bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What makes a snapshot whole. `received_from`, `received_to`: of all records in it. `newest_key`: the newest log
    object in it; its `position` may be some milliseconds later, so that no two snapshots share one."""

    uid: str
    position: int
    previous: int | None
    newest_key: str
    log_objects: int
    unreadable: int
    received_from: datetime | None
    received_to: datetime | None
    baseline_completed_at: datetime | None
    content_rules: str
    files: tuple[File, ...]
    created_at: datetime
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        fields = {
            "schema": self.schema,
            "project": self.uid,
            "position": self.position,
            "previous": self.previous,
            "newest_key": self.newest_key,
            "log_objects": self.log_objects,
            "unreadable": self.unreadable,
            "received_from": _said(self.received_from),
            "received_to": _said(self.received_to),
            "baseline_completed_at": _said(self.baseline_completed_at),
            "content_rules": self.content_rules,
            "files": [vars(file) for file in self.files],
            "created_at": format_time(self.created_at),
        }
        return json.dumps(fields, indent=1).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Manifest:
        """Raises ValueError, naming the schema when the manifest is one of another version of us."""
        try:
            fields = json.loads(body)
            if fields["schema"] != SCHEMA:
                newer = isinstance(fields["schema"], int) and fields["schema"] > SCHEMA
                raise ValueError(
                    f"{'a newer' if newer else 'another'} version of us wrote it "
                    f"(schema {fields['schema']}, ours is {SCHEMA})"
                )
            created_at = parse_time(fields["created_at"])
            if created_at is None:
                raise ValueError("it has no created_at")
            return cls(
                uid=fields["project"],
                position=fields["position"],
                previous=fields["previous"],
                newest_key=fields["newest_key"],
                log_objects=fields["log_objects"],
                unreadable=fields["unreadable"],
                received_from=parse_time(fields["received_from"]),
                received_to=parse_time(fields["received_to"]),
                baseline_completed_at=parse_time(fields["baseline_completed_at"]),
                content_rules=fields["content_rules"],
                files=tuple(File(**file) for file in fields["files"]),
                created_at=created_at,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is no manifest of a snapshot: {error!r}") from error

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        return {file.table: file.rows for file in self.files if file.table != FOLDED}

    def serves(self, *, at: datetime | None = None, up_to: str = "") -> bool:
        """Whether everything in it was received by a time, and is no newer than a log key: else it says too much."""
        if up_to and self.newest_key > up_to:
            return False
        return at is None or self.received_to is None or self.received_to <= at


def _said(value: datetime | None) -> str | None:
    return None if value is None else format_time(value)


def late_from(position: int) -> int:
    """From which position of the log on there can be objects that a snapshot does not name."""
    return max(0, position - int(LATE.total_seconds() * 1000))


def thinned(positions: Iterable[int], now: datetime, *, keep_days: int) -> list[int]:
    """The snapshots to remove: kept are all of the last day, the last of each day for `keep_days` days, the last of each
    month before, and always the newest."""
    kept: dict[tuple[int, ...], int] = {}
    ordered = sorted(positions)
    for position in ordered:
        when = datetime.fromtimestamp(position / 1000, UTC)
        if now - when <= timedelta(days=1):
            slot: tuple[int, ...] = (position,)
        elif now - when <= timedelta(days=keep_days):
            slot = (when.year, when.month, when.day)
        else:
            slot = (when.year, when.month)
        kept[slot] = position
    stay = {*kept.values(), *ordered[-1:]}
    return [position for position in ordered if position not in stay]


def summary(manifest: Manifest) -> dict[str, Any]:
    """What a list of snapshots shows of one."""
    return {
        "position": manifest.position,
        "created_at": format_time(manifest.created_at),
        "received_to": _said(manifest.received_to),
        "log_objects": manifest.log_objects,
        "unreadable": manifest.unreadable,
        "size_bytes": sum(file.size_bytes for file in manifest.files),
        "rows": manifest.rows(),
    }
