"""`<Choices>` on an image: what a classification model says of the whole image. Pure.

`choice="single"` (Label Studio's default) and `"single-radio"`: the best class that has a choice, if it reaches the
threshold. `"multiple"`: every one that does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ml_backend.config import ControlTag
from ml_backend.controls.base import ControlType, Region, region
from ml_backend.decode import LoadedImage
from ml_backend.detectors import Found


def to_regions(
    found: Found,
    *,
    control: ControlTag,
    label_of: Mapping[str, str],
    threshold: float,
    loaded: LoadedImage,
    new_id: Callable[[], str],
) -> list[Region]:
    """No region, or one. Several classes of one choice count as its best; the score is the mean of the choices'."""
    best: dict[str, float] = {}
    for name, score in found.class_scores:
        if name in label_of and math.isfinite(score) and score >= threshold:
            best[label_of[name]] = max(score, best.get(label_of[name], 0.0))
    ranked = sorted(best, key=lambda choice: -best[choice])
    chosen = ranked if control.choice == "multiple" else ranked[:1]
    if not chosen:
        return []
    score = sum(best[choice] for choice in chosen) / len(chosen)
    return [region(control, loaded, new_id, type="choices", value={"choices": chosen}, score=score)]


CHOICES = ControlType(tag="Choices", label_tag="Choice", model_tasks=("classify",), to_regions=to_regions)
