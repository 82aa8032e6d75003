"""Our own model: YOLO weights filling the controls of labeling configs, as the door asks for it (model.py)."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bridge.errors import BridgeError, SenderError
from ml_backend.fit import control_for, fit
from ml_backend.interactive import eager, read_context, snapped
from ml_backend.model import Answer, Offer
from ml_backend.models import Models
from ml_backend.plan import Plan, learns, make_plan
from ml_backend.predict import Predictor
from ml_backend.protocol import PredictRequest, SetupRequest
from ml_backend.timeline.timelines import Timelines
from ml_backend.versions import VersionBook
from ml_backend.weights import Weights

log = logging.getLogger(__name__)
_SHOWN = 10  # known versions named in an answer
# How long to look in the bucket for what a timeline has learned, where it is not known here.
_SETUP_LOOKS_S, _PREDICT_LOOKS_S = 0.7, 3.0
_LOAD_S = 120.0  # a training waits for its model


class YoloModel:
    """Safe to use from several threads. `threshold`: where a config gives none.

    Which weights: those that `params.model_version` of a prediction names; else those the project's `extra_params` name;
    else the default ones. A control's own `model_path` or `model_version` goes before all of them."""

    def __init__(
        self,
        *,
        models: Models,
        predictor: Predictor,
        threshold: float,
        versions: VersionBook,
        timelines: Timelines | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._predictor = predictor
        self._threshold = threshold
        self._versions = versions
        self._timelines = timelines
        self._clock = clock
        self._tag = ""

    def tagged(self, tag: str) -> YoloModel:
        """This model under versions that end in a tag: what stands on it answers something else than it does."""
        found = copy.copy(self)
        found._tag = f".{tag}" if tag else ""
        return found

    def start(self) -> None:
        self._models.start()

    def status(self) -> dict[str, Any]:
        return self._models.status() | (self._timelines.status() if self._timelines is not None else {})

    def setup(self, request: SetupRequest, *, wait_s: float) -> Offer:
        """Waits for no model: what only a model tells is missing until it is loaded. Raises Unavailable when the
        weights are missing or broken, SenderError when the config is no XML."""
        default = self._models.default_weights(wait_s=wait_s)
        if request.project and request.tells_params:
            self._versions.want(request.project, request.wanted_version)
        plan, problems = self._plan_of(
            request.project, request.label_config, default, look_s=min(wait_s, _SETUP_LOOKS_S)
        )
        problems += [*plan.problems, *self._what_would_fit(plan, default)]
        if self._timelines is not None and any(map(learns, plan.planned)):
            problems += self._timelines.said(request.project)
        for item in plan.planned:
            detector = self._models.loaded(item.weights)
            if detector is None:
                self._models.prefetch(item.weights)
            else:
                problems += fit(item, detector)[1]
        return Offer(
            model_version=plan.model_version, warnings=problems, engines=self._engines_of(plan, default)
        )

    def predict(self, request: PredictRequest, *, deadline: float) -> Answer:
        default = self._models.default_weights(wait_s=max(0.0, deadline - self._clock()))
        if request.wanted_version:
            plan, problems = self._plan_asked(request, default), list[str]()
        else:
            plan, problems = self._plan_of(
                request.project, request.label_config, default, look_s=_PREDICT_LOOKS_S
            )
        drawn = read_context(request.params.get("context"))
        used = plan if drawn is None else eager(plan)
        results, said = self._predictor.predict(request.tasks, used, deadline=deadline)
        if drawn is not None:
            results = [snapped(result, drawn, used.planned) for result in results]
        problems += [*said, *self._what_would_fit(plan, default)]
        return Answer(results=results, model_version=plan.model_version, warnings=problems)

    def versions(self, configs: Sequence[tuple[str, str]]) -> list[str]:
        """What each of these configs would get from each of the weights at hand."""
        found: dict[str, None] = {}
        for project, config in configs:
            for weights in self._candidates(project):
                try:
                    found[self._plan(project, config, weights).model_version] = None
                except BridgeError:
                    continue
        return list(found)

    def published(self) -> list[str]:
        return self._models.published()

    def learn(self, action: str, event: Mapping[str, Any]) -> str | None:
        """Only timelines with model_trainable do. Raises BridgeError."""
        if self._timelines is None:
            return None

        def plan(project: str, label_config: str) -> Plan:
            default = self._models.default_weights(wait_s=_LOAD_S)
            return self._plan_of(project, label_config, default)[0]

        return self._timelines.learn(
            action,
            event,
            plan=plan,
            open_detector=lambda weights: self._models.detector(weights, wait_s=_LOAD_S),
        )

    def _engines_of(self, plan: Plan, default: Weights) -> dict[str, dict[str, Any]]:
        used = [item.weights for item in plan.planned] or [default]
        return {one.version: told for one in used if (told := self._models.engine(one)) is not None}

    def _candidates(self, project: str) -> list[Weights]:
        """The weights a request may ask for: the project's first, then the default ones, then all others."""
        chosen = self._models.find_version(self._versions.wanted(project) or "") if project else None
        return list(dict.fromkeys(([chosen] if chosen else []) + self._models.available()))

    def _plan_of(
        self, project: str, label_config: str, default: Weights, *, look_s: float = 0.0
    ) -> tuple[Plan, list[str]]:
        """The plan with the weights this project wants, or, when nobody has them, with the default ones."""
        wanted = self._versions.wanted(project) if project else None
        if not wanted:
            return self._plan(project, label_config, default, look_s), []
        chosen = self._models.find_version(wanted)
        if chosen is not None:
            return self._plan(project, label_config, chosen, look_s), []
        problem = (
            f"extra_params: there is no model version {wanted!r}, {self._known()}; {default.version} is used"
        )
        return self._plan(project, label_config, default, look_s), [problem]

    def _plan_asked(self, request: PredictRequest, default: Weights) -> Plan:
        """Raises SenderError when no weights at hand give this version for this config."""
        asked, could_be = request.wanted_version, []
        for weights in dict.fromkeys([default, *self._candidates(request.project)]):
            plan = self._plan(request.project, request.label_config, weights)
            if asked in (plan.model_version, weights.version):
                return plan
            could_be.append(plan.model_version)
        known = ", ".join(could_be[:_SHOWN])
        raise SenderError(
            f"there is no model version {asked!r} for this labeling config", hint=f"there are {known}"
        )

    def _plan(self, project: str, label_config: str, default: Weights, look_s: float = 0.0) -> Plan:
        timelines = self._timelines
        plan = make_plan(
            label_config,
            default=default,
            threshold=self._threshold,
            named=self._models.named_weights,
            of_version=self._of_version,
            learned=None
            if timelines is None
            else lambda control, weights: timelines.learned(project, control, weights, wait_s=look_s),
        )
        return replace(plan, model_version=plan.model_version + self._tag)

    def _of_version(self, asked: str) -> Weights:
        found = self._models.find_version(asked)
        if found is None:
            raise SenderError(f"there is no model version {asked!r}", hint=self._known())
        return found

    def _known(self) -> str:
        known = [weights.version for weights in self._models.available()]
        return "there are " + ", ".join(known[:_SHOWN]) if known else "none is known yet"

    def _what_would_fit(self, plan: Plan, default: Weights) -> list[str]:
        """For a config without a control for us: the default model's classes, and a control to write."""
        detector = None if plan.planned else self._models.loaded(default)
        if detector is None:
            return []
        told = control_for(detector.task, detector.class_names)
        return [f"the model {default.name} is one for {detector.task}. {told}"] if told else []
