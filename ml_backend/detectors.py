"""What the backend needs of a model, and what a model tells of one picture. Plain values.

`Detector` is the whole of what is known here about YOLO; ml_backend/yolo.py is one, tests bring another. All positions
are px of the image that was given, x to the right and y down from its upper left corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from PIL import Image

from bridge.shapes import PixelBox, Point
from ml_backend.timings import Timing


@dataclass(frozen=True, kw_only=True)
class Mask:
    """The pixels of one object: `pixels` is a bool array (height, width) whose upper left pixel is (left, top)."""

    left: int
    top: int
    pixels: np.ndarray = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class FoundPoint:
    """One key point and its score 0…1."""

    x: float
    y: float
    score: float


@dataclass(frozen=True, kw_only=True)
class FoundBox:
    """One object: the class's name, the score 0…1, the upright box; and what the model's task adds to it.

    `corners`: four, in order round the oriented box (obb). `mask` (segment). `points`, by the model's numbers (pose).
    """

    name: str
    score: float
    box: PixelBox
    corners: tuple[Point, ...] = ()
    mask: Mask | None = None
    points: tuple[FoundPoint, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a model sees on one image: objects, or (classification) a score for every class; and how it got there."""

    boxes: tuple[FoundBox, ...] = ()
    class_scores: tuple[tuple[str, float], ...] = ()
    timing: Timing | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How to look: what is below `conf` (0…1) is not looked for; None is the model's own way.

    `imgsz`: longer side in px the image is brought to. `iou`: boxes of a class that share more are one. `max_det`:
    objects an image at most. `classes`: names, of which alone objects are wanted. `device`: "cpu", "cuda:0", …"""

    conf: float
    imgsz: int | None = None
    iou: float | None = None
    max_det: int | None = None
    classes: tuple[str, ...] | None = None
    device: str | None = None


class Detector(Protocol):
    """A loaded model. Calls may come from several threads."""

    @property
    def task(self) -> str:
        """YOLO's word for what it does: "detect", "segment", "obb", "pose" or "classify"."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class number."""

    @property
    def point_names(self) -> tuple[str, ...]:
        """Of a pose model: its key points by number, "" for one without a name. Otherwise empty."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Where it can run here."""

    def reduction(self, width: int, height: int, *, look: Look) -> int:
        """By what whole number a picture of this size in px may be divided without less being found: 1 for not at all.
        Width and height may be swapped, for a picture that is not upright yet."""

    def predict(self, images: Sequence[Image.Image], *, look: Look) -> list[Found]:
        """One Found per RGB image, in order."""
