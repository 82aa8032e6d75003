"""One prediction beside one annotation of the same task: what the person kept, moved, relabelled, removed, added. Pure.

Boxes (`<RectangleLabels>`, `<Rectangle>`, rotated or not) are matched one to one, each at most once, in this order:
1. by region id, which Label Studio's page keeps when a person edits a prediction. Trusted when the page says where the
   region came from (`origin`), when the annotation names this prediction as its parent, or when the two overlap: tools
   that write through the API may number their regions anew;
2. by label and overlap: pairs of the same label, the greatest IoU first, down to `MATCH_IOU`;
3. by overlap alone: the greatest IoU first, down to `MATCH_IOU`; these are relabelled.
All of it within one control and one image.
Of what matched under one label, IoU of at least `KEPT_IOU` is kept, less is moved. Choices are compared choice by choice
within their control (and region, for `perRegion`). Every other shape is counted on both sides and not compared.
The rules in words, with an example worked out by hand: docs/metrics.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.shapes import PixelBox, iou

MATCH_IOU = 0.5
KEPT_IOU = 0.99
BOX_TYPES = ("rectanglelabels", "rectangle")

Outcome = Literal["kept", "moved", "relabelled", "removed", "added"]
OUTCOMES: tuple[Outcome, ...] = ("kept", "moved", "relabelled", "removed", "added")
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Match:
    """What became of one predicted region or choice, or where one of the annotation came from.

    `predicted` and `annotated` are labels, None on the side that has none; several labels of one region are one, joined
    by ", ". `iou` is None for choices and where only one side is there. `found_by`: id, label, place, or "".
    """

    outcome: Outcome
    type: str
    control: str
    predicted: str | None = None
    annotated: str | None = None
    predicted_id: str | None = None
    annotated_id: str | None = None
    iou: float | None = None
    score: float | None = None
    found_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`others`: types that are counted only -> (how many were predicted, how many annotated)."""

    matches: tuple[Match, ...]
    others: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How many of each outcome; all five are there."""
        found = Counter(match.outcome for match in self.matches)
        return {outcome: found[outcome] for outcome in OUTCOMES}


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle of a `result`, in percent of the image; `rotation` in degrees clockwise about its upper left corner.

    `size`: the image in px, or None where the region does not say; `place`: which image of the task it is on."""

    id: str
    type: str
    control: str
    place: tuple[str, int]
    label: str
    x: float
    y: float
    width: float
    height: float
    rotation: float
    size: tuple[float, float] | None
    origin: str
    score: float | None

    def corners(self, size: tuple[float, float]) -> list[Point]:
        """In px of an image of this size, in one sense of rotation: Label Studio turns boxes in px, not in percent."""
        left, top = self.x * size[0] / 100, self.y * size[1] / 100
        width, height = self.width * size[0] / 100, self.height * size[1] / 100
        cos, sin = math.cos(math.radians(self.rotation)), math.sin(math.radians(self.rotation))
        return [
            (left + dx * cos - dy * sin, top + dx * sin + dy * cos)
            for dx, dy in ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
        ]


@dataclass(frozen=True, kw_only=True)
class _Side:
    """A `result` taken apart. `choices`: (place, control, region id or "") -> choice -> score."""

    boxes: list[Box]
    choices: dict[tuple[tuple[str, int], str, str], dict[str, float | None]]
    others: Counter[str]


def compare(predicted: Iterable[Any], annotated: Iterable[Any], *, linked: bool = False) -> Comparison:
    """Compare two `result` lists as Label Studio stores them. `linked`: the annotation names the prediction as its parent.

    Raises nothing: what is no region is passed over, what cannot be read counts as another shape."""
    before, after = _side(predicted), _side(annotated)
    matches, became = _compare_boxes(before.boxes, after.boxes, linked)
    matches += _compare_choices(before, after, became)
    types = sorted(before.others.keys() | after.others.keys())
    return Comparison(
        matches=tuple(matches), others={name: (before.others[name], after.others[name]) for name in types}
    )


