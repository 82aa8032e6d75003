"""The control tags that we can fill: one small file each, listed in `CONTROLS`.

To add one: a file with a `ControlType`, and a line here.
"""

from __future__ import annotations

from ml_backend.controls.base import ControlType
from ml_backend.controls.choices import CHOICES
from ml_backend.controls.rectangle_labels import RECTANGLE_LABELS

CONTROLS: dict[str, ControlType] = {kind.tag.lower(): kind for kind in (RECTANGLE_LABELS, CHOICES)}
"""By tag in lower case."""
