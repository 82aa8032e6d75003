"""What the backend answers, without HTTP: setup, predictions, versions."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bridge.errors import Unavailable
from ml_backend.fit import control_for, fit
from ml_backend.inference_log import InferenceLog, inference_records
from ml_backend.metrics import Metrics
from ml_backend.models import Models
from ml_backend.plan import Plan, make_plan
from ml_backend.predict import Predictor, TaskResult
from ml_backend.protocol import PredictRequest, SetupRequest, predictions

log = logging.getLogger(__name__)
_SETUP_WAIT_S = 2.0  # Label Studio gives /setup 3 s
_NAMED_TASKS = 10  # tasks named one by one in the log for each request


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`threshold`: where a config gives none. `budget_s`: for one prediction request. `at_once`: requests that may
    predict or wait for it; below the number of web threads, so that /health and /setup always find one free."""

    threshold: float
    budget_s: float
    at_once: int


class Backend:
    """Safe to use from several threads."""

    def __init__(
        self,
        *,
        models: Models,
        predictor: Predictor,
        inferences: InferenceLog,
        metrics: Metrics,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._predictor = predictor
        self._inferences = inferences
        self._metrics = metrics
        self._limits = limits
        self._clock = clock
        self._slots = threading.BoundedSemaphore(limits.at_once)
        self._said: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._versions: OrderedDict[str, None] = OrderedDict()
        self._memory = threading.Lock()

    def health(self) -> dict[str, Any]:
        """Always "UP": Label Studio only asks whether someone is there. Whether the model works is beside it."""
        return {"status": "UP", "model": self._models.status()}

    def setup(self, request: SetupRequest) -> dict[str, Any]:
        """`model_version`, equal to that of every prediction for this config, and what is wrong with the config.

        Waits for no model: what only a model tells is missing until it is loaded. Raises Unavailable when the weights are missing or broken, SenderError when the config is no XML."""
        plan = self._plan(request.label_config, wait_s=_SETUP_WAIT_S)
        problems = [*plan.problems, *self._what_would_fit(plan)]
        for item in plan.planned:
            detector = self._models.loaded(item.weights)
            if detector is None:
                self._models.prefetch(item.weights)
            else:
                problems += fit(item, detector)[1]
        self._say(problems, request.project)
        self._remember(plan.model_version)
        return {"model_version": plan.model_version, "warnings": problems}

    def predict(self, request: PredictRequest) -> dict[str, Any]:
        """One item a task, in order. Raises Unavailable when no model can be had or too many requests are running."""
        if not self._slots.acquire(blocking=False):
            self._metrics.busy.inc()
            raise Unavailable(
                f"{self._limits.at_once} predictions are running already",
                hint="try again, or raise WEB_THREADS",
            )
        try:
            return self._predict(request)
        finally:
            self._slots.release()

    def versions(self) -> dict[str, Any]:
        """The versions given to Label Studio since the start, newest first."""
        with self._memory:
            return {"versions": list(reversed(self._versions))}

    def _predict(self, request: PredictRequest) -> dict[str, Any]:
        started = self._clock()
        deadline = started + self._limits.budget_s
        plan = self._plan(request.label_config, wait_s=self._limits.budget_s)
        results, problems = self._predictor.predict(request.tasks, plan, deadline=deadline)
        problems += self._what_would_fit(plan)
        seconds = self._clock() - started
        self._say(problems, request.project)
        self._remember(plan.model_version)
        self._report(request, plan, results, seconds)
        return {"results": predictions(results, model_version=plan.model_version), "warnings": problems}

    def _plan(self, label_config: str, *, wait_s: float) -> Plan:
        return make_plan(
            label_config,
            default=self._models.default_weights(wait_s=wait_s),
            threshold=self._limits.threshold,
            named=self._models.named_weights,
        )

    def _what_would_fit(self, plan: Plan) -> list[str]:
        """For a config without a control for us: the default model's classes, and a control to write."""
        if plan.planned:
            return []
        weights = self._models.default_weights(wait_s=0)
        detector = self._models.loaded(weights)
        if detector is None:
            return []
        told = control_for(detector.task, detector.class_names)
        return [f"the model {weights.name} is one for {detector.task}. {told}"] if told else []

    def _report(
        self, request: PredictRequest, plan: Plan, results: Sequence[TaskResult], seconds: float
    ) -> None:
        failed = [result for result in results if result.problem is not None]
        regions = sum(len(result.regions) for result in results)
        self._metrics.tasks.labels(outcome="predicted").inc(len(results) - len(failed))
        self._metrics.tasks.labels(outcome="failed").inc(len(failed))
        self._metrics.regions.inc(regions)
        for result in failed:
            assert result.problem is not None
            self._metrics.task_problems.labels(reason=result.problem.reason).inc()
        for result in failed[:_NAMED_TASKS]:
            # %r: what a task's data says must not be able to write log lines of its own.
            log.warning("project %s task %s: %r", request.project or "?", result.task_id, str(result.problem))
        if len(failed) > _NAMED_TASKS:
            log.warning(
                "project %s: and %d more tasks failed", request.project or "?", len(failed) - _NAMED_TASKS
            )
        log.info(
            "project %s: %d of %d tasks predicted in %.2f s, %d regions, %s",
            request.project or "?",
            len(results) - len(failed),
            len(results),
            seconds,
            regions,
            plan.model_version,
        )
        self._inferences.append(
            request.project,
            inference_records(
                results, model_version=plan.model_version, seconds=seconds, at=datetime.now(UTC)
            ),
        )

    def _say(self, problems: Sequence[str], project: str) -> None:
        """Each state of a project's config is logged once, however often Label Studio asks."""
        key = (project, *problems)
        with self._memory:
            known = key in self._said
            self._said[key] = None
            while len(self._said) > 500:
                self._said.popitem(last=False)
        if not known:
            for problem in problems:
                log.warning("project %s: %s", project or "?", problem)

    def _remember(self, version: str) -> None:
        with self._memory:
            self._versions[version] = None
            self._versions.move_to_end(version)
            while len(self._versions) > 50:
                self._versions.popitem(last=False)
