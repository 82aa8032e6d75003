"""`<RectangleLabels>`: a rectangle for every object found; with `model_obb="true"` one that is turned. Pure."""

from __future__ import annotations

from typing import Any

from bridge.shapes import PixelBox, Size, clamped, percent_from_pixels, rotated_from_corners
from ml_backend.attributes import Asked
from ml_backend.controls.base import ControlType, Region, Target, labelled
from ml_backend.detectors import Found, FoundBox


def to_regions(found: Found, target: Target) -> list[Region]:
    """Boxes are cut at the image's edge; one that has no area on it is left out."""
    regions = []
    for seen, label in labelled(found, target):
        value = (
            turned(seen, target.seen)
            if target.control.asked.obb and seen.corners
            else upright(seen.box, target.seen)
        )
        if value is not None:
            value["rectanglelabels"] = [label]
            regions.append(target.region(type="rectanglelabels", value=value, score=seen.score))
    return regions


def upright(box: PixelBox, size: Size) -> dict[str, Any] | None:
    """A rectangle's value without labels; None without area on the image."""
    inside = clamped(percent_from_pixels(box, size))
    if inside is None:
        return None
    return {"x": inside.x, "y": inside.y, "width": inside.width, "height": inside.height, "rotation": 0}


def turned(seen: FoundBox, size: Size) -> dict[str, Any] | None:
    """The same for an oriented box. Label Studio turns about the upper left corner, clockwise, in pixels."""
    box = rotated_from_corners(seen.corners, size)
    if box is None:
        return None
    return {"x": box.x, "y": box.y, "width": box.width, "height": box.height, "rotation": box.rotation}


def model_tasks(asked: Asked) -> tuple[str, ...]:
    """Every model of objects tells upright boxes; only one of oriented boxes tells turned ones."""
    return ("obb",) if asked.obb else ("detect", "segment", "pose", "obb")


RECTANGLE_LABELS = ControlType(
    tag="RectangleLabels", label_tag="Label", model_tasks=model_tasks, to_regions=to_regions
)
