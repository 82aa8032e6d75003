"""Controls of a config brought together with loaded models: labels matched, forward passes shared. Pure.

Controls that ask the same model to look in the same way share one pass over each picture; score, classes and number
of objects are then narrowed for each, which gives what a pass of its own would have given: they do not change which
boxes are taken for one object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from ml_backend.attributes import Asked
from ml_backend.controls import CONTROLS
from ml_backend.controls.keypoint_labels import match_parent
from ml_backend.detectors import Detector, Found, Look
from ml_backend.labels import LabelMap, chosen_classes
from ml_backend.plan import Planned, learns
from ml_backend.weights import Weights

_MAX_DET = 300  # ultralytics' own


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One way of looking with one model."""

    weights: Weights
    look: Look


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A control that a model can fill. `classes`: names wanted, None for all."""

    item: Planned
    labels: LabelMap
    classes: tuple[str, ...] | None

    def narrowed(self, found: Found) -> Found:
        """What of a shared pass is this control's: its classes and scores, as many as it wants, best first."""
        boxes = sorted(
            (
                seen
                for seen in found.boxes
                if math.isfinite(seen.score)
                and seen.score >= self.item.threshold
                and (self.classes is None or seen.name in self.classes)
            ),
            key=lambda seen: -seen.score,
        )
        scores = tuple(
            (name, score)
            for name, score in found.class_scores
            if math.isfinite(score) and (self.classes is None or name in self.classes)
        )
        return Found(boxes=tuple(boxes[: self.item.control.asked.max_det or _MAX_DET]), class_scores=scores)


def fit(item: Planned, detector: Detector) -> tuple[Ready | None, tuple[str, ...]]:
    """The control with its labels matched, or None when it stays empty; and what a person should know."""
    control, where = item.control, item.control.where
    wanted = item.kind.model_tasks(control.asked)
    if detector.task not in wanted:
        problem = (
            f"{where} stays empty: it needs a model for {' or '.join(wanted)}, and {item.weights.name} is one for "
            f'{detector.task}. Name another with model_path="…", or write model_skip="true"'
        )
        return None, (problem,)
    device = control.asked.device
    if device is not None and device not in detector.devices:
        problem = f"{where} stays empty: there is no {device} here; model_device may be {', '.join(detector.devices)}"
        return None, (problem,)
    if learns(item):  # its labels are its own; what is missing is said by the plan
        return (Ready(item=item, labels=LabelMap(), classes=None) if item.learned is not None else None), ()
    classes, unknown = chosen_classes(control.asked.classes, detector.class_names)
    problems = [f"{where}: model_classes: the model has no class {name!r}" for name in unknown]
    names = detector.class_names if classes is None else classes
    if not names:
        shown = ", ".join(detector.class_names[:30])
        return None, (*problems, f"{where} stays empty: no class is left. Classes: {shown}")
    found = item.kind.match(control, names, detector.point_names)
    problems += [f"{where}: {problem}" for problem in found.problems]
    if not found.label_of and not found.point_of:
        problems[-1] = problems[-1].replace(f"{where}: ", f"{where} stays empty: ", 1)
        return None, tuple(problems)
    if found.point_of:
        parents = match_parent(control, item.parent, names)
        problems += [f"{where}: {problem}" for problem in parents.problems]
        found = LabelMap(label_of=parents.label_of, point_of=found.point_of)
    return Ready(item=item, labels=found, classes=classes), tuple(problems)


def control_for(task: str, class_names: Sequence[str]) -> str:
    """What to write into a config that has no control for a model, with its classes; "" for a task we cannot use."""
    kind = next((kind for kind in CONTROLS.values() if task in kind.model_tasks(Asked())), None)
    if kind is None or not class_names:
        return ""
    classes = ", ".join(class_names[:30]) + (" …" if len(class_names) > 30 else "")
    line = f'<{kind.tag} name="label" toName="image"><{kind.label_tag} value={quoteattr(class_names[0])}/></{kind.tag}>'
    return f"Classes: {classes}. Write a control for them, for example {line}"


def passes_of(ready: Sequence[Ready]) -> dict[int, Pass]:
    """For each control, by its place, the pass it shares with all others that look alike."""
    together: dict[tuple[object, ...], list[Ready]] = {}
    for one in ready:
        together.setdefault(_key(one), []).append(one)
    shared = {key: _pass(members) for key, members in together.items()}
    return {index: shared[_key(one)] for index, one in enumerate(ready)}


def _key(one: Ready) -> tuple[object, ...]:
    asked = one.item.control.asked
    return one.item.weights, asked.imgsz, asked.iou, asked.device, one.item.kind.media


def _pass(members: Sequence[Ready]) -> Pass:
    asked = members[0].item.control.asked
    classes: dict[str, None] | None = {}
    for member in members:
        classes = (
            None if classes is None or member.classes is None else classes | dict.fromkeys(member.classes)
        )
    most = [member.item.control.asked.max_det for member in members]
    return Pass(
        weights=members[0].item.weights,
        look=Look(
            conf=min(member.item.threshold for member in members),
            imgsz=asked.imgsz,
            iou=asked.iou,
            max_det=None if most == [None] * len(most) else max(number or _MAX_DET for number in most),
            classes=None if classes is None else tuple(classes),
            device=asked.device,
        ),
    )
