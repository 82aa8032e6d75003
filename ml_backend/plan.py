"""What to do for one labeling config: which controls, with which weights and thresholds, under which version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from bridge.errors import BridgeError
from ml_backend.config import ControlTag, parse_config
from ml_backend.controls import CONTROLS
from ml_backend.controls.base import ControlType
from ml_backend.controls.keypoint_labels import KEYPOINT_LABELS, parent_of
from ml_backend.controls.timeline_labels import TIMELINE_LABELS
from ml_backend.timeline.classifier import Classifier
from ml_backend.weights import Weights

_FORMAT = 2  # raised when the same weights and config give other regions because our code changed


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One control that a model may fill. `parent`: the control that holds the rectangles round its key points. `learned`: of
    one that learns its labels (`control.asked.learning`), what it has learned so far."""

    control: ControlTag
    kind: ControlType
    weights: Weights
    threshold: float
    parent: ControlTag | None = None
    learned: Classifier | None = None


Learned = Callable[[ControlTag, Weights], tuple[Classifier | None, str]]
"""What a control has learned on top of weights, or why that is nothing."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`model_version` names weights, thresholds and mapping: it changes when any of them does, and only then."""

    planned: tuple[Planned, ...]
    model_version: str
    problems: tuple[str, ...]


def make_plan(
    label_config: str,
    *,
    default: Weights,
    threshold: float,
    named: Callable[[str], Weights],
    of_version: Callable[[str], Weights] | None = None,
    learned: Learned | None = None,
) -> Plan:
    """Loads no model. `named` gives the weights of a `model_path`, `of_version` those of a `model_version`; both raise
    BridgeError. `learned`: see Learned. Raises SenderError when the config is no XML.

    What keeps a control from being used is in `problems`."""
    planned: list[Planned] = []
    problems: list[str] = []
    controls = parse_config(label_config)
    wanted = [control for control in controls if not control.skip]
    parents = {
        control: parent_of(control, controls)
        for control in wanted
        if control.kind == KEYPOINT_LABELS.tag.lower()
    }
    for control in wanted:
        problems += control.problems
        kind = CONTROLS.get(control.kind)
        if kind is None or kind.media != control.source.media or control in parents.values():
            continue
        if control.per_region:
            problems.append(f'{control.where} is left to people: it is perRegion="true"')
            continue
        if not control.labels:
            place = kind.labels_from or "it"
            problems.append(
                f"{control.where} has no <{kind.label_tag} value=…> to choose from: "
                f"the labeling config must have them in {place}"
            )
            continue
        try:
            weights = _weights(control, default, named, of_version)
        except BridgeError as error:
            problems.append(f"{control.where}: {error}")
            continue
        classifier: Classifier | None = None
        if control.asked.learning is not None:
            if kind is not TIMELINE_LABELS:
                problems.append(f"{control.where}: model_trainable is left out: only <TimelineLabels> learns")
            elif learned is not None:
                classifier, problem = learned(control, weights)
                problems += [problem] if problem else []
        planned.append(
            Planned(
                control=control,
                kind=kind,
                weights=weights,
                threshold=_level(control, kind, threshold),
                parent=parents.get(control),
                learned=classifier,
            )
        )
    if not planned:
        tags = ", ".join(f"<{kind.tag}> on <{kind.media.capitalize()}>" for kind in CONTROLS.values())
        problems.append(f"the labeling config has no control that we can fill; those are: {tags}")
    return Plan(
        planned=tuple(planned),
        model_version=version_of(planned, default=default, threshold=threshold),
        problems=tuple(problems),
    )


def _weights(
    control: ControlTag,
    default: Weights,
    named: Callable[[str], Weights],
    of_version: Callable[[str], Weights] | None,
) -> Weights:
    if control.asked.model_path:
        return named(control.asked.model_path)
    if control.asked.model_version and of_version is not None:
        return of_version(control.asked.model_version)
    return default


def _level(control: ControlTag, kind: ControlType, threshold: float) -> float:
    """The score regions need. Where a control has a level of its own, model_score_threshold is no part of it: a track
    is dropped by its best score, not a frame by its own."""
    if kind.default_conf is None:
        return control.asked.level(threshold)
    return kind.default_conf if control.asked.conf is None else control.asked.conf


def version_of(planned: Sequence[Planned], *, default: Weights, threshold: float) -> str:
    """For example `demo-shapes.1f0c2d3e.t0.5.m9a8b7c6d`: name and digest of the weights, threshold, mapping.

    The mapping is taken as the config writes it: together with the weights it decides which class gets which label."""
    used = list(dict.fromkeys(item.weights for item in planned)) or [default]
    levels = sorted({item.threshold for item in planned}) or [threshold]
    mapping = [
        _FORMAT,
        [
            [
                *(item.control.kind, item.control.name, astuple(item.control.source)),
                *(item.control.asked.settled(), item.threshold, item.weights.digest),
                [astuple(label) for label in item.control.labels],
                [item.parent.name, [astuple(label) for label in item.parent.labels]] if item.parent else None,
                *([["learned", item.learned and item.learned.digest]] if learns(item) else []),
                *_since(item),
            ]
            for item in planned
        ],
    ]
    names = "+".join(weights.name[:40] for weights in used)
    digests = used[0].digest if len(used) == 1 else _digest([weights.digest for weights in used])
    return f"{names}.{digests[:8]}.t{','.join(f'{level:g}' for level in levels)}.m{_digest(mapping)[:8]}"


def _since(item: Planned) -> list[list[object]]:
    """What counts since our code changed for these controls alone: versions of all others stay as they are."""
    control, found = item.control, list[list[object]]()
    if item.kind.media == "video":
        found.append(["frames", 2])
    if control.nested:
        found.append(["nested"])
    if item.kind.whole and control.source.several:
        found.append(["per item", control.per_item])
    return found


def learns(item: Planned) -> bool:
    """Whether its labels are learned from annotations, whatever it has learned so far."""
    return item.control.asked.learning is not None and item.kind is TIMELINE_LABELS


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
