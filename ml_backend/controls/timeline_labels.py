"""`<TimelineLabels>`: the stretches of a video whose frames a classification model sees as a class. Pure.

Frames are Label Studio's: from 1, in the config's frame rate. With `model_trainable="true"` the labels are not classes of the
model but learned from annotations (ml_backend/timeline): `learned_regions` is then what is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ml_backend.controls.base import ControlType, OpenTracker, Region, Target, always
from ml_backend.controls.choices import best_labels
from ml_backend.detectors import Found
from ml_backend.labels import ConfigLabel
from ml_backend.timeline.stretches import Stretch


@dataclass(kw_only=True)
class _Stretch:
    label: ConfigLabel
    start: int
    last_step: int
    scores: list[float]


class _Classified:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._steps: list[int] = []
        self._open: dict[ConfigLabel, _Stretch] = {}
        self._all: list[_Stretch] = []

    def see(self, frame: int, found: Found, picture: Any) -> None:
        step = len(self._steps)
        self._steps.append(frame)
        for label, score in best_labels(found, self._target):
            stretch = self._open.get(label)
            if stretch is None or stretch.last_step != step - 1:
                stretch = _Stretch(label=label, start=frame, last_step=step, scores=[])
                self._open[label] = stretch
                self._all.append(stretch)
            stretch.last_step = step
            stretch.scores.append(score)

    def regions(self, *, frames: int, duration_s: float, framerate: float) -> list[Region]:
        """A region a stretch; its score is the mean of its frames'."""
        found = []
        for stretch in self._all:
            # Where frames of Label Studio share one picture, a stretch goes on to the next picture's first.
            following = stretch.last_step + 1
            end = self._steps[following] - 1 if following < len(self._steps) else frames
            value = {
                "ranges": [{"start": stretch.start, "end": end}],
                "timelinelabels": [stretch.label.written],
            }
            score = sum(stretch.scores) / len(stretch.scores)
            found.append(self._target.region(type="timelinelabels", value=value, score=score))
        return found


def learned_regions(stretches: Sequence[Stretch], target: Target) -> list[Region]:
    """The same regions, of stretches that a learned classifier gives."""
    return [
        target.region(
            type="timelinelabels",
            value={"ranges": [{"start": one.start, "end": one.end}], "timelinelabels": [one.label]},
            score=one.score,
        )
        for one in stretches
    ]


def follow(target: Target, open_tracker: OpenTracker) -> _Classified:
    return _Classified(target)


TIMELINE_LABELS = ControlType(
    tag="TimelineLabels", label_tag="Label", model_tasks=always("classify"), follow=follow
)
