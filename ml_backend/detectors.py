"""What the backend needs of a model, and the models it has at hand.

`Detector` is the whole of what is known here about YOLO; ml_backend/yolo.py is one, tests bring another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from bridge.shapes import PixelBox


@dataclass(frozen=True, kw_only=True)
class FoundBox:
    """One object: the class's name, the score 0…1, the corners in px of the image that was given."""

    name: str
    score: float
    box: PixelBox


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a model sees on one image: boxes (detection), or a score for every class (classification)."""

    boxes: tuple[FoundBox, ...] = ()
    class_scores: tuple[tuple[str, float], ...] = ()


class Detector(Protocol):
    """A loaded model. Calls may come from several threads."""

    @property
    def task(self) -> str:
        """YOLO's word for what it does: "detect", "classify", …"""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def predict(self, images: Sequence[Image.Image], *, threshold: float) -> list[Found]:
        """One Found per RGB image, in order; boxes below the threshold are not looked for."""
