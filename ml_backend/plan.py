"""What to do for one labeling config: which controls, with which weights and thresholds, under which version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridge.errors import BridgeError
from ml_backend.config import ControlTag, parse_config
from ml_backend.controls import CONTROLS
from ml_backend.controls.base import ControlType
from ml_backend.detectors import Detector
from ml_backend.labels import LabelMap, how_to_match, match_labels
from ml_backend.weights import Weights

_FORMAT = 1  # raised when the same weights and config give other regions because our code changed


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One control that a model may fill."""

    control: ControlTag
    kind: ControlType
    weights: Weights
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`model_version` names weights, thresholds and mapping: it changes when any of them does, and only then."""

    planned: tuple[Planned, ...]
    model_version: str
    problems: tuple[str, ...]


def make_plan(
    label_config: str, *, default: Weights, threshold: float, named: Callable[[str], Weights]
) -> Plan:
    """Loads no model. `named` gives the weights of a `model_path`. Raises SenderError when the config is no XML.

    What keeps a control from being used is in `problems`."""
    planned: list[Planned] = []
    problems: list[str] = []
    for control in parse_config(label_config):
        problems += control.problems
        kind = CONTROLS.get(control.kind)
        if kind is None:
            continue
        where = f"{control.tag} {control.name!r}"
        if not control.labels:
            problems.append(
                f"{where} has no <{kind.label_tag} value=…> in the labeling config to choose from"
            )
            continue
        try:
            weights = named(control.model_path) if control.model_path else default
        except BridgeError as error:
            problems.append(f"{where}: {error}")
            continue
        level = threshold if control.threshold is None else control.threshold
        planned.append(Planned(control=control, kind=kind, weights=weights, threshold=level))
    if not planned:
        tags = ", ".join(f"<{kind.tag}>" for kind in CONTROLS.values())
        problems.append(
            f"the labeling config has no control on an <Image> that we can fill; those are: {tags}"
        )
    return Plan(
        planned=tuple(planned),
        model_version=version_of(planned, default=default, threshold=threshold),
        problems=tuple(problems),
    )


def version_of(planned: Sequence[Planned], *, default: Weights, threshold: float) -> str:
    """For example `demo-shapes.1f0c2d3e.t0.5.m9a8b7c6d`: name and digest of the weights, threshold, mapping.

    The mapping is taken as the config writes it: together with the weights it decides which class gets which label."""
    used = list(dict.fromkeys(item.weights for item in planned)) or [default]
    levels = sorted({item.threshold for item in planned}) or [threshold]
    mapping = [
        _FORMAT,
        [
            [
                *(item.control.kind, item.control.name, item.control.to_name, item.control.image_value),
                *(item.control.choice, item.threshold, item.weights.digest),
                [[label.value, label.written, label.predicted_values] for label in item.control.labels],
            ]
            for item in planned
        ],
    ]
    names = "+".join(weights.name[:40] for weights in used)
    digests = used[0].digest if len(used) == 1 else _digest([weights.digest for weights in used])
    return f"{names}.{digests[:8]}.t{','.join(f'{level:g}' for level in levels)}.m{_digest(mapping)[:8]}"


def label_map(item: Planned, detector: Detector) -> LabelMap:
    """How the classes of a loaded model become the control's labels. An unusable control has an empty map."""
    where = f"{item.control.tag} {item.control.name!r}"
    if detector.task not in item.kind.model_tasks:
        wanted = " or ".join(item.kind.model_tasks)
        problem = (
            f"{where} stays empty: it needs a model for {wanted}, and {item.weights.name} is one for "
            f'{detector.task}. Name another with model_path="…", or write model_skip="true"'
        )
        return LabelMap(label_of={}, problems=(problem,))
    labels = item.control.labels
    found = match_labels(labels, detector.class_names)
    problems = [f"{where}: {problem}" for problem in found.problems]
    if not found.label_of:
        problems.append(
            f"{where} stays empty: {how_to_match(labels, detector.class_names, tag=item.kind.label_tag)}"
        )
    return LabelMap(label_of=found.label_of, problems=tuple(problems))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
