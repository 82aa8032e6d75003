"""Boxes in the three forms we meet, and the ways between them. Pure.

- Label Studio: percent of the displayed image, upper left corner and size, 0…100.
- YOLO files: fractions of the image, centre and size, 0…1.
- pixels: two corners, x to the right and y down, from the upper left corner of the displayed image.
"Displayed" means after the EXIF orientation was applied, as every browser shows it.
"""

from __future__ import annotations

from dataclasses import dataclass

Size = tuple[int, int]
"""Width and height in px, both above 0."""


@dataclass(frozen=True, kw_only=True)
class PixelBox:
    """Corners in px: (x0, y0) upper left, (x1, y1) lower right."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, kw_only=True)
class PercentBox:
    """Label Studio's `value` of a rectangle: percent of the image's width and height."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class YoloBox:
    """A line of a YOLO label file: centre and size as fractions of the image."""

    x_centre: float
    y_centre: float
    width: float
    height: float


def percent_from_pixels(box: PixelBox, size: Size) -> PercentBox:
    """Raises ValueError for an image without width or height."""
    width, height = _checked(size)
    return PercentBox(
        x=100 * box.x0 / width,
        y=100 * box.y0 / height,
        width=100 * (box.x1 - box.x0) / width,
        height=100 * (box.y1 - box.y0) / height,
    )


def pixels_from_percent(box: PercentBox, size: Size) -> PixelBox:
    """Raises ValueError for an image without width or height."""
    width, height = _checked(size)
    return PixelBox(
        x0=box.x * width / 100,
        y0=box.y * height / 100,
        x1=(box.x + box.width) * width / 100,
        y1=(box.y + box.height) * height / 100,
    )


def yolo_from_percent(box: PercentBox) -> YoloBox:
    return YoloBox(
        x_centre=(box.x + box.width / 2) / 100,
        y_centre=(box.y + box.height / 2) / 100,
        width=box.width / 100,
        height=box.height / 100,
    )


def percent_from_yolo(box: YoloBox) -> PercentBox:
    return PercentBox(
        x=100 * (box.x_centre - box.width / 2),
        y=100 * (box.y_centre - box.height / 2),
        width=100 * box.width,
        height=100 * box.height,
    )


def clamped(box: PercentBox) -> PercentBox | None:
    """The part of a box that lies on the image, corners in any order; None when there is none of it."""
    left, right = sorted((box.x, box.x + box.width))
    upper, lower = sorted((box.y, box.y + box.height))
    left, right, upper, lower = (min(100.0, max(0.0, edge)) for edge in (left, right, upper, lower))
    # Comparisons with NaN are false: a box that holds one is dropped here too.
    if not (right - left > 0 and lower - upper > 0):
        return None
    # x + width may round to just above 100; Label Studio's own exports then leave the image.
    return PercentBox(
        x=left, y=upper, width=min(right - left, 100 - left), height=min(lower - upper, 100 - upper)
    )


def iou(a: PixelBox, b: PixelBox) -> float:
    """Shared area over joint area, 0…1; 0 for boxes without area."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    if not (width > 0 and height > 0):
        return 0.0
    shared = width * height
    joint = (a.x1 - a.x0) * (a.y1 - a.y0) + (b.x1 - b.x0) * (b.y1 - b.y0) - shared
    return shared / joint if joint > 0 else 0.0


def _checked(size: Size) -> Size:
    if size[0] <= 0 or size[1] <= 0:
        raise ValueError(f"an image of {size[0]}x{size[1]} px has no percent coordinates")
    return size
