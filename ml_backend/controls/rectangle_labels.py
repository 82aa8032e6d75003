"""`<RectangleLabels>`: a rectangle for every object found. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from bridge.shapes import clamped, percent_from_pixels
from ml_backend.config import ControlTag
from ml_backend.controls.base import ControlType, Region, region
from ml_backend.decode import LoadedImage
from ml_backend.detectors import Found


def to_regions(
    found: Found,
    *,
    control: ControlTag,
    label_of: Mapping[str, str],
    threshold: float,
    loaded: LoadedImage,
    new_id: Callable[[], str],
) -> list[Region]:
    """Best scores first. Boxes are cut at the image's edge; one that has no area on it is left out."""
    regions = []
    for seen in sorted(found.boxes, key=lambda seen: -seen.score):
        box = clamped(percent_from_pixels(seen.box, loaded.image.size))
        if (
            seen.name not in label_of
            or not math.isfinite(seen.score)
            or seen.score < threshold
            or box is None
        ):
            continue
        value = {
            "x": box.x,
            "y": box.y,
            "width": box.width,
            "height": box.height,
            "rotation": 0,
            "rectanglelabels": [label_of[seen.name]],
        }
        regions.append(region(control, loaded, new_id, type="rectanglelabels", value=value, score=seen.score))
    return regions


RECTANGLE_LABELS = ControlType(
    tag="RectangleLabels", label_tag="Label", model_tasks=("detect", "segment", "pose"), to_regions=to_regions
)
