"""`<PolygonLabels>`: the outline of every mask found, with few corners. Pure."""

from __future__ import annotations

from ml_backend.controls.base import ControlType, Region, Target, always, labelled
from ml_backend.detectors import Found
from ml_backend.outlines import outline_of


def to_regions(found: Found, target: Target) -> list[Region]:
    """A polygon is one piece without holes: of a mask in pieces, the largest. `model_polygon_tolerance`: how far it may
    lie off the mask's edge, in px of the displayed image. A mask without area is left out."""
    regions = []
    scale = max(target.shown[0] / target.seen[0], target.shown[1] / target.seen[1])
    tolerance_px = target.control.asked.polygon_tolerance / scale
    for seen, label in labelled(found, target):
        outline = outline_of(seen.mask, tolerance_px=tolerance_px) if seen.mask is not None else ()
        if outline:
            points = [list(target.percent(point)) for point in outline]
            value = {"points": points, "closed": True, "polygonlabels": [label]}
            regions.append(target.region(type="polygonlabels", value=value, score=seen.score))
    return regions


POLYGON_LABELS = ControlType(
    tag="PolygonLabels", label_tag="Label", model_tasks=always("segment"), to_regions=to_regions
)
