"""What one control type is: which models serve it, and how what they find becomes regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ml_backend.config import ControlTag
from ml_backend.decode import LoadedImage
from ml_backend.detectors import Found

Region = dict[str, Any]
"""One item of a prediction's `result`, as Label Studio stores it."""


class ToRegions(Protocol):
    def __call__(
        self,
        found: Found,
        *,
        control: ControlTag,
        label_of: Mapping[str, str],
        threshold: float,
        loaded: LoadedImage,
        new_id: Callable[[], str],
    ) -> list[Region]:
        """The regions of one image, complete; classes without a label, and scores below the threshold, are left out."""


@dataclass(frozen=True, kw_only=True)
class ControlType:
    """`tag` and `label_tag` are Label Studio's names; `model_tasks` are YOLO's names of the models that serve it."""

    tag: str
    label_tag: str
    model_tasks: tuple[str, ...]
    to_regions: ToRegions


def region(control: ControlTag, loaded: LoadedImage, new_id: Callable[[], str], **fields: Any) -> Region:
    """What every region has. Without `original_width` and `original_height` at this level, Label Studio's COCO and
    VOC exports leave the region out (label_studio_sdk 2.1.2, converter)."""
    return {
        "id": new_id(),
        "from_name": control.name,
        "to_name": control.to_name,
        "original_width": loaded.width,
        "original_height": loaded.height,
        "image_rotation": 0,
        **fields,
    }
