"""Stretches that people drew on a timeline, as what holds at each frame; and back, from probabilities. Pure.

Frames are Label Studio's: from 1, both ends of a range included. A step is a frame that was looked at: where several frames
show one picture, it stands for all of them (ml_backend/video.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One label from frame `start` to frame `end`; `score`: the mean of what was predicted for its frames."""

    label: str
    start: int
    end: int
    score: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How what is predicted agrees with what people drew, over all frames and labels."""

    f1: float
    accuracy: float


def stretches_of(result: Any, control: str) -> tuple[Stretch, ...]:
    """What an annotation's `result` holds of one control. What cannot be read is left out."""
    found = []
    for region in result if isinstance(result, list) else []:
        value = region.get("value") if isinstance(region, Mapping) else None
        if not isinstance(value, Mapping) or region.get("from_name") != control:
            continue
        ranges, labels = value.get("ranges"), value.get("timelinelabels")
        for label in labels if isinstance(labels, list) else []:
            for one in ranges if isinstance(ranges, list) else []:
                ends = _ends(one)
                if isinstance(label, str) and ends is not None:
                    found.append(Stretch(label=label, start=ends[0], end=ends[1]))
    return tuple(found)


def holds(
    stretches: Sequence[Stretch], labels: Sequence[str], steps: Sequence[int] | np.ndarray, frames: int
) -> np.ndarray:
    """Bool (steps, labels): whether a label holds at the middle of a step's frames. Other labels are passed over."""
    firsts = np.asarray(steps, dtype=np.int64)
    lasts = np.append(firsts[1:] - 1, frames)
    middles = (firsts + lasts) // 2
    found = np.zeros((len(firsts), len(labels)), dtype=bool)
    place = {label: index for index, label in enumerate(labels)}
    for one in stretches:
        if one.label in place:
            found[:, place[one.label]] |= (middles >= one.start) & (middles <= one.end)
    return found


def predicted_stretches(
    probabilities: np.ndarray,
    labels: Sequence[str],
    steps: Sequence[int] | np.ndarray,
    frames: int,
    *,
    threshold: float,
) -> list[Stretch]:
    """Where each label reaches the threshold, in order. `probabilities`: (steps, labels), 0…1."""
    found = []
    for index, label in enumerate(labels):
        scores = probabilities[:, index]
        on = np.concatenate(([False], scores >= threshold, [False]))
        edges = np.flatnonzero(on[1:] != on[:-1])
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            # A step lasts until the next one's first frame.
            last = int(steps[end]) - 1 if end < len(steps) else frames
            score = float(np.mean(scores[begin:end]))
            found.append(Stretch(label=label, start=int(steps[begin]), end=last, score=score))
    return sorted(found, key=lambda one: (one.start, one.end))


def agreement(probabilities: np.ndarray, truth: np.ndarray, *, level: float = 0.5) -> Agreement:
    """Both (frames, labels). Without anything to find, and nothing found, F1 is 1."""
    said = probabilities >= level
    right = int(np.sum(said & truth))
    wrong = int(np.sum(said != truth))
    f1 = 2 * right / (2 * right + wrong) if right + wrong else 1.0
    return Agreement(f1=f1, accuracy=1 - wrong / truth.size if truth.size else 1.0)


def _ends(one: Any) -> tuple[int, int] | None:
    if not isinstance(one, Mapping):
        return None
    start, end = one.get("start"), one.get("end")
    for value in (start, end):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
    assert start is not None
    assert end is not None
    return (int(min(start, end)), int(max(start, end)))
