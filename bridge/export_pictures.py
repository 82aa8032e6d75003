"""What a format for pictures is written from: one entry for each annotation and picture. Pure.

The converter is handed these entries instead of the project's tasks. It then sees nothing it stumbles on, its
categories are the labels of boxes alone, and what it writes can be told apart and counted entry by entry.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.export_shapes import RECTANGLE, ImageRef, LeftOut, Shape, left_out, shapes_of, sizes_of
from bridge.export_tasks import Contents
from bridge.exports import Format
from bridge.labeling import Config, Control, Source
from bridge.state import Thing

Json = dict[str, Any]
_LABEL_TAGS = ("RectangleLabels", "PolygonLabels", "Labels")
_TOKEN = re.compile(r"export-entry-(\d+)\.(?:jpg|xml)$")
CONTROL, IMAGE = "label", "image"
NO_RECTANGLES = "it has no rectangle to write a file for"
SKIPPED = "its annotation was skipped"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One picture as one annotation has it; `annotation` is None for a task without any. `size_px` None: not known."""

    number: int
    task: int
    annotation: int | None
    completed_by: int | None
    image: ImageRef
    shapes: tuple[Shape, ...]
    size_px: tuple[float, float] | None

    @property
    def objects(self) -> int:
        """How many boxes and polygons it becomes: one for each label of each shape."""
        return sum(len(shape.labels) for shape in self.shapes)

    def to_json(self) -> Json:
        """As the converter takes it."""
        results = [
            {
                "from_name": CONTROL,
                "original_width": shape.size_px[0],
                "original_height": shape.size_px[1],
                "value": shape.value
                | {"rectanglelabels" if shape.kind == RECTANGLE else "polygonlabels": [label]},
            }
            for shape in self.shapes
            for label in shape.labels
        ]
        person = {} if self.completed_by is None else {"completed_by": self.completed_by}
        annotation = {"id": self.annotation, "created_at": "", "result": results} | person
        return {
            "id": self.number,
            "data": {IMAGE: f"export-entry-{self.number}.jpg"},
            "annotations": [] if self.annotation is None else [annotation],
        }


def entry_number(file_name: str) -> int | None:
    """Which entry a file name of the converter's making stands for."""
    found = _TOKEN.search(file_name)
    return None if found is None else int(found[1])


def _on_pictures(config: Config) -> list[tuple[Control, Source]]:
    """The controls that label boxes and polygons, each with the picture it is put on."""
    return [
        (control, source)
        for control in config.controls.values()
        if control.tag in _LABEL_TAGS
        for name in control.to_names
        if (source := config.source(name)) is not None and source.is_image
    ]


def refs_of(task: Thing, config: Config) -> list[ImageRef]:
    """The pictures of a task that boxes can be drawn on."""
    data = task.data.get("data") or {}
    keys = {source.data_key for _, source in _on_pictures(config)}
    found: list[ImageRef] = []
    for key in sorted(keys):
        value = data.get(key)
        count = len(value) if isinstance(value, list) else int(isinstance(value, str))
        found += [ImageRef(data_key=key, index=index) for index in range(count)]
    return found


@dataclass(kw_only=True)
class Split:
    """One task taken apart: its entries, and what is in none of them."""

    entries: list[Entry] = field(default_factory=list)
    out: list[LeftOut] = field(default_factory=list)
    skipped: int = 0


def split(task: Thing, whole: Json, contents: Contents, config: Config, format: Format, first: int) -> Split:
    """The entries of one task, numbered from `first` on. `whole` is the task in Label Studio's own shape."""
    predictions = contents.predictions.get(whole["id"], [])
    said = itertools.chain(
        (entry for one in whole["annotations"] for entry in one["result"] or []),
        (entry for one in predictions for entry in one.data.get("result") or []),
    )
    sizes = sizes_of(said, config)
    found = Split()
    numbers = itertools.count(first)
    refs = refs_of(task, config)
    if not whole["annotations"]:
        found.entries = [_entry(next(numbers), whole["id"], None, ref, (), sizes) for ref in refs]
    for annotation in whole["annotations"]:
        if annotation["was_cancelled"]:
            found.skipped += 1
            found.out += [left_out(entry, annotation, SKIPPED) for entry in annotation["result"] or []]
            found.out.append(_nowhere(annotation, "it was skipped"))
            continue
        shapes, out = shapes_of(
            annotation,
            config,
            sizes,
            holds=format.holds,
            whole_pixels=format.whole_pixels,
            format=format.name,
        )
        found.out += out
        all_refs = [*refs, *dict.fromkeys(s.image for s in shapes if s.image not in refs)]
        made = [
            _entry(
                next(numbers), whole["id"], annotation, ref, tuple(s for s in shapes if s.image == ref), sizes
            )
            for ref in all_refs
        ]
        if format.name == "VOC" and not shapes:
            found.out.append(_nowhere(annotation, NO_RECTANGLES))
        found.entries += made
    return found


def _entry(
    number: int,
    task: int,
    annotation: Json | None,
    ref: ImageRef,
    shapes: tuple[Shape, ...],
    sizes: Mapping[ImageRef, tuple[float, float]],
) -> Entry:
    person = None if annotation is None else annotation.get("completed_by")
    return Entry(
        number=number,
        task=task,
        annotation=None if annotation is None else annotation["id"],
        completed_by=person if isinstance(person, int) else None,
        image=ref,
        shapes=shapes,
        size_px=shapes[0].size_px if shapes else sizes.get(ref),
    )


def _nowhere(annotation: Json, reason: str) -> LeftOut:
    return LeftOut(
        task=annotation.get("task"),
        annotation=annotation.get("id"),
        region_id=None,
        from_name=None,
        reason=reason,
        is_region=False,
    )


def categories(config: Config, used: Iterable[str]) -> dict[str, int]:
    """Label -> category id: the labels of boxes and polygons, and any other that a region has.

    A `category` attribute gives the id, as in Label Studio; the others get those free, in the order of the alphabet.
    Unlike there, no id is given twice."""
    asked: dict[str, str] = {}
    for control, _ in _on_pictures(config):
        for label, category in control.labels.items():
            asked[label] = asked.get(label) or category
    ids: dict[str, int] = {}
    for label, category in asked.items():
        if re.fullmatch(r"-?\d{1,9}", category) and int(category) not in ids.values():
            ids[label] = int(category)
    free = (number for number in itertools.count() if number not in set(ids.values()))
    for label in sorted(asked.keys() - ids.keys()):
        ids |= {label: next(free)}
    for label in sorted(set(used) - ids.keys()):
        ids |= {label: next(free)}
    return ids


def schema(ids: Mapping[str, int]) -> Json:
    """The labeling config that the converter is told: one control on one picture."""
    return {
        CONTROL: {
            "type": "RectangleLabels",
            "to_name": [IMAGE],
            "inputs": [{"type": "Image", "value": IMAGE}],
            "labels": list(ids),
            "labels_attrs": {label: {"category": str(id)} for label, id in ids.items()},
        }
    }
