"""From tasks to predictions: fetch, look, translate. One task's trouble costs that task only."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from bridge.errors import SenderError
from ml_backend.config import image_reference
from ml_backend.controls.base import Region
from ml_backend.decode import LoadedImage
from ml_backend.detectors import Detector, Found
from ml_backend.images import Images
from ml_backend.labels import LabelMap
from ml_backend.plan import Plan, Planned, label_map
from ml_backend.problems import TaskProblem
from ml_backend.weights import Weights

log = logging.getLogger(__name__)
_CHUNK = 16  # tasks whose images are in memory at once


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What became of one task: its regions, or the problem that left it without."""

    task_id: Any
    regions: tuple[Region, ...] = ()
    problem: TaskProblem | None = None

    @property
    def score(self) -> float:
        """Mean of the regions' scores, 0 without regions: Label Studio refuses the whole batch for anything else."""
        scores = [region["score"] for region in self.regions if math.isfinite(region.get("score", math.nan))]
        return sum(scores) / len(scores) if scores else 0.0

    def label_counts(self) -> dict[str, int]:
        """How many regions each label has."""
        return dict(Counter(label for region in self.regions for label in _labels_of(region)))


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A plan with its models loaded and its labels mapped."""

    plan: Plan
    detectors: Mapping[Weights, Detector]
    maps: Mapping[int, LabelMap]


class Predictor:
    """Carries out plans. `open_detector` gives the loaded model of some weights, or raises BridgeError."""

    def __init__(
        self,
        *,
        open_detector: Callable[[Weights], Detector],
        images: Images,
        fetchers: Executor,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex[:10],
    ) -> None:
        self._open_detector = open_detector
        self._images = images
        self._fetchers = fetchers
        self._clock = clock
        self._new_id = new_id

    def predict(
        self, tasks: Sequence[Any], plan: Plan, *, deadline: float
    ) -> tuple[list[TaskResult], list[str]]:
        """One result a task, in order, and what a person should know about the config.

        Tasks not begun before the deadline get the problem "late". Raises BridgeError when no model can be had."""
        problems = list(plan.problems)
        detectors = {weights: self._open_detector(weights) for weights in _weights(plan)}
        maps = {index: label_map(item, detectors[item.weights]) for index, item in enumerate(plan.planned)}
        problems += [problem for found in maps.values() for problem in found.problems]
        job = _Job(plan=plan, detectors=detectors, maps=maps)
        results: list[TaskResult] = []
        for start in range(0, len(tasks), _CHUNK):
            chunk = tasks[start : start + _CHUNK]
            if self._clock() >= deadline:
                late = TaskProblem(
                    "late",
                    "not begun in time",
                    hint="ask again for the rest: what is done is kept",
                    passing=True,
                )
                results += [TaskResult(task_id=_id(task), problem=late) for task in chunk]
            else:
                results += self._chunk(chunk, job)
        return results, problems

    def _chunk(self, tasks: Sequence[Any], job: _Job) -> list[TaskResult]:
        usable = [(index, item) for index, item in enumerate(job.plan.planned) if job.maps[index].label_of]
        references: list[dict[str, str] | TaskProblem] = [_references(task, usable) for task in tasks]
        wanted = {
            (_id(task), reference): None
            for task, named in zip(tasks, references, strict=True)
            if isinstance(named, dict)
            for reference in named.values()
        }
        loaded = dict(zip(wanted, self._fetchers.map(self._load, wanted), strict=True))
        found = self._look(loaded, usable, job)
        return [
            self._result(task, named, usable, job, loaded, found)
            for task, named in zip(tasks, references, strict=True)
        ]

    def _load(self, wanted: tuple[Any, str]) -> LoadedImage | TaskProblem:
        task_id, reference = wanted
        try:
            return self._images.load(reference, task_id=task_id if isinstance(task_id, int) else None)
        except TaskProblem as problem:
            return problem
        except Exception as error:
            log.exception("loading an image failed")
            return TaskProblem("undecodable", f"the image cannot be loaded: {type(error).__name__}: {error}")

    def _look(
        self,
        loaded: Mapping[Any, LoadedImage | TaskProblem],
        usable: Sequence[tuple[int, Planned]],
        job: _Job,
    ) -> dict[tuple[Any, Weights], Found | TaskProblem]:
        """Every model once over every image, however many controls use it."""
        keys = [key for key, image in loaded.items() if isinstance(image, LoadedImage)]
        pictures = [image.image for image in loaded.values() if isinstance(image, LoadedImage)]
        found: dict[tuple[Any, Weights], Found | TaskProblem] = {}
        for weights in dict.fromkeys(item.weights for _, item in usable):
            threshold = min(item.threshold for _, item in usable if item.weights == weights)
            seen = _seen(job.detectors[weights], pictures, threshold)
            found |= {(key, weights): what for key, what in zip(keys, seen, strict=True)}
        return found

    def _result(
        self,
        task: Any,
        references: dict[str, str] | TaskProblem,
        usable: Sequence[tuple[int, Planned]],
        job: _Job,
        loaded: Mapping[Any, LoadedImage | TaskProblem],
        found: Mapping[tuple[Any, Weights], Found | TaskProblem],
    ) -> TaskResult:
        if isinstance(references, TaskProblem):
            return TaskResult(task_id=_id(task), problem=references)
        regions: list[Region] = []
        for index, item in usable:
            key = (_id(task), references[item.control.image_value])
            image = loaded[key]
            what = image if isinstance(image, TaskProblem) else found[key, item.weights]
            if isinstance(what, TaskProblem):
                return TaskResult(task_id=_id(task), problem=what)
            assert isinstance(image, LoadedImage)
            regions += item.kind.to_regions(
                what,
                control=item.control,
                label_of=job.maps[index].label_of,
                threshold=item.threshold,
                loaded=image,
                new_id=self._new_id,
            )
        return TaskResult(task_id=_id(task), regions=tuple(regions))


def _seen(detector: Detector, pictures: Sequence[Any], threshold: float) -> list[Found | TaskProblem]:
    """All pictures together; if that fails, one after another, so that only the one at fault is lost."""
    if not pictures:
        return []
    try:
        return list(detector.predict(pictures, threshold=threshold))
    except Exception as error:
        if len(pictures) == 1:
            log.exception("the model failed on an image")
            return [TaskProblem("model", f"the model failed on this image: {type(error).__name__}: {error}")]
        return [what for picture in pictures for what in _seen(detector, [picture], threshold)]


def _references(task: Any, usable: Sequence[tuple[int, Planned]]) -> dict[str, str] | TaskProblem:
    """For each `value` of an image tag in use: the task's image."""
    data = task.get("data") if isinstance(task, Mapping) else None
    if not isinstance(data, Mapping):
        return TaskProblem("data", "the task has no 'data' object")
    try:
        return {
            item.control.image_value: image_reference(item.control.image_value, data) for _, item in usable
        }
    except SenderError as error:
        return TaskProblem("data", str(error))


def _weights(plan: Plan) -> list[Weights]:
    return list(dict.fromkeys(item.weights for item in plan.planned))


def _id(task: Any) -> Any:
    found = task.get("id") if isinstance(task, Mapping) else None
    return found if isinstance(found, int | str) else None


def _labels_of(region: Region) -> list[str]:
    labels = region["value"].get(region["type"], [])
    return labels if isinstance(labels, list) else []
