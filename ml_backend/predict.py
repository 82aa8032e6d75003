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

from bridge.errors import BridgeError, SenderError
from ml_backend.config import Source, media_references
from ml_backend.controls.base import OpenTracker, Region, Target
from ml_backend.decode import LoadedImage
from ml_backend.detectors import Detector, Found, Look
from ml_backend.fit import Pass, Ready, fit, passes_of
from ml_backend.images import Images
from ml_backend.plan import Plan
from ml_backend.problems import TaskProblem
from ml_backend.videos import VideoWatcher
from ml_backend.weights import Weights

log = logging.getLogger(__name__)
_CHUNK = 16  # tasks whose images are in memory at once
_Key = tuple[Any, str]
"""One image of one task: the task's id and the image's address."""


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
    """A plan with its models loaded, its labels matched and its passes shared; controls by their place."""

    ready: tuple[Ready, ...]
    passes: Mapping[int, Pass]
    detectors: Mapping[Weights, Detector]

    def on(self, media: str) -> list[tuple[int, Ready]]:
        """The controls on "image" or "video"."""
        return [(index, one) for index, one in enumerate(self.ready) if one.item.kind.media == media]


class Predictor:
    """Carries out plans. `open_detector` gives the loaded model of some weights, or raises BridgeError."""

    def __init__(
        self,
        *,
        open_detector: Callable[[Weights], Detector],
        images: Images,
        fetchers: Executor,
        open_tracker: OpenTracker,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex[:10],
    ) -> None:
        self._open_detector = open_detector
        self._images = images
        self._fetchers = fetchers
        self._clock = clock
        self._new_id = new_id
        self._videos = VideoWatcher(images=images, open_tracker=open_tracker, clock=clock, new_id=new_id)

    def predict(
        self, tasks: Sequence[Any], plan: Plan, *, deadline: float
    ) -> tuple[list[TaskResult], list[str]]:
        """One result a task, in order, and what a person should know about the config.

        Tasks not begun before the deadline get the problem "late". Raises BridgeError when no model can be had."""
        problems = list(plan.problems)
        job = self._job(plan, problems)
        results: list[TaskResult] = []
        for start in range(0, len(tasks), _CHUNK):
            chunk = tasks[start : start + _CHUNK]
            if self._clock() >= deadline:
                results += [TaskResult(task_id=_id(task), problem=_late()) for task in chunk]
            else:
                results += self._chunk(chunk, job, deadline)
        return results, problems

    def _job(self, plan: Plan, problems: list[str]) -> _Job:
        """Models that cannot be read leave their controls empty; one that will come later fails the request."""
        detectors: dict[Weights, Detector] = {}
        broken: dict[Weights, str] = {}
        ready: list[Ready] = []
        for item in plan.planned:
            if item.weights not in detectors and item.weights not in broken:
                try:
                    detectors[item.weights] = self._open_detector(item.weights)
                except BridgeError as error:
                    if error.retryable or item.control.asked.model_path is None:
                        raise
                    broken[item.weights] = str(error)
            if item.weights in broken:
                problems.append(f"{item.control.where} stays empty: {broken[item.weights]}")
                continue
            one, said = fit(item, detectors[item.weights])
            problems += said
            if one is not None:
                ready.append(one)
        return _Job(ready=tuple(ready), passes=passes_of(ready), detectors=detectors)

    def _chunk(self, tasks: Sequence[Any], job: _Job, deadline: float) -> list[TaskResult]:
        sources = list(dict.fromkeys(one.item.control.source for _, one in job.on("image")))
        named: list[dict[Source, tuple[str, ...]] | TaskProblem] = [
            _references(task, sources) for task in tasks
        ]
        wanted: dict[_Key, None] = {
            (_id(task), reference): None
            for task, found in zip(tasks, named, strict=True)
            if isinstance(found, dict)
            for references in found.values()
            for reference in references
        }
        loaded = dict(zip(wanted, self._fetchers.map(self._load, wanted), strict=True))
        seen = self._look(tasks, named, loaded, job)
        results = []
        for task, references in zip(tasks, named, strict=True):
            try:
                if isinstance(references, TaskProblem):
                    raise references
                regions = self._image_regions(task, references, job, loaded, seen)
                regions += self._video_regions(task, job, deadline)
                results.append(TaskResult(task_id=_id(task), regions=tuple(regions)))
            except TaskProblem as problem:
                results.append(TaskResult(task_id=_id(task), problem=problem))
            except Exception as error:
                log.exception("making regions failed")
                wrong = TaskProblem("model", f"regions cannot be made: {type(error).__name__}: {error}")
                results.append(TaskResult(task_id=_id(task), problem=wrong))
        return results

    def _load(self, wanted: _Key) -> LoadedImage | TaskProblem:
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
        tasks: Sequence[Any],
        named: Sequence[dict[Source, tuple[str, ...]] | TaskProblem],
        loaded: Mapping[_Key, LoadedImage | TaskProblem],
        job: _Job,
    ) -> dict[tuple[_Key, Pass], Found | TaskProblem]:
        """Every pass once over every image that any of its controls is on."""
        wanted: dict[Pass, dict[_Key, LoadedImage]] = {}
        for index, one in job.on("image"):
            for task, references in zip(tasks, named, strict=True):
                if isinstance(references, TaskProblem):
                    continue
                for reference in references[one.item.control.source]:
                    image = loaded[_id(task), reference]
                    if isinstance(image, LoadedImage):
                        wanted.setdefault(job.passes[index], {})[_id(task), reference] = image
        found: dict[tuple[_Key, Pass], Found | TaskProblem] = {}
        for way, images in wanted.items():
            pictures = [image.image for image in images.values()]
            seen = _seen(job.detectors[way.weights], pictures, way.look)
            found |= {(key, way): what for key, what in zip(images, seen, strict=True)}
        return found

    def _image_regions(
        self,
        task: Any,
        references: Mapping[Source, tuple[str, ...]],
        job: _Job,
        loaded: Mapping[_Key, LoadedImage | TaskProblem],
        seen: Mapping[tuple[_Key, Pass], Found | TaskProblem],
    ) -> list[Region]:
        """Raises TaskProblem when any of the task's images has one."""
        regions: list[Region] = []
        for index, one in job.on("image"):
            control = one.item.control
            for page, reference in enumerate(references[control.source]):
                key = (_id(task), reference)
                image = loaded[key]
                found = image if isinstance(image, TaskProblem) else seen[key, job.passes[index]]
                if isinstance(found, TaskProblem):
                    raise found
                assert isinstance(image, LoadedImage)
                assert one.item.kind.to_regions is not None
                target = Target(
                    control=control,
                    labels=one.labels,
                    threshold=one.item.threshold,
                    seen=image.image.size,
                    shown=(image.width, image.height),
                    new_id=self._new_id,
                    parent=one.item.parent,
                    item_index=page if control.source.several else None,
                )
                regions += one.item.kind.to_regions(one.narrowed(found), target)
        return regions

    def _video_regions(self, task: Any, job: _Job, deadline: float) -> list[Region]:
        """Raises TaskProblem."""
        by_source: dict[Source, list[tuple[Ready, Pass]]] = {}
        for index, one in job.on("video"):
            by_source.setdefault(one.item.control.source, []).append((one, job.passes[index]))
        if not by_source:
            return []
        data = _data(task)
        return [
            region
            for source, controls in by_source.items()
            for region in self._videos.regions(
                source, data, controls, job.detectors, task_id=_id(task), deadline=deadline
            )
        ]


