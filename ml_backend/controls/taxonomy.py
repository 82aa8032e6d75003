"""`<Taxonomy>` on an image: the best class, or classes, each with the way to it from the root. Pure.

`choice="multiple"` takes every class that reaches the threshold, `maxUsages` at most; otherwise the best one alone.
"""

from __future__ import annotations

from ml_backend.controls.base import ControlType, Region, Target, always
from ml_backend.controls.choices import best_labels, mean
from ml_backend.detectors import Found


def to_regions(found: Found, target: Target) -> list[Region]:
    """No region, or one; the score is the mean of those chosen."""
    asked = target.control.asked
    chosen = best_labels(found, target)[: asked.max_usages if asked.choice == "multiple" else 1]
    if not chosen:
        return []
    value = {"taxonomy": [list(label.path) for label, _ in chosen]}
    return [target.region(type="taxonomy", value=value, score=mean(chosen))]


TAXONOMY = ControlType(
    tag="Taxonomy", label_tag="Choice", model_tasks=always("classify"), to_regions=to_regions, whole=True
)
