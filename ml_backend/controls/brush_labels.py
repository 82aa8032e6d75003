"""`<BrushLabels>`: the pixels of every mask found, in Label Studio's run-length form. Pure."""

from __future__ import annotations

from ml_backend.brush import encode, full_mask
from ml_backend.controls.base import ControlType, Region, Target, always, labelled
from ml_backend.detectors import Found


def to_regions(found: Found, target: Target) -> list[Region]:
    """The mask at the size Label Studio displays the image in; one without a pixel is left out."""
    regions = []
    for seen, label in labelled(found, target):
        if seen.mask is None or not seen.mask.pixels.any():
            continue
        rle = encode(full_mask(seen.mask, seen=target.seen, shown=target.shown))
        value = {"format": "rle", "rle": rle, "brushlabels": [label]}
        regions.append(target.region(type="brushlabels", value=value, score=seen.score))
    return regions


BRUSH_LABELS = ControlType(
    tag="BrushLabels", label_tag="Label", model_tasks=always("segment"), to_regions=to_regions
)
