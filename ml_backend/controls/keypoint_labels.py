"""`<KeyPointLabels>`: the points of every object found, and a rectangle that holds them together. Pure.

A label is a point by its `model_index`, or by the name the model has for a point. The rectangle belongs to another
control: `<RectangleLabels name="{name}_bbox">` on the same image, or one there with `model_skip="true"`. Regions
of a control that the config has not, Label Studio could not show; without one the points come alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ml_backend.config import ControlTag
from ml_backend.controls.base import ControlType, Region, Target, always
from ml_backend.controls.rectangle_labels import upright
from ml_backend.detectors import Found, FoundBox
from ml_backend.labels import LabelMap, how_to_point, match_labels, match_points


def to_regions(found: Found, target: Target) -> list[Region]:
    """For each object its rectangle, then its points that reach `model_point_threshold` and lie on the image.

    An object without any such point has no rectangle either."""
    regions: list[Region] = []
    for seen in found.boxes:
        points = _points(seen, target)
        if not points:
            continue
        parent = _parent(seen, target)
        if parent is not None:
            regions.append(parent)
            for point in points:
                point["parentID"] = parent["id"]
        regions += points
    return regions


def _points(seen: FoundBox, target: Target) -> list[Region]:
    asked = target.control.asked
    regions = []
    for index, point in enumerate(seen.points):
        label = target.labels.point_of.get((seen.name, index))
        inside = 0 <= point.x <= target.seen[0] and 0 <= point.y <= target.seen[1]
        if label is None or not inside or not point.score >= asked.point_threshold:
            continue
        x, y = target.percent((point.x, point.y))
        value = {"x": x, "y": y, "width": asked.point_size, "keypointlabels": [label.written]}
        score = point.score if math.isfinite(point.score) else seen.score
        regions.append(target.region(type="keypointlabels", value=value, score=score))
    return regions


def _parent(seen: FoundBox, target: Target) -> Region | None:
    label = target.labels.label_of.get(seen.name)
    value = upright(seen.box, target.seen)
    if target.parent is None or label is None or value is None:
        return None
    value["rectanglelabels"] = [label.written]
    region = target.region(type="rectanglelabels", value=value, score=seen.score)
    return region | {"from_name": target.parent.name}


def match(control: ControlTag, class_names: Sequence[str], point_names: Sequence[str]) -> LabelMap:
    found = match_points(control.labels, class_names, point_names)
    if found.point_of:
        return found
    return LabelMap(problems=(*found.problems, how_to_point(control.labels, class_names, point_names)))


def parent_of(control: ControlTag, controls: Sequence[ControlTag]) -> ControlTag | None:
    """The control that the rectangles go to: that named after ours, or one on the same image that is skipped."""
    if not control.asked.add_bboxes:
        return None
    beside = [one for one in controls if one.kind == "rectanglelabels" and one.source == control.source]
    named = [one for one in beside if one.name == f"{control.name}_bbox"]
    return next(iter([*named, *(one for one in beside if one.skip)]), None)


def match_parent(control: ControlTag, parent: ControlTag | None, class_names: Sequence[str]) -> LabelMap:
    """The labels of the rectangles, or what is missing for them."""
    if not control.asked.add_bboxes:
        return LabelMap()
    found = match_labels(parent.labels, class_names) if parent is not None else LabelMap()
    if found.label_of:
        return found
    example = class_names[0] if class_names else "…"
    problem = (
        "points come without a rectangle that holds them together: write "
        f'<RectangleLabels name="{control.name}_bbox" toName="{control.to_name}" model_skip="true">'
        f'<Label value="{example}"/></RectangleLabels>, or model_add_bboxes="false"'
    )
    return LabelMap(problems=(problem,))


KEYPOINT_LABELS = ControlType(
    tag="KeyPointLabels", label_tag="Label", model_tasks=always("pose"), to_regions=to_regions, match=match
)
