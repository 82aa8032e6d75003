"""Which regions of an annotation a format for pictures can hold, as what, and why not the others. Pure.

Whatever label-studio-sdk's converter would pass over without a word, lose or stumble on is decided here, before the
converter sees it (docs/exports.md lists each). Coordinates are Label Studio's: percent of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.labeling import Config

Json = dict[str, Any]
RECTANGLE, POLYGON = "rectangle", "polygon"
_LABEL_KEYS = ("rectanglelabels", "polygonlabels", "labels")
_CARRIERS = (
    "rectangle",
    "polygon",
)  # entries with the geometry alone; the label is in another entry of their id
# What is told of geometry that these formats do not hold, by a field that only it has.
_OTHER_SHAPES = {
    "radiusX": "an ellipse",
    "rle": "a brush mask",
    "imageDataURL": "a bitmask",
    "keypointlabels": "a key point",
    "vertices": "a vector",
    "sequence": "a track in a video",
    "ranges": "a stretch of time",
    "start": "a stretch of a text or sound",
    "choices": "a choice",
    "text": "a text",
    "rating": "a rating",
    "number": "a number",
    "datetime": "a date",
    "taxonomy": "a taxonomy",
    "pairwise": "a comparison",
    "ranker": "a ranking",
}


@dataclass(frozen=True, kw_only=True)
class ImageRef:
    """One picture of a task: the field of its data, and the place in the list where the field holds several."""

    data_key: str
    index: int = 0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One region that goes into the output, once for each of its labels. `size_px`: width and height of the picture.

    `value` has x, y, width, height (upright) or points. `changed` says how it differs from what was drawn, or ""."""

    kind: str
    image: ImageRef
    size_px: tuple[float, float]
    value: Json
    labels: tuple[str, ...]
    changed: str = ""
    entries: int = 1  # entries of the result that this shape stands for: 2 with the label in another one


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One region (an entry of an annotation's result) that is not in the output, with the reason; or, with region_id
    None and from_name None, an annotation that has no place in it."""

    task: int | str | None
    annotation: int | str | None
    region_id: str | None
    from_name: str | None
    reason: str
    is_region: bool = True

    def to_json(self) -> Json:
        fields = {"task": self.task, "annotation": self.annotation}
        if self.is_region:
            fields |= {"region": self.region_id, "from_name": self.from_name}
        return fields | {"reason": self.reason}


def left_out(entry: object, annotation: Mapping[str, Any], reason: str) -> LeftOut:
    """The line for one entry of an annotation's result."""
    said = entry if isinstance(entry, Mapping) else {}
    return LeftOut(
        task=annotation.get("task"),
        annotation=annotation.get("id"),
        region_id=said["id"] if isinstance(said.get("id"), str) else None,
        from_name=said["from_name"] if isinstance(said.get("from_name"), str) else None,
        reason=reason,
    )


def sizes_of(results: Iterable[object], config: Config) -> dict[ImageRef, tuple[float, float]]:
    """The size in px of each picture that any entry names one for: what one region does not say, another may."""
    sizes: dict[ImageRef, tuple[float, float]] = {}
    for entry in results:
        if not isinstance(entry, Mapping):
            continue
        source, size = config.source(entry.get("to_name")), _size(entry)
        if source is not None and size is not None:
            sizes.setdefault(ImageRef(data_key=source.data_key, index=_index(entry)), size)
    return sizes


def shapes_of(
    annotation: Mapping[str, Any],
    config: Config,
    sizes: Mapping[ImageRef, tuple[float, float]],
    *,
    holds: frozenset[str],
    whole_pixels: bool,
    format: str,
) -> tuple[list[Shape], list[LeftOut]]:
    """The shapes of one annotation for a format that holds `holds`; every entry is in the one list or the other.

    `whole_pixels`: the format cuts coordinates down to whole pixels, so that less than one is nothing."""
    entries: Sequence[object] = annotation.get("result") or []
    carriers = {
        entry["id"]: entry
        for entry in entries
        if isinstance(entry, Mapping)
        and entry.get("type") in _CARRIERS
        and isinstance(entry.get("id"), str)
        and isinstance(entry.get("value"), Mapping)
    }
    labelled = {
        entry.get("id")
        for entry in entries
        if isinstance(entry, Mapping) and isinstance(entry.get("value"), Mapping) and _labels(entry["value"])
    }
    shapes: list[Shape] = []
    out: list[LeftOut] = []
    for entry in entries:
        if isinstance(entry, Mapping) and carriers.get(str(entry.get("id"))) is entry:
            if entry["id"] not in labelled:
                out.append(left_out(entry, annotation, "it has no label"))
            continue
        carrier = carriers.get(str(entry.get("id"))) if isinstance(entry, Mapping) else None
        found = _shape(entry, carrier, config, sizes, holds=holds, whole_pixels=whole_pixels, format=format)
        if isinstance(found, Shape):
            shapes.append(found)
            continue
        out.append(left_out(entry, annotation, found))
        if carrier is not None and isinstance(entry, Mapping) and _labels(entry.get("value")):
            out.append(left_out(carrier, annotation, found))
    return shapes, out


def _shape(
    entry: object,
    carrier: Mapping[str, Any] | None,
    config: Config,
    sizes: Mapping[ImageRef, tuple[float, float]],
    *,
    holds: frozenset[str],
    whole_pixels: bool,
    format: str,
) -> Shape | str:
    """The shape of one entry, or the reason why it has none."""
    if not isinstance(entry, Mapping):
        return "it is no region"
    if entry.get("type") == "relation":
        return f"{format} has no relations between regions"
    if not isinstance(entry.get("value"), Mapping):
        return "it has no value"
    if config.control(entry.get("from_name")) is None:
        return f"the labeling config has no control {entry.get('from_name')!r}"
    joined = carrier is not None and bool(_labels(entry["value"]))
    value = {**carrier["value"], **entry["value"]} if joined and carrier is not None else entry["value"]
    kind = _kind(value)
    if kind not in holds:
        return f"{format} does not hold {_named(kind)}"
    source = config.source(entry.get("to_name"))
    if source is None or not source.is_image:
        return "it is not on a picture"
    labels = _labels(value)
    if not labels:
        return "it has no label"
    image = ImageRef(data_key=source.data_key, index=_index(entry))
    size = _size(entry) or sizes.get(image)
    if size is None:
        return "nothing says the size of its picture (original_width, original_height)"
    placed = _rectangle(value, size, whole_pixels) if kind == RECTANGLE else _polygon(value)
    if isinstance(placed, str):
        return placed
    return Shape(
        kind=kind,
        image=image,
        size_px=size,
        value=placed[0],
        labels=labels,
        changed=placed[1],
        entries=2 if joined else 1,
    )


def _kind(value: Mapping[str, Any]) -> str:
    for field, told in _OTHER_SHAPES.items():
        if field in value:
            return told
    if "points" in value:
        return POLYGON
    return RECTANGLE if {"x", "y", "width", "height"} <= value.keys() else "what it is"


def _named(kind: str) -> str:
    return f"a {kind}" if kind in (RECTANGLE, POLYGON) else kind


def _labels(value: object) -> tuple[str, ...]:
    if not isinstance(value, Mapping):
        return ()
    for key in _LABEL_KEYS:
        found = value.get(key)
        if isinstance(found, list) and found:
            return tuple(dict.fromkeys(label for label in found if isinstance(label, str) and label))
    return ()


def _rectangle(
    value: Mapping[str, Any], size: tuple[float, float], whole_pixels: bool
) -> tuple[Json, str] | str:
    given = [value.get(name) for name in ("x", "y", "width", "height")]
    rotation = value.get("rotation") or 0
    if not all(_is_number(number) for number in (*given, rotation)):
        return "its coordinates are no numbers"
    x, y, width, height = (float(number) for number in given)  # type: ignore[arg-type]
    if width <= 0 or height <= 0:
        return "it has no area"
    changed = ""
    if rotation % 360:
        x, y, width, height = _upright(x, y, width, height, float(rotation), size)
        changed = "rotated rectangles are the upright boxes around them"
    if whole_pixels and (int(width / 100 * size[0]) < 1 or int(height / 100 * size[1]) < 1):
        return "it is smaller than one pixel"
    return {"x": x, "y": y, "width": width, "height": height}, changed


def _upright(
    x: float, y: float, width: float, height: float, rotation: float, size: tuple[float, float]
) -> tuple[float, float, float, float]:
    """The upright box in percent around a rectangle turned clockwise about its upper left corner, by degrees.

    Turned in pixels: percent of width and of height differ unless the picture is square."""
    across, down = size[0] / 100, size[1] / 100
    turn = math.radians(rotation)
    cosine, sine = math.cos(turn), math.sin(turn)
    corners = [(0.0, 0.0), (width * across, 0.0), (width * across, height * down), (0.0, height * down)]
    xs = [x * across + px * cosine - py * sine for px, py in corners]
    ys = [y * down + px * sine + py * cosine for px, py in corners]
    return min(xs) / across, min(ys) / down, (max(xs) - min(xs)) / across, (max(ys) - min(ys)) / down


def _polygon(value: Mapping[str, Any]) -> tuple[Json, str] | str:
    points = value.get("points")
    if not isinstance(points, list) or len(points) < 3:
        return "it has fewer than three points"
    for point in points:
        if not isinstance(point, list | tuple) or len(point) != 2 or not all(map(_is_number, point)):
            return "its coordinates are no numbers"
    return {"points": [[float(x), float(y)] for x, y in points]}, ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _size(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    width, height = entry.get("original_width"), entry.get("original_height")
    if not (_is_number(width) and _is_number(height)) or width <= 0 or height <= 0:  # type: ignore[operator]
        return None
    return width, height  # type: ignore[return-value]


def _index(entry: Mapping[str, Any]) -> int:
    index = entry.get("item_index")
    return index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else 0