def _seen(detector: Detector, pictures: Sequence[Any], look: Look) -> list[Found | TaskProblem]:
    """All pictures together; if that fails, one after another, so that only the one at fault is lost."""
    if not pictures:
        return []
    try:
        return list(detector.predict(pictures, look=look))
    except Exception as error:
        if len(pictures) == 1:
            log.exception("the model failed on an image")
            return [TaskProblem("model", f"the model failed on this image: {type(error).__name__}: {error}")]
        return [what for picture in pictures for what in _seen(detector, [picture], look)]


def _references(task: Any, sources: Sequence[Source]) -> dict[Source, tuple[str, ...]] | TaskProblem:
    """For each `<Image>` in use: the task's images."""
    try:
        data = _data(task)
        return {source: media_references(source, data) for source in sources}
    except TaskProblem as problem:
        return problem
    except SenderError as error:
        return TaskProblem("data", str(error))


def _data(task: Any) -> Mapping[str, Any]:
    data = task.get("data") if isinstance(task, Mapping) else None
    if not isinstance(data, Mapping):
        raise TaskProblem("data", "the task has no 'data' object")
    return data


def _late() -> TaskProblem:
    return TaskProblem(
        "late", "not begun in time", hint="ask again for the rest: what is done is kept", passing=True
    )


def _id(task: Any) -> Any:
    found = task.get("id") if isinstance(task, Mapping) else None
    return found if isinstance(found, int | str) else None


def _labels_of(region: Region) -> list[str]:
    labels = region["value"].get("labels" if region["type"] == "videorectangle" else region["type"], [])
    if not isinstance(labels, list):
        return []
    return [label if isinstance(label, str) else " / ".join(map(str, label)) for label in labels]
