"""`<Choices>` on an image: what a classification model says of the whole image. Pure.

`choice="single"` (Label Studio's default) and `"single-radio"`: the best class that has a choice, if it reaches the
threshold. `"multiple"`: every one that does. Pages of one `<Image>` are one thing, unless the control says `perItem="true"`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ml_backend.controls.base import ControlType, Region, Target, always
from ml_backend.detectors import Found
from ml_backend.labels import ConfigLabel


def to_regions(found: Found, target: Target) -> list[Region]:
    """No region, or one. The score is the mean of the choices'."""
    chosen = best_labels(found, target)[: None if target.control.asked.choice == "multiple" else 1]
    if not chosen:
        return []
    nested = target.control.nested
    value = {"choices": [list(label.path) if nested else label.written for label, _ in chosen]}
    return [target.region(type="choices", value=value, score=mean(chosen))]


def best_labels(found: Found, target: Target) -> list[tuple[ConfigLabel, float]]:
    """The labels that reach the threshold, best first. Several classes of one label count as its best."""
    best: dict[ConfigLabel, float] = {}
    for name, score in found.class_scores:
        label = target.labels.label_of.get(name)
        if label is not None and score >= target.threshold:
            best[label] = max(score, best.get(label, 0.0))
    return sorted(best.items(), key=lambda item: -item[1])


def of_all_pages(pages: Iterable[Found]) -> Found:
    """What a model says of several pages taken together: of each class the best page."""
    best: dict[str, float] = {}
    for page in pages:
        for name, score in page.class_scores:
            best[name] = max(score, best.get(name, 0.0))
    return Found(class_scores=tuple(best.items()))


def mean(chosen: list[tuple[ConfigLabel, float]]) -> float:
    return sum(score for _, score in chosen) / len(chosen)


CHOICES = ControlType(
    tag="Choices", label_tag="Choice", model_tasks=always("classify"), to_regions=to_regions, whole=True
)
