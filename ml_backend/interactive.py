"""Interactive pre-annotation: of what the model found, what fits a rectangle or a point that a person has just drawn. Pure.

Label Studio's page (1.23.2: DataManager.jsx, KeyPointRegion.jsx) sends the regions of its smart tools as
`params.context.result`, in the form in which it stores regions: one item a shape, and one more of the same id for labels
of a separate `<Labels>`. Points of the minus key have `is_positive` false. The reply's one prediction takes their
place. What a person drew says where and which label; the model says the exact outline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bridge.agreement import area, clip
from bridge.shapes import Point, RotatedBox, Size, corners_of
from ml_backend.brush import Marked, decode
from ml_backend.controls.base import Region
from ml_backend.plan import Plan, Planned
from ml_backend.predict import TaskResult

LEAST_SCORE = 0.1  # a person points at it: the model may be far less sure than where it looks alone
_LEAST_IOU = 0.1  # of a drawn rectangle and what it may mean
_SAME_LABEL_IOU = 0.3  # from here on, the label asked for goes before a better fit
_RECTANGLES = ("rectanglelabels", "rectangle", "ellipselabels", "ellipse")
_POINTS = ("keypointlabels", "keypoint")
_RANK = {"brushlabels": 0, "polygonlabels": 1, "rectanglelabels": 2}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One thing drawn. `box`: percent of the picture, or None for a point, which is at `x`, `y`.

    `label` is None where the tool has none; `wanted` is False of a point that the object must not hold."""

    from_name: str
    to_name: str
    item_index: int
    label: str | None
    x: float
    y: float
    box: RotatedBox | None = None
    wanted: bool = True


def read_context(context: Any) -> tuple[Drawn, ...] | None:
    """What was drawn; None when nothing was, which asks for an ordinary prediction. Raises nothing: shapes that are
    neither a rectangle, an ellipse nor a point are left out."""
    listed = context.get("result") if isinstance(context, Mapping) else None
    if not isinstance(listed, list) or not listed:
        return None
    labels = {str(item["id"]): label for item in listed if (label := _label(item)) and "id" in item}
    return tuple(found for item in listed if (found := _drawn(item, labels)) is not None)


def eager(plan: Plan) -> Plan:
    """The plan with lower thresholds, for pictures only: nobody draws on a video and waits."""
    return replace(
        plan,
        planned=tuple(
            replace(item, threshold=min(item.threshold, LEAST_SCORE))
            for item in plan.planned
            if item.kind.media == "image" and item.kind.label_tag == "Label"
        ),
    )


def snapped(result: TaskResult, drawn: Sequence[Drawn], planned: Sequence[Planned]) -> TaskResult:
    """The regions that fit what was drawn, best control first: that of a drawn rectangle itself, then masks, then
    rectangles, then objects with key points.

    Each rectangle gets the one of highest IoU, all points together the smallest that holds them; both of the label asked
    for, else of any, which then gets that label where its control has it. No regions where nothing fits."""
    if result.problem is not None:
        return result
    labels = {item.control.name: {label.written for label in item.control.labels} for item in planned}
    if not drawn:
        return replace(result, regions=())
    objects = _objects(result.regions)
    chosen: dict[str, _Object] = {}
    points = [one for one in drawn if one.box is None]
    asked = [[one] for one in drawn if one.box is not None] or [points]
    for shapes in asked:
        together = [*shapes, *(point for point in points if point not in shapes)]
        found = _best(objects, together)
        if found is not None:
            label = next((one.label for one in shapes if one.label and one.wanted), None)
            chosen.setdefault(str(found.lead["id"]), found.called(label, labels))
    return replace(result, regions=tuple(region for found in chosen.values() for region in found.regions))


@dataclass(frozen=True)
class _Object:
    """One thing the model found, as one control writes it: a region, or a rectangle with its key points."""

    regions: tuple[Region, ...]

    @property
    def lead(self) -> Region:
        return self.regions[0]

    @property
    def type(self) -> str:
        return str(self.lead["type"])

    @property
    def label(self) -> str:
        return str(self.lead["value"][self.type][0])

    @property
    def size(self) -> Size:
        return self.lead["original_width"], self.lead["original_height"]

    @cached_property
    def mask(self) -> Marked:
        """Of a brush."""
        return decode(self.lead["value"]["rle"], width=self.size[0])

    @cached_property
    def outline(self) -> list[Point]:
        """In px: of a rectangle or polygon itself, of a brush the rectangle round it."""
        value = self.lead["value"]
        if self.type == "rectanglelabels":
            return list(corners_of(_box(value), self.size))
        if self.type == "polygonlabels":
            return [_pixels(x, y, self.size) for x, y in value["points"]]
        return _rectangle(*self.mask.box())

    @cached_property
    def area_px(self) -> float:
        return float(self.mask.area_px) if self.type == "brushlabels" else area(self.outline)

    def holds(self, x: float, y: float) -> bool:
        """Whether it covers a point given in percent. None covers one beside the picture, or a NaN."""
        if not (0 <= x <= 100 and 0 <= y <= 100):
            return False
        across, down = _pixels(x, y, self.size)
        if self.type != "brushlabels":
            return _inside(self.outline, across, down)
        width, height = self.size
        return self.mask.holds(min(int(across), width - 1), min(int(down), height - 1))

    def iou(self, box: RotatedBox) -> float:
        """With a rectangle; of a polygon or a brush, the rectangle round it counts."""
        other = list(corners_of(box, self.size))
        own = self.outline if self.type == "rectanglelabels" else _around(self.outline)
        both = area(clip(own, other))
        together = area(own) + area(other) - both
        return both / together if together > 0 else 0.0

    def called(self, label: str | None, labels: Mapping[str, Iterable[str]]) -> _Object:
        """With the label a person asked for, where its control has that one."""
        if label is None or label == self.label or label not in labels.get(self.lead["from_name"], ()):
            return self
        lead = self.lead | {"value": self.lead["value"] | {self.type: [label]}}
        return _Object((lead, *self.regions[1:]))


