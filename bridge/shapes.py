"""Boxes in the three forms we meet, and the ways between them. Pure.

- Label Studio: percent of the displayed image, upper left corner and size, 0…100.
- YOLO files: fractions of the image, centre and size, 0…1.
- pixels: two corners, x to the right and y down, from the upper left corner of the displayed image.
"Displayed" means after the EXIF orientation was applied, as every browser shows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int]
"""Width and height in px, both above 0."""
Point = tuple[float, float]
"""x and y, in px or percent as the name beside it says."""


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
class RotatedBox:
    """Label Studio's `value` of a turned rectangle: percent as in PercentBox, of the rectangle before it was turned
    about its upper left corner, clockwise as seen, by `rotation` degrees, 0…360. The turn is one in pixels."""

    x: float
    y: float
    width: float
    height: float
    rotation: float


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


def corners_of(box: RotatedBox, size: Size) -> tuple[Point, Point, Point, Point]:
    """The corners in px, beginning with that about which it is turned, clockwise as seen."""
    width, height = _checked(size)
    turn = math.radians(box.rotation)
    cosine, sine = math.cos(turn), math.sin(turn)
    left, upper = box.x * width / 100, box.y * height / 100
    long, wide = box.width * width / 100, box.height * height / 100

    def at(across: float, down: float) -> Point:
        return left + across * cosine - down * sine, upper + across * sine + down * cosine

    return at(0, 0), at(long, 0), at(long, wide), at(0, wide)


def rotated_from_corners(corners: Sequence[Point], size: Size) -> RotatedBox | None:
    """The turned rectangle with these four corners in px, in order round it; None when it has no area on the image.

    Any corner may be the one it is turned about, which gives four ways to write one rectangle: the one with the
    smallest turn whose numbers lie in 0…100 is taken. A rectangle that leaves the image becomes the rectangle of
    the same direction round what lies on it; where even that cannot be written in 0…100, the upright one."""
    width, height = _checked(size)
    visible = _on_image(corners, width, height)
    if not all(math.isfinite(value) for corner in corners for value in corner) or len(visible) < 3:
        return None
    first, second = corners[0], corners[1]
    direction = math.atan2(second[1] - first[1], second[0] - first[0])
    inside = all(-0.01 <= x <= width + 0.01 and -0.01 <= y <= height + 0.01 for x, y in corners)
    written = _around(corners if inside else visible, direction, (width, height))
    fitting = [box for box in written if _within(box)] or [
        box for box in _around(visible, 0.0, (width, height)) if box.rotation == 0
    ]
    best = min(fitting, key=lambda box: min(box.rotation, 360 - box.rotation))
    if not (best.width > 0 and best.height > 0):
        return None
    x, y = min(max(best.x, 0.0), 100.0), min(max(best.y, 0.0), 100.0)
    return RotatedBox(
        x=x, y=y, width=min(best.width, 100.0), height=min(best.height, 100.0), rotation=best.rotation
    )


def _around(points: Sequence[Point], direction: float, size: Size) -> list[RotatedBox]:
    """The rectangle with sides along `direction` (radians) round the points, in its four ways of being written."""
    cosine, sine = math.cos(direction), math.sin(direction)
    along = [x * cosine + y * sine for x, y in points]
    aside = [-x * sine + y * cosine for x, y in points]
    ends = [
        (min(along), min(aside)),
        (max(along), min(aside)),
        (max(along), max(aside)),
        (min(along), max(aside)),
    ]
    corners = [(a * cosine - b * sine, a * sine + b * cosine) for a, b in ends]
    sides = [max(along) - min(along), max(aside) - min(aside)]
    return [
        RotatedBox(
            x=100 * corners[turn][0] / size[0],
            y=100 * corners[turn][1] / size[1],
            width=100 * sides[turn % 2] / size[0],
            height=100 * sides[(turn + 1) % 2] / size[1],
            rotation=_degrees(direction + turn * math.pi / 2),
        )
        for turn in range(4)
    ]


def _degrees(radians: float) -> float:
    turned = round(math.degrees(radians) % 360, 9)
    return 0.0 if turned in (0, 360) else turned


def _within(box: RotatedBox) -> bool:
    return all(-1e-3 <= number <= 100 + 1e-3 for number in (box.x, box.y, box.width, box.height))


def _on_image(corners: Sequence[Point], width: int, height: int) -> list[Point]:
    """The part of a convex outline that lies on the image: cut at one edge after another."""
    outline = list(corners)
    for axis, edge, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        cut: list[Point] = []
        for index, here in enumerate(outline):
            before = outline[index - 1]
            depth, depth_before = sign * (here[axis] - edge), sign * (before[axis] - edge)
            if depth * depth_before < 0:
                share = depth_before / (depth_before - depth)
                cut.append(
                    (before[0] + share * (here[0] - before[0]), before[1] + share * (here[1] - before[1]))
                )
            if depth >= 0:
                cut.append(here)
        outline = cut
    return outline


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
