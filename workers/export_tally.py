"""Counting what goes into an export and what does not, while its tasks are written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from bridge.errors import Corrupt
from bridge.export_manifest import Counts
from bridge.export_shapes import LeftOut, left_out
from bridge.export_tasks import to_line

Json = dict[str, Any]


class Tally:
    """Counts while tasks go in, and writes down what is left out."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self.tasks = self.without_annotation = self.annotations = self.skipped = 0
        self.regions = self.regions_in = self.annotations_in = 0
        self.regions_out: Counter[str] = Counter()
        self.annotations_out: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()

    def task(self, whole: Json) -> None:
        self.tasks += 1
        self.without_annotation += not whole["annotations"]
        self.annotations += len(whole["annotations"])
        self.skipped += sum(bool(one["was_cancelled"]) for one in whole["annotations"])
        self.regions += sum(len(one["result"] or []) for one in whole["annotations"])

    def leave_out(self, lines: list[LeftOut]) -> None:
        for line in lines:
            (self.regions_out if line.is_region else self.annotations_out)[line.reason] += 1
            self._file.write(to_line(line.to_json()) + "\n")

    def homeless(self, annotation: Json) -> None:
        """An annotation whose task the record does not have."""
        reason = "the record has no such task"
        entries = annotation["result"] or []
        self.annotations += 1
        self.regions += len(entries)
        self.leave_out([left_out(entry, annotation, reason) for entry in entries])
        self.annotations_out[reason] += 1

    def close(self) -> None:
        self._file.close()

    def counts(self, objects: int) -> Counts:
        """Raises Corrupt when a region is neither in nor out: a bug that must not look like a whole export."""
        if self.regions != self.regions_in + self.regions_out.total():
            raise Corrupt(
                f"of {self.regions} regions {self.regions_in} are in the output and {self.regions_out.total()} left out: "
                "some are neither. This is a bug of the export; nothing was written"
            )
        return Counts(
            tasks=self.tasks,
            tasks_without_annotation=self.without_annotation,
            annotations=self.annotations,
            skipped=self.skipped,
            annotations_in_output=self.annotations_in,
            regions=self.regions,
            regions_in_output=self.regions_in,
            objects=objects,
            regions_left_out=dict(sorted(self.regions_out.items())),
            annotations_left_out=dict(sorted(self.annotations_out.items())),
            regions_changed=dict(sorted(self.changed.items())),
        )
