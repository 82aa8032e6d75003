"""What one control type is: which models serve it, and how what they find becomes regions. Pure.

A control decodes and nothing else: the model has looked already, once, whatever the number of controls that read
what it found; and what a control is given has been narrowed to its own scores, classes and labels (ml_backend/fit.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.shapes import Point, Size
from ml_backend.attributes import Asked
from ml_backend.config import ControlTag
from ml_backend.detectors import Found, FoundBox
from ml_backend.labels import LabelMap, how_to_match, match_labels

Region = dict[str, Any]
"""One item of a prediction's `result`, as Label Studio stores it."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the regions of one control on one picture or video go.

    `seen`: size in px of what the model was given; `shown`: as Label Studio displays it, EXIF orientation applied.
    `threshold`: the score that a region needs. `parent`: the control that holds the rectangles round key points.
    `item_index`: the page, of an `<Image valueList=…>`."""

    control: ControlTag
    labels: LabelMap
    threshold: float
    seen: Size
    shown: Size
    new_id: Callable[[], str]
    parent: ControlTag | None = None
    item_index: int | None = None

    def region(self, *, type: str, value: dict[str, Any], score: float, **more: Any) -> Region:
        """What every region has. Without `original_width` and `original_height` at this level, Label Studio's COCO and
        VOC exports leave the region out (label_studio_sdk 2.1.2, converter)."""
        page = {} if self.item_index is None else {"item_index": self.item_index}
        return {
            "id": self.new_id(),
            "from_name": self.control.name,
            "to_name": self.control.to_name,
            "type": type,
            "original_width": self.shown[0],
            "original_height": self.shown[1],
            "image_rotation": 0,
            **page,
            "value": value,
            "score": score,
            **more,
        }

    def percent(self, point: Point) -> Point:
        """A point in px of the picture seen, in percent, brought onto the picture."""
        x, y = 100 * point[0] / self.seen[0], 100 * point[1] / self.seen[1]
        return min(max(x, 0.0), 100.0), min(max(y, 0.0), 100.0)


class ToRegions(Protocol):
    def __call__(self, found: Found, target: Target) -> list[Region]:
        """The regions of one picture, complete. `found` has only what the control wants, best scores first."""


class Following(Protocol):
    """What a control makes of a video, frame by frame."""

    def see(self, frame: int, found: Found, picture: Any) -> None:
        """One of the frames that were looked at, in order; `frame` is Label Studio's number, from 1."""

    def regions(self, *, frames: int, duration_s: float, framerate: float) -> list[Region]:
        """At the end: `frames` as Label Studio counts them, `framerate` of them a second."""


def always(*tasks: str) -> Callable[[Asked], tuple[str, ...]]:
    """Models of these tasks, whatever the control's attributes are."""
    return lambda asked: tasks


def by_class(control: ControlTag, class_names: Sequence[str], point_names: Sequence[str]) -> LabelMap:
    """The labels of a control by the classes of a model; empty, and saying so, when none matches."""
    found = match_labels(control.labels, class_names)
    if found.label_of:
        return found
    tag = "Choice" if control.kind in ("choices", "taxonomy") else "Label"
    return LabelMap(problems=(*found.problems, how_to_match(control.labels, class_names, tag=tag)))


@dataclass(frozen=True, kw_only=True)
class ControlType:
    """`tag` and `label_tag` are Label Studio's names; `model_tasks` are YOLO's names of the models that serve it.

    One on images has `to_regions`; one on videos has `follow`, which begins a video: (target, tracker opener)."""

    tag: str
    label_tag: str
    model_tasks: Callable[[Asked], tuple[str, ...]]
    to_regions: ToRegions | None = None
    follow: Callable[[Target, OpenTracker], Following] | None = None
    match: Callable[[ControlTag, Sequence[str], Sequence[str]], LabelMap] = by_class
    default_conf: float | None = None  # what it takes instead of MODEL_SCORE_THRESHOLD
    labels_from: str = ""  # where its labels stand, if not in itself
    whole: bool = False  # what it says is about the whole of a picture, or of all pages together

    @property
    def media(self) -> str:
        """The tag of what it is put on, in lower case."""
        return "image" if self.to_regions is not None else "video"


class Tracker(Protocol):
    """Follows objects from frame to frame of one video; a tracker of its own for every video and control."""

    def update(self, boxes: Sequence[FoundBox], picture: Any) -> list[tuple[int, FoundBox]]:
        """The objects of the next frame, each with the number of its track."""


OpenTracker = Callable[[Asked], Tracker]


def labelled(found: Found, target: Target) -> Iterator[tuple[FoundBox, str]]:
    """The objects that have a label, with the label as regions hold it."""
    for seen in found.boxes:
        label = target.labels.label_of.get(seen.name)
        if label is not None:
            yield seen, label.written