def box_iou(a: Box, b: Box) -> float:
    """Shared area over joint area, 0…1. Upright boxes need no image size; turned ones without one are taken as on a
    square image."""
    if a.rotation % 360 == 0 and b.rotation % 360 == 0:
        return iou(_upright(a), _upright(b))
    size = a.size or b.size or (100.0, 100.0)
    one, other = a.corners(size), b.corners(size)
    shared = area(clip(one, other))
    joint = area(one) + area(other) - shared
    return shared / joint if joint > 0 else 0.0


def area(polygon: Sequence[Point]) -> float:
    """Of a simple polygon, in the square of its unit; 0 for fewer than three corners."""
    pairs = zip(polygon, [*polygon[1:], *polygon[:1]], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2


def clip(subject: Sequence[Point], window: Sequence[Point]) -> list[Point]:
    """The part of a convex polygon inside another one (Sutherland and Hodgman), both with corners clockwise on a screen."""
    found = list(subject)
    for (x0, y0), (x1, y1) in zip(window, [*window[1:], *window[:1]], strict=True):
        corners, found = found, []

        def side(point: Point, x0: float = x0, y0: float = y0, x1: float = x1, y1: float = y1) -> float:
            return (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)

        for start, end in zip(corners, [*corners[1:], *corners[:1]], strict=True):
            from_start, from_end = side(start), side(end)
            if (from_start >= 0) != (from_end >= 0):
                part = from_start / (from_start - from_end)
                found.append((start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])))
            if from_end >= 0:
                found.append(end)
    return found


def _upright(box: Box) -> PixelBox:
    return PixelBox(x0=box.x, y0=box.y, x1=box.x + box.width, y1=box.y + box.height)


# --- boxes


def _compare_boxes(
    before: list[Box], after: list[Box], linked: bool
) -> tuple[list[Match], dict[str, str | None]]:
    """The matches, and what each predicted region id became: the annotated id, or None when it was removed."""
    pairs: dict[int, tuple[int, float, str]] = {}
    by_id = {box.id: number for number, box in enumerate(after) if box.id}
    for number, box in enumerate(before):
        other = by_id.get(box.id)
        if other is None or not _comparable(box, after[other]) or other in {j for j, _, _ in pairs.values()}:
            continue
        overlap = box_iou(box, after[other])
        if linked or overlap > 0 or after[other].origin.startswith("prediction"):
            pairs[number] = (other, overlap, "id")
    overlaps = _overlaps(before, after)
    for found_by in ("label", "place"):
        taken = {j for j, _, _ in pairs.values()}
        for overlap, number, other in overlaps:
            same = before[number].label == after[other].label
            if number in pairs or other in taken or (found_by == "label" and not same):
                continue
            pairs[number] = (other, overlap, found_by)
            taken.add(other)
    matches = [
        _matched(box, after[pairs[number][0]], pairs[number][1], pairs[number][2])
        if number in pairs
        else Match(
            outcome="removed",
            type=box.type,
            control=box.control,
            predicted=box.label,
            predicted_id=box.id,
            score=box.score,
        )
        for number, box in enumerate(before)
    ]
    taken = {j for j, _, _ in pairs.values()}
    matches += [
        Match(outcome="added", type=box.type, control=box.control, annotated=box.label, annotated_id=box.id)
        for number, box in enumerate(after)
        if number not in taken
    ]
    became = {
        box.id: after[pairs[number][0]].id if number in pairs else None for number, box in enumerate(before)
    }
    return matches, became


def _overlaps(before: list[Box], after: list[Box]) -> list[tuple[float, int, int]]:
    """Every pair that reaches MATCH_IOU, the greatest first; equal ones in the order of the lists."""
    found = [
        (overlap, i, j)
        for i, box in enumerate(before)
        for j, other in enumerate(after)
        if _comparable(box, other) and (overlap := box_iou(box, other)) >= MATCH_IOU
    ]
    return sorted(found, key=lambda pair: (-pair[0], pair[1], pair[2]))


def _comparable(a: Box, b: Box) -> bool:
    """Of one control, on one image: a box that went to another control is one removed and one added."""
    return (a.type, a.control, a.place) == (b.type, b.control, b.place)


