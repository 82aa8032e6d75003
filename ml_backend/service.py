"""What the backend answers, without HTTP: setup, predictions, versions."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from bridge.errors import Busy, Unavailable
from ml_backend.handover import NOT_HERE, Handover, handed_over, is_late, words
from ml_backend.inference_log import InferenceLog, inference_records, scores_of
from ml_backend.interactive import read_context
from ml_backend.metrics import Metrics
from ml_backend.model import Answer, Model
from ml_backend.protocol import PredictRequest, SetupRequest, predictions
from ml_backend.versions import VersionBook

log = logging.getLogger(__name__)
_SETUP_WAIT_S = 2.0  # Label Studio gives /setup 3 s
_LISTED = 50  # versions in an answer to /versions
_NAMED_TASKS = 10  # tasks named one by one in the log for each request
_PATIENCE = 0.4  # of its budget that a request waits for others to end
_LINE = 2000  # letters of a warning that the log shows


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`budget_s`: for one prediction request, from its arrival. `at_once`: requests that may predict or wait for the model.
    `waiting`: requests beyond those that may wait for one of them to end, each a share of its budget; together below
    the number of web threads, so that /health and /setup always find one free."""

    budget_s: float
    at_once: int
    waiting: int = 0


class Backend:
    """The door before a model, whichever it is. Safe to use from several threads."""

    def __init__(
        self,
        *,
        model: Model,
        versions: VersionBook,
        inferences: InferenceLog,
        metrics: Metrics,
        limits: Limits,
        handover: Handover | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._versions = versions
        self._inferences = inferences
        self._metrics = metrics
        self._limits = limits
        self._handover = handover or Handover(budget_s=limits.budget_s)
        self._clock = clock
        self._places = threading.BoundedSemaphore(limits.at_once + limits.waiting)
        self._slots = threading.BoundedSemaphore(limits.at_once)
        self._said: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._memory = threading.Lock()

    def health(self) -> dict[str, Any]:
        """Always "UP": Label Studio only asks whether someone is there. Whether the model works is beside it."""
        return {"status": "UP", "model": self._model.status()}

    def setup(self, request: SetupRequest) -> dict[str, Any]:
        """`model_version`, equal to that of every prediction for this config, what is wrong with the config, and what
        computes the models that are loaded.

        Raises BridgeError when the model cannot be used, SenderError when the config is no XML."""
        offer = self._model.setup(request, wait_s=_SETUP_WAIT_S)
        self._say(offer.warnings, request.project)
        self._versions.give(request.project, request.label_config, offer.model_version)
        answer: dict[str, Any] = {"model_version": offer.model_version, "warnings": list(offer.warnings)}
        return answer | ({"engines": offer.engines} if offer.engines else {})

    def predict(self, request: PredictRequest) -> dict[str, Any]:
        """One item a task, in order. Raises Unavailable when no model can be had or too many requests are running."""
        arrived = self._clock()
        if not self._places.acquire(blocking=False):
            raise self._full(
                f"{self._limits.at_once + self._limits.waiting} predictions are asked for already"
            )
        try:
            if not self._slots.acquire(
                timeout=self._limits.budget_s * _PATIENCE if self._limits.waiting else 0
            ):
                raise self._full(f"{self._limits.at_once} predictions are running already")
            try:
                return self._predict(request, deadline=arrived + self._limits.budget_s)
            finally:
                self._slots.release()
        except Busy:
            self._metrics.busy.inc()
            raise
        finally:
            self._places.release()

    def _full(self, what: str) -> Unavailable:
        self._metrics.busy.inc()
        return Unavailable(what, hint="try again, or raise WEB_THREADS")

    def versions(self, project: str = "") -> dict[str, Any]:
        """Those given to Label Studio, newest first, then those that could be asked for besides; of all projects or one.
        Beside them the weights published in the bucket, which all backends of the bucket know; and of one project
        `possible`: those that can be asked for with the labeling config that it had last."""
        given = self._versions.given(project)
        possible = self._model.versions(self._versions.configs(project)[:_LISTED])
        answer = {"versions": list(dict.fromkeys([*given, *possible]))[:_LISTED]}
        if project:
            answer["possible"] = possible[:_LISTED]
        published = self._model.published()[:_LISTED]
        return answer | ({"published": published} if published else {})

    def learn(self, action: str, event: Mapping[str, Any]) -> str | None:
        """The id of the training that an event of Label Studio begins, or None."""
        return self._model.learn(action, event)

    def _predict(self, request: PredictRequest, *, deadline: float) -> dict[str, Any]:
        started = self._clock()
        if self._handover.is_too_much(request.project, len(request.tasks)) and self._hand_over(
            request, request.tasks
        ):
            of = len(request.tasks)
            return {"results": [dict(NOT_HERE) for _ in request.tasks], "warnings": [words(of, of)]}
        was_ready = self._model.status().get("state") == "ready"
        answer = self._model.predict(request, deadline=deadline)
        seconds = self._clock() - started
        # A request that waited for the model to be loaded says nothing of the next one.
        answer = self._without_late(request, answer, seconds if was_ready else None)
        self._say(answer.warnings, request.project)
        if not request.wanted_version:
            self._versions.give(request.project, request.label_config, answer.model_version)
        self._report(request, answer, seconds)
        return {
            "results": predictions(answer.results, model_version=answer.model_version),
            "warnings": list(answer.warnings),
        }

    def _without_late(self, request: PredictRequest, answer: Answer, seconds: float | None) -> Answer:
        """What was not begun in time goes to the pre-labelling job, where there is one."""
        late = [place for place, result in enumerate(answer.results) if is_late(result)]
        if seconds is not None:
            self._handover.took(request.project, len(answer.results) - len(late), seconds)
        if not late or not self._hand_over(request, [request.tasks[place] for place in late]):
            return answer
        results = [handed_over(one.task_id) if is_late(one) else one for one in answer.results]
        return replace(answer, results=results, warnings=[*answer.warnings, words(len(late), len(results))])

    def _hand_over(self, request: PredictRequest, tasks: Sequence[Any]) -> bool:
        """Whether the pre-labelling job takes these tasks; not if it is the one that asks, or for a version of its own."""
        ids = [task.get("id") if isinstance(task, dict) else None for task in tasks]
        if request.by_job or request.wanted_version or not self._handover.take(request.project, ids):
            return False
        self._metrics.handed_over.inc(len(tasks))
        log.warning("project %s: %s", request.project, words(len(tasks), len(request.tasks)))
        return True

    def _report(self, request: PredictRequest, answer: Answer, seconds: float) -> None:
        results = answer.results
        failed = [result for result in results if result.problem is not None]
        regions = sum(len(result.regions) for result in results)
        self._metrics.tasks.labels(outcome="predicted").inc(len(results) - len(failed))
        self._metrics.tasks.labels(outcome="failed").inc(len(failed))
        self._metrics.regions.inc(regions)
        for result in failed:
            assert result.problem is not None
            self._metrics.task_problems.labels(reason=result.problem.reason).inc()
        for result in results:
            self._metrics.found(result.label_counts(), scores_of(result))
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
            answer.model_version,
        )
        self._inferences.append(
            request.project,
            inference_records(
                results,
                model_version=answer.model_version,
                seconds=seconds,
                at=datetime.now(UTC),
                interactive=read_context(request.params.get("context")) is not None,
            ),
        )

    def _say(self, problems: Sequence[str], project: str) -> None:
        """Each state of a project's config is logged once, however often Label Studio asks."""
        key = (project, hash(tuple(problems)))
        with self._memory:
            known = key in self._said
            self._said[key] = None
            while len(self._said) > 500:
                self._said.popitem(last=False)
        if not known:
            for problem in problems:
                log.warning("project %s: %s", project or "?", _line(problem))


def _line(text: str) -> str:
    """One line of the log: labels stand in it as the config writes them, and may hold line ends."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_LINE])
