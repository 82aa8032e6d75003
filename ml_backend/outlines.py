"""The outline of a mask as a valid polygon: at least three corners, no edge that meets another. Pure."""

from __future__ import annotations

import numpy as np

from bridge.shapes import Point
from ml_backend.detectors import Mask

_FINER = 2  # the mask is traced at this multiple: a line one pixel wide has an area then
_ROOM = 3  # round it, for what closes gaps
_BLOCK = 128  # edges compared with all others at once
_MOST_CORNERS = 2000  # an outline with more is taken coarser


def outline_of(mask: Mask, *, tolerance_px: float) -> tuple[Point, ...]:
    """The corners in px of the image, of the mask's largest piece, without its holes; () for a mask without pixels.

    No point of the mask's edge is farther from the outline than the tolerance (and half a pixel), unless the mask is so
    frayed that only a coarser outline is valid."""
    import cv2

    pixels = np.ascontiguousarray(mask.pixels, dtype=np.uint8)
    if not pixels.any():
        return ()
    finer = np.pad(pixels.repeat(_FINER, axis=0).repeat(_FINER, axis=1), _ROOM)
    closed = cv2.morphologyEx(finer, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    finer_tolerances = [tolerance_px * share for share in (1.0, 0.5, 0.25, 0.0)]
    coarser_tolerances = [tolerance_px + more for more in (0.5, 1.0, 2.0, 4.0)]
    tries = [(finer, finer_tolerances), (closed, finer_tolerances), (closed, coarser_tolerances)]
    for tidied, tolerances in tries:
        contours, _ = cv2.findContours(tidied, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        contour = max(contours, key=cv2.contourArea)
        for tolerance in dict.fromkeys(tolerances):
            corners = cv2.approxPolyDP(contour, tolerance * _FINER, True).reshape(-1, 2)
            if is_valid(corners):
                return _in_image(corners, mask)
    hull = cv2.convexHull(contour).reshape(-1, 2)
    return _in_image(hull, mask) if len(hull) >= 3 else ()


def is_valid(corners: np.ndarray) -> bool:
    """Whether corners (n, 2) in order are a polygon: three of them, an area, no edge that touches one not beside it."""
    count = len(corners)
    if count < 3 or len(np.unique(corners, axis=0)) < count:
        return False
    ends = np.roll(corners, -1, axis=0)
    x, y = corners[:, 0].astype(np.float64), corners[:, 1].astype(np.float64)
    if abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) < 1e-9:
        return False
    if count == 3:
        return True
    if count > _MOST_CORNERS:
        return False
    points, following = corners.astype(np.float64), ends.astype(np.float64)
    return not any(
        _meet(points, following, slice(start, start + _BLOCK)) for start in range(0, count, _BLOCK)
    )


def _meet(points: np.ndarray, ends: np.ndarray, block: slice) -> bool:
    """Whether an edge of a block of them meets any edge that is not beside it."""
    a, b, c, d = points[block, None], ends[block, None], points[None], ends[None]
    crossing = (_side(a, b, c) * _side(a, b, d) <= 0) & (_side(c, d, a) * _side(c, d, b) <= 0)
    # Edges on one line meet only where their extents do.
    for axis in (0, 1):
        low, high = np.minimum(a, b)[..., axis], np.maximum(a, b)[..., axis]
        other_low, other_high = np.minimum(c, d)[..., axis], np.maximum(c, d)[..., axis]
        crossing &= (low <= other_high) & (other_low <= high)
    index = np.arange(len(points))
    apart = (index[block, None] - index[None]) % len(points)
    return bool((crossing & (apart > 1) & (apart < len(points) - 1)).any())


def _side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """On which side of a line from a to b c lies: the sign of twice the triangle's area."""
    along, to = b - a, c - a
    return np.sign(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])


def _in_image(corners: np.ndarray, mask: Mask) -> tuple[Point, ...]:
    """From places in the finer, padded mask to px of the image: the middles of its pixels."""
    return tuple(
        (mask.left + (float(x) - _ROOM + 0.5) / _FINER, mask.top + (float(y) - _ROOM + 0.5) / _FINER)
        for x, y in corners
    )
