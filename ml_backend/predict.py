"""From tasks to predictions: fetch, look, translate. One task's trouble costs that task only."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import BridgeError, Busy, SenderError
from ml_backend.config import Source, media_references
from ml_backend.controls.base import OpenTracker, Region, Target
from ml_backend.controls.choices import of_all_pages
from ml_backend.decode import LoadedImage, Reducible
from ml_backend.detectors import Detector, Found, Look
from ml_backend.fit import Pass, Ready, fit, passes_of
from ml_backend.images import Images
from ml_backend.plan import Plan
from ml_backend.problems import TaskProblem, is_want_of_memory
from ml_backend.timeline.features import FeatureBook
from ml_backend.timings import NoTimings, Spent, TaskTiming, Timing, Timings, task_timing
from ml_backend.videos import VideoWatcher
from ml_backend.weights import Weights

log = logging.getLogger(__name__)
_CHUNK = 8  # tasks that go through the model together; those of the next chunk are fetched meanwhile
_PAUSE_S = 0.05  # before a request that has begun asks a model with a full queue again
_LOOK_S = 0.5  # how often who waits for an image looks whether time is over
_Key = tuple[Any, str]
"""One image of one task: the task's id and the image's address."""
_Fetched = tuple[LoadedImage | TaskProblem, float]
"""An image, or why there is none, and the seconds it took."""


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What became of one task: its regions, or the problem that left it without."""

    task_id: Any
    regions: tuple[Region, ...] = ()
    problem: TaskProblem | None = None
    given: tuple[dict[str, Any], ...] = ()  # somebody's own model: its predictions, which hold the regions
    unfilled: bool = False  # nobody looked: the labeling config has no control that the model can fill
    timing: TaskTiming | None = field(default=None, compare=False)

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

    def reducible(self) -> Reducible:
        """By what a picture may be divided so that none of the models sees less."""
        ways = {self.passes[index] for index, _ in self.on("image")}
        models = [(self.detectors[way.weights], way.look) for way in ways]
        return lambda width, height: min(
            (model.reduction(width, height, look=look) for model, look in models), default=1
        )


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """Tasks whose images are being fetched; `named`: for each task the addresses, or why there are none."""

    tasks: Sequence[Any]
    named: Sequence[dict[Source, tuple[str, ...]] | TaskProblem]
    images: Mapping[_Key, Future[_Fetched]]


