"""The control tags that we can fill: one small file each, listed in `CONTROLS`.

To add one: a file with a `ControlType`, and a line here.
"""

from __future__ import annotations

from ml_backend.controls.base import ControlType
from ml_backend.controls.brush_labels import BRUSH_LABELS
from ml_backend.controls.choices import CHOICES
from ml_backend.controls.keypoint_labels import KEYPOINT_LABELS
from ml_backend.controls.polygon_labels import POLYGON_LABELS
from ml_backend.controls.rectangle_labels import RECTANGLE_LABELS
from ml_backend.controls.taxonomy import TAXONOMY
from ml_backend.controls.timeline_labels import TIMELINE_LABELS
from ml_backend.controls.video_rectangle import VIDEO_RECTANGLE

CONTROLS: dict[str, ControlType] = {
    kind.tag.lower(): kind
    for kind in (
        RECTANGLE_LABELS,
        POLYGON_LABELS,
        BRUSH_LABELS,
        KEYPOINT_LABELS,
        CHOICES,
        TAXONOMY,
        VIDEO_RECTANGLE,
        TIMELINE_LABELS,
    )
}
"""By tag in lower case."""
