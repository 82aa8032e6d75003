"""What ultralytics gives for one picture, as plain values. Pure; knows its result objects by their attributes only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from bridge.shapes import PixelBox, Size
from ml_backend.detectors import Found, FoundBox, FoundPoint, Mask


def found_of(result: Any, names: Mapping[int, str]) -> Found:
    """`names` by class number. Objects whose score or place is no number are left out."""
    if result.probs is not None:
        scores = result.probs.data.tolist()
        return Found(class_scores=tuple((names[index], float(score)) for index, score in enumerate(scores)))
    if result.obb is not None:
        return Found(boxes=tuple(_oriented(result.obb, names)))
    if result.boxes is None:
        return Found()
    height, width = result.orig_shape
    masks = None if result.masks is None else result.masks.data.cpu().numpy()
    points = None if result.keypoints is None else result.keypoints.data.tolist()
    boxes = []
    for index, (corners, kind, score) in enumerate(_rows(result.boxes, "xyxy")):
        if not all(map(math.isfinite, (*corners, score))):
            continue
        box = PixelBox(x0=corners[0], y0=corners[1], x1=corners[2], y1=corners[3])
        boxes.append(
            FoundBox(
                name=names[int(kind)],
                score=score,
                box=box,
                mask=None if masks is None else mask_in(masks[index], box, (width, height)),
                points=() if points is None else tuple(_point(point, score) for point in points[index]),
            )
        )
    return Found(boxes=tuple(boxes))


def _oriented(obb: Any, names: Mapping[int, str]) -> list[FoundBox]:
    found = []
    for corners, kind, score in _rows(obb, "xyxyxyxy"):
        points = tuple((float(x), float(y)) for x, y in corners)
        across, down = [x for x, _ in points], [y for _, y in points]
        if not all(map(math.isfinite, (*across, *down, score))):
            continue
        box = PixelBox(x0=min(across), y0=min(down), x1=max(across), y1=max(down))
        found.append(FoundBox(name=names[int(kind)], score=score, box=box, corners=points))
    return found


def _rows(boxes: Any, places: str) -> list[tuple[Any, float, float]]:
    return list(zip(getattr(boxes, places).tolist(), boxes.cls.tolist(), boxes.conf.tolist(), strict=True))


def _point(point: list[float], score: float) -> FoundPoint:
    """x, y and, of models that tell it, the point's own score."""
    return FoundPoint(x=point[0], y=point[1], score=point[2] if len(point) > 2 else score)


def mask_in(seen: np.ndarray, box: PixelBox, size: Size) -> Mask | None:
    """A mask as the network sees the picture (reduced, with bars beside it), as pixels of the picture within the box.

    `seen`: (height, width), 0 or 1. None when the box has no pixel on the picture."""
    left, top = max(0, math.floor(box.x0)), max(0, math.floor(box.y0))
    right, lower = min(size[0], math.ceil(box.x1)), min(size[1], math.ceil(box.y1))
    if right <= left or lower <= top:
        return None
    scale = min(seen.shape[1] / size[0], seen.shape[0] / size[1])
    inner = round(size[0] * scale), round(size[1] * scale)
    # Where ultralytics' LetterBox puts the picture: half of the bars on each side, less a hair.
    bar_x = round((seen.shape[1] - inner[0]) / 2 - 0.1)
    bar_y = round((seen.shape[0] - inner[1]) / 2 - 0.1)
    across, down = inner[0] / size[0], inner[1] / size[1]
    part = Image.fromarray((seen > 0).astype(np.uint8) * 255).resize(
        (right - left, lower - top),
        Image.Resampling.BILINEAR,
        (bar_x + left * across, bar_y + top * down, bar_x + right * across, bar_y + lower * down),
    )
    return Mask(left=left, top=top, pixels=np.asarray(part) >= 128)