class Predictor:
    """Carries out plans. `open_detector` gives the loaded model of some weights, or raises BridgeError."""

    def __init__(
        self,
        *,
        open_detector: Callable[[Weights], Detector],
        images: Images,
        fetchers: Executor,
        open_tracker: OpenTracker,
        book: FeatureBook | None = None,
        timings: Timings | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex[:10],
    ) -> None:
        self._open_detector = open_detector
        self._images = images
        self._fetchers = fetchers
        self._timings = timings or NoTimings()
        self._clock = clock
        self._pause = pause
        self._new_id = new_id
        self._videos = VideoWatcher(
            images=images, open_tracker=open_tracker, clock=clock, new_id=new_id, book=book
        )

    def predict(
        self, tasks: Sequence[Any], plan: Plan, *, deadline: float
    ) -> tuple[list[TaskResult], list[str]]:
        """One result a task, in order, and what a person should know about the config.

        Tasks not begun before the deadline get the problem "late". Raises BridgeError when no model can be had, Busy
        when too many pictures wait for it already."""
        problems = list(plan.problems)
        job = self._job(plan, problems)
        size = max([_CHUNK, *(getattr(detector, "batch", 1) for detector in job.detectors.values())])
        results: list[TaskResult] = []
        ahead: _Begun | None = None
        while len(results) < len(tasks) and self._clock() < deadline:
            start = len(results)
            begun = ahead or self._begin(tasks[start : start + size], job, alone=len(tasks) == 1)
            after = start + len(begun.tasks)
            ahead = self._begin(tasks[after : after + size], job) if after < len(tasks) else None
            try:
                results += self._chunk(begun, job, deadline, patient=bool(results))
            except Busy:
                _give_up(ahead)
                raise
        _give_up(ahead)
        results += [TaskResult(task_id=_id(task), problem=_late()) for task in tasks[len(results) :]]
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
                    asked = item.control.asked
                    if error.retryable or (asked.model_path is None and asked.model_version is None):
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

    def _begin(self, tasks: Sequence[Any], job: _Job, *, alone: bool = False) -> _Begun:
        """Have the tasks' images fetched. One task `alone` does not queue up behind the images of larger requests."""
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
        reducible = job.reducible()
        if alone and len(wanted) == 1:
            fetched: Future[_Fetched] = Future()
            fetched.set_result(self._load(next(iter(wanted)), reducible))
            return _Begun(tasks=tasks, named=named, images=dict.fromkeys(wanted, fetched))
        images = {key: self._fetchers.submit(self._load, key, reducible) for key in wanted}
        return _Begun(tasks=tasks, named=named, images=images)

    def _chunk(self, begun: _Begun, job: _Job, deadline: float, *, patient: bool) -> list[TaskResult]:
        """Raises Busy when the model's queue is full, unless `patient`."""
        tasks, named = begun.tasks, begun.named
        fetched = {key: self._in_time(image, deadline) for key, image in begun.images.items()}
        loaded = {key: image for key, (image, _) in fetched.items()}
        seen = self._look(tasks, named, loaded, job, wait_until=deadline if patient else None)
        results = []
        for task, references in zip(tasks, named, strict=True):
            try:
                if isinstance(references, TaskProblem):
                    raise references
                began = time.perf_counter()
                regions = self._image_regions(task, references, job, loaded, seen)
                encode_s = time.perf_counter() - began
                spent = Spent()
                regions += self._video_regions(task, job, deadline, spent)
                self._timings.encoded(encode_s + spent.encode_s)
                own = {(_id(task), reference) for several in references.values() for reference in several}
                timing = task_timing(
                    decode_s=sum(fetched[key][1] for key in own),
                    encode_s=encode_s,
                    passes=[
                        one for (key, _), what in seen.items() if key in own for one in _timings_of(what)
                    ],
                )
                whole = spent.and_pictures(timing)
                results.append(
                    TaskResult(
                        task_id=_id(task), regions=tuple(regions), timing=whole, unfilled=not job.ready
                    )
                )
            except TaskProblem as problem:
                results.append(TaskResult(task_id=_id(task), problem=problem))
            except Exception as error:
                log.exception("making regions failed")
                wrong = TaskProblem("model", f"regions cannot be made: {type(error).__name__}: {error}")
                results.append(TaskResult(task_id=_id(task), problem=wrong))
        return results

    def _in_time(self, image: Future[_Fetched], deadline: float) -> _Fetched:
        """What was fetched, or "late": a slow server shall not keep back what is done already."""
        while True:
            left = deadline - self._clock()
            try:
                return image.result(timeout=max(0.0, min(left, _LOOK_S)))
            except TimeoutError:
                if left <= 0:
                    image.cancel()
                    return _late(), 0.0

    def _load(self, wanted: _Key, reducible: Reducible) -> _Fetched:
        began = time.perf_counter()
        image = self._image(wanted, reducible)
        seconds = time.perf_counter() - began
        self._timings.decoded(seconds)
        return image, seconds

    def _image(self, wanted: _Key, reducible: Reducible) -> LoadedImage | TaskProblem:
        task_id, reference = wanted
        try:
            number = task_id if isinstance(task_id, int) else None
            return self._images.load(reference, task_id=number, reducible=reducible)
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
        *,
        wait_until: float | None,
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
            seen = self._seen(job.detectors[way.weights], pictures, way.look, wait_until)
            found |= {(key, way): what for key, what in zip(images, seen, strict=True)}
        return found

    def _seen(
        self, detector: Detector, pictures: Sequence[Any], look: Look, wait_until: float | None
    ) -> list[Found | TaskProblem]:
        """All pictures together; if that fails, one after another, so that only the one at fault is lost.

        Raises Busy when the model's queue is full; with `wait_until`, waits for room until then."""
        if not pictures:
            return []
        while True:
            try:
                return list(detector.predict(pictures, look=look))
            except Busy:
                if wait_until is None:
                    raise
                if self._clock() >= wait_until:
                    return [_late() for _ in pictures]
                self._pause(_PAUSE_S)
            except Exception as error:
                if len(pictures) == 1:
                    log.exception("the model failed on an image")
                    told = f"the model failed on this image: {type(error).__name__}: {error}"
                    return [TaskProblem("model", told, passing=is_want_of_memory(error))]
                return [
                    what for picture in pictures for what in self._seen(detector, [picture], look, wait_until)
                ]

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
            whole = one.item.kind.whole and control.source.several and not control.per_item
            pages: list[tuple[Found, Target]] = []
            for page, reference in enumerate(references[control.source]):
                key = (_id(task), reference)
                image = loaded[key]
                found = image if isinstance(image, TaskProblem) else seen[key, job.passes[index]]
                if isinstance(found, TaskProblem):
                    raise found
                assert isinstance(image, LoadedImage)
                target = Target(
                    control=control,
                    labels=one.labels,
                    threshold=one.item.threshold,
                    seen=image.image.size,
                    shown=(image.width, image.height),
                    new_id=self._new_id,
                    parent=one.item.parent,
                    item_index=page if control.source.several and not whole else None,
                )
                pages.append((one.narrowed(found), target))
            if whole:  # Label Studio shows one answer for all pages, and exports all that there are
                pages = [(of_all_pages(found for found, _ in pages), pages[0][1])]
            assert one.item.kind.to_regions is not None
            for found, target in pages:
                regions += one.item.kind.to_regions(found, target)
        return regions

    def _video_regions(self, task: Any, job: _Job, deadline: float, spent: Spent) -> list[Region]:
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
                source, data, controls, job.detectors, task_id=_id(task), deadline=deadline, spent=spent
            )
        ]


def _give_up(begun: _Begun | None) -> None:
    for image in begun.images.values() if begun is not None else ():
        image.cancel()


def _timings_of(what: Found | TaskProblem) -> list[Timing]:
    return [what.timing] if isinstance(what, Found) and what.timing is not None else []


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
    # Regions of somebody's own model may be relations, or lack what ours have.
    kind, value = region.get("type"), region.get("value")
    if not isinstance(kind, str) or not isinstance(value, dict):
        return []
    labels = value.get("labels" if kind == "videorectangle" else kind)
    return [_label_of(label) for label in labels] if isinstance(labels, list) else []


def _label_of(label: Any) -> str:
    """Of a Taxonomy the way to it."""
    return " / ".join(map(str, label)) if isinstance(label, list) else str(label)