def _objects(regions: Sequence[Region]) -> list[_Object]:
    """Choices have no place on the picture, and points without their rectangle hold nothing: they are left out."""
    return [
        _Object((region, *(other for other in regions if other.get("parentID") == region["id"])))
        for region in regions
        if region["type"] in _RANK and "parentID" not in region
    ]


def _best(objects: Sequence[_Object], drawn: Sequence[Drawn]) -> _Object | None:
    """`drawn`: a rectangle or the first point, then points beside it."""
    first = drawn[0]
    unwanted = [one for one in drawn if not one.wanted]
    fitting = [
        found
        for found in objects
        if found.lead["to_name"] == first.to_name
        and found.lead.get("item_index", 0) == first.item_index
        and not any(found.holds(one.x, one.y) for one in unwanted)
    ]
    controls: dict[tuple[int, str], list[_Object]] = {}
    for found in fitting:
        own = first.box is not None and found.lead["from_name"] == first.from_name
        rank = -1 if own else 3 if len(found.regions) > 1 else _RANK[found.type]
        controls.setdefault((rank, found.lead["from_name"]), []).append(found)
    for _, candidates in sorted(controls.items(), key=lambda one: one[0][0]):
        best = _by_box(candidates, first) if first.box is not None else _by_points(candidates, drawn)
        if best is not None:
            return best
    return None


def _by_box(candidates: Sequence[_Object], drawn: Drawn) -> _Object | None:
    assert drawn.box is not None
    rated = sorted(((found.iou(drawn.box), found) for found in candidates), key=lambda one: -one[0])
    same = [found for iou, found in rated if iou >= _SAME_LABEL_IOU and found.label == drawn.label]
    return next((found for found in (*same, *(found for iou, found in rated if iou >= _LEAST_IOU))), None)


def _by_points(candidates: Sequence[_Object], drawn: Sequence[Drawn]) -> _Object | None:
    wanted = [one for one in drawn if one.wanted]
    holding = [found for found in candidates if all(found.holds(one.x, one.y) for one in wanted)]
    if not wanted or not holding:
        return None
    label = next((one.label for one in wanted if one.label), None)
    return min(
        [found for found in holding if found.label == label] or holding, key=lambda found: found.area_px
    )


def _label(item: Any) -> str | None:
    """The first label of an item of any type."""
    value = item.get("value") if isinstance(item, Mapping) else None
    if not isinstance(value, Mapping):
        return None
    found = value.get(str(item.get("type"))) or value.get("labels")
    return found[0] if isinstance(found, list) and found and isinstance(found[0], str) else None


def _drawn(item: Any, labels: Mapping[str, str]) -> Drawn | None:
    value = item.get("value") if isinstance(item, Mapping) else None
    if not isinstance(value, Mapping):
        return None
    kind = str(item.get("type"))
    if kind not in (*_RECTANGLES, *_POINTS):
        return None
    index = item.get("item_index")
    try:
        box = None if kind in _POINTS else _round(value) if kind.startswith("ellipse") else _box(value)
        return Drawn(
            from_name=str(item.get("from_name")),
            to_name=str(item.get("to_name")),
            item_index=index if isinstance(index, int) else 0,
            label=_label(item) or labels.get(str(item.get("id"))),
            x=float(value["x"]),
            y=float(value["y"]),
            box=box,
            wanted=kind not in _POINTS or bool(item.get("is_positive", True)),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _box(value: Mapping[str, Any]) -> RotatedBox:
    x, y, width, height = (float(value[name]) for name in ("x", "y", "width", "height"))
    return RotatedBox(x=x, y=y, width=width, height=height, rotation=float(value.get("rotation") or 0))


def _round(value: Mapping[str, Any]) -> RotatedBox:
    """The upright rectangle round an ellipse, which Label Studio gives by its middle and its two radii."""
    x, y, across, down = (float(value[name]) for name in ("x", "y", "radiusX", "radiusY"))
    return RotatedBox(x=x - across, y=y - down, width=2 * across, height=2 * down, rotation=0)


def _pixels(x: float, y: float, size: Size) -> Point:
    return x / 100 * size[0], y / 100 * size[1]


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _around(outline: Sequence[Point]) -> list[Point]:
    across, down = [x for x, _ in outline], [y for _, y in outline]
    return _rectangle(min(across), min(down), max(across), max(down))


def _inside(outline: Sequence[Point], x: float, y: float) -> bool:
    """By the number of edges to the right of the point."""
    crossed = False
    for (x0, y0), (x1, y1) in zip(outline, [*outline[1:], outline[0]], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            crossed = not crossed
    return crossed
