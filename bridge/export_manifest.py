"""The manifest of an export: written last, it makes the export whole. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.exports import VERSION

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of an export. `key` is its full key; it can lie in an earlier export with the same content."""

    name: str
    key: str
    size_bytes: int
    sha256: str
    content_type: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What is in an export and what is not.

    A region is one entry of an annotation's result. `regions` = `regions_in_output` + the sum of `regions_left_out`.
    `objects` is what was counted in the opened output: rows, boxes and polygons, regions of JSON. `skipped`: annotations
    of the exported tasks that a person skipped (JSON has them, the others leave them out)."""

    tasks: int = 0
    tasks_without_annotation: int = 0
    annotations: int = 0
    skipped: int = 0
    annotations_in_output: int = 0
    regions: int = 0
    regions_in_output: int = 0
    objects: int = 0
    regions_left_out: dict[str, int] = field(default_factory=dict)
    annotations_left_out: dict[str, int] = field(default_factory=dict)
    regions_changed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Whether the record held all of the project. `done` and `total` are tasks, None where nobody knows."""

    complete: bool
    done: int | None = None
    total: int | None = None

    @property
    def text(self) -> str:
        if self.complete:
            return "complete"
        if self.done is None or self.total is None:
            return "not complete: tasks from before the project was connected may be missing"
        return f"{self.done} of {self.total} tasks read so far: the others are missing"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is written last, and makes an export whole. `same_as`: the export whose files these are, or ""."""

    export_id: str
    project: Json
    format: str
    options: Json
    files: tuple[File, ...]
    counts: Counts
    source: Json
    baseline: Baseline
    created_at: str
    label_config: str
    model_versions: dict[str, int]
    annotators: dict[str, str]
    content_sha256: str
    made_with: Json
    same_as: str = ""

    def to_json(self) -> Json:
        baseline = asdict(self.baseline) | {"text": self.baseline.text}
        return {"version": VERSION, "state": "complete"} | asdict(self) | {"baseline": baseline}

    @classmethod
    def from_json(cls, fields: Json) -> Manifest:
        """Raises KeyError or TypeError when `fields` did not come from `to_json`."""
        rest = {name: value for name, value in fields.items() if name not in ("version", "state")}
        said = {name: value for name, value in rest["baseline"].items() if name != "text"}
        rest |= {
            "files": tuple(File(**one) for one in rest["files"]),
            "counts": Counts(**rest["counts"]),
            "baseline": Baseline(**said),
        }
        return cls(**rest)

    def file(self, name: str) -> File | None:
        return next((one for one in self.files if one.name == name), None)


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as it is put into the bucket; half an emoji becomes its escape."""
    text = json.dumps(manifest.to_json(), indent=1, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(manifest.to_json(), indent=1).encode()