def _matched(box: Box, other: Box, overlap: float, found_by: str) -> Match:
    outcome: Outcome = (
        "relabelled" if box.label != other.label else "kept" if overlap >= KEPT_IOU else "moved"
    )
    return Match(
        outcome=outcome,
        type=other.type,
        control=other.control,
        predicted=box.label,
        annotated=other.label,
        predicted_id=box.id,
        annotated_id=other.id,
        iou=overlap,
        score=box.score,
        found_by=found_by,
    )


# --- choices


def _compare_choices(before: _Side, after: _Side, became: Mapping[str, str | None]) -> list[Match]:
    moved = {
        (place, control, became.get(region) or region): found
        for (place, control, region), found in before.choices.items()
    }
    matches: list[Match] = []
    for key in sorted(moved.keys() | after.choices.keys()):
        control, was, now = key[1], moved.get(key, {}), after.choices.get(key, {})
        gone = [choice for choice in was if choice not in now]
        new = [choice for choice in now if choice not in was]
        same = [(choice, choice) for choice in was if choice in now]
        for predicted, annotated in [*same, *zip(gone, new, strict=False)]:
            outcome: Outcome = "kept" if predicted == annotated else "relabelled"
            matches.append(_choice(outcome, control, predicted, annotated, was[predicted]))
        matches += [_choice("removed", control, choice, None, was[choice]) for choice in gone[len(new) :]]
        matches += [_choice("added", control, None, choice, None) for choice in new[len(gone) :]]
    return matches


def _choice(
    outcome: Outcome, control: str, predicted: str | None, annotated: str | None, score: float | None
) -> Match:
    return Match(
        outcome=outcome,
        type="choices",
        control=control,
        predicted=predicted,
        annotated=annotated,
        score=score,
    )


# --- reading a `result`


def _side(result: Iterable[Any]) -> _Side:
    regions = [
        item for item in result if isinstance(item, Mapping) and isinstance(item.get("value"), Mapping)
    ]
    side = _Side(boxes=[], choices={}, others=Counter())
    labelled = {item.get("id") for item in regions if item.get("type") == "labels"}
    for item in regions:
        type = str(item.get("type"))
        if type == "rectangle" and item.get("id") in labelled:
            continue  # `<Rectangle>` beside `<Labels>` writes two items of one id; the one with the label counts
        box = _box(item) if type in BOX_TYPES or (type == "labels" and "width" in item["value"]) else None
        if box is not None:
            side.boxes.append(box)
        elif type == "choices":
            continue
        else:
            side.others[type] += 1
    ids = {box.id for box in side.boxes}
    for item in regions:
        if item.get("type") == "choices":
            region = str(item.get("id") or "")
            per_region = region if region in ids or "x" in item["value"] else ""
            key = (_place(item), str(item.get("from_name")), per_region)
            chosen = item["value"].get("choices")
            score = _number(item.get("score"))
            for choice in chosen if isinstance(chosen, list) else []:
                side.choices.setdefault(key, {}).setdefault(str(choice), score)
    return side


def _box(item: Mapping[str, Any]) -> Box | None:
    value = item["value"]
    numbers = [_number(value.get(name)) for name in ("x", "y", "width", "height")]
    x, y, width, height = numbers
    if x is None or y is None or width is None or height is None or width < 0 or height < 0:
        return None
    labels = value.get(item["type"])
    wide, high = _number(item.get("original_width")), _number(item.get("original_height"))
    return Box(
        id=str(item.get("id") or ""),
        type=item["type"],
        control=str(item.get("from_name")),
        place=_place(item),
        label=", ".join(sorted(map(str, labels))) if isinstance(labels, list) else "",
        x=x,
        y=y,
        width=width,
        height=height,
        rotation=_number(value.get("rotation")) or 0.0,
        size=(wide, high) if wide and high and wide > 0 and high > 0 else None,
        origin=str(item.get("origin") or ""),
        score=_number(item.get("score")),
    )


def _place(item: Mapping[str, Any]) -> tuple[str, int]:
    page = item.get("item_index")
    return str(item.get("to_name")), page if isinstance(page, int) else 0


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number of hundreds of digits
        return None
