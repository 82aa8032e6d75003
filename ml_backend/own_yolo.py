"""Our YOLO model below a class of somebody's: what Yolo.predict() (yolo_class.py) asks, and what goes past the class.

A class of label-studio-ml answers regions and a score, no more. What the door tells besides (tasks whose trouble will
pass, seconds, warnings, the version of the weights) is kept here for each request, and joined with the class's answer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from bridge.errors import BridgeError
from ml_backend.model import Answer
from ml_backend.predict import TaskResult
from ml_backend.protocol import PredictRequest, SetupRequest
from ml_backend.yolo_model import YoloModel

MARK = "stands_on_our_yolo"
"""What Yolo says of itself: its subclasses are known by it, before label-studio-ml is imported here."""
_asking: ContextVar[Asking] = ContextVar("asking")


def stands_on_yolo(cls: type) -> bool:
    return bool(getattr(cls, MARK, False))


def is_plain_yolo(cls: type) -> bool:
    """Yolo itself, with nothing of somebody's in it: its versions are those of the default model."""
    return MARK in vars(cls)


def current() -> Asking:
    """The request that this thread is at. Raises RuntimeError elsewhere."""
    found = _asking.get(None)
    if found is None:
        raise RuntimeError(
            "Yolo.predict() works behind the ML backend's door: serve the class with MODEL_CLASS=module:Class, and "
            "call super().predict() on the thread that your predict() is called on"
        )
    return found


class Asking:
    """One request to a class that stands on Yolo. A task is looked at once, however often the class asks for it.

    Safe to use from several threads."""

    def __init__(self, yolo: YoloModel, request: PredictRequest, *, deadline: float) -> None:
        self._yolo = yolo
        self._request = request
        self._deadline = deadline
        self._known: dict[str, TaskResult] = {}
        self._warnings: dict[str, None] = {}
        self._version = ""
        self._trouble: BridgeError | None = None
        self._lock = threading.Lock()

    @contextmanager
    def here(self) -> Iterator[None]:
        """Yolo.predict() on this thread means this request."""
        token = _asking.set(self)
        try:
            yield
        finally:
            _asking.reset(token)

    def predict(self, tasks: Sequence[Any], context: Any) -> list[dict[str, Any]]:
        """One prediction a task, in order; with `error` where there is none. Raises BridgeError."""
        keys = [_key(task, context) for task in tasks]
        with self._lock:
            new = {key: task for key, task in zip(keys, tasks, strict=True) if key not in self._known}
            if new or not self._version:
                self._ask(new, context)
            return [self._prediction(self._known[key]) for key in keys]

    def result(self, task: Any, predictions: tuple[dict[str, Any], ...]) -> TaskResult:
        """What the class answered for a task, joined with what it could not say. A task that could not be predicted stays
        so, unless the class found something all the same."""
        regions = tuple(region for prediction in predictions for region in prediction["result"])
        below = self._known.get(_key(task, self._request.params.get("context")))
        if below is None:
            return TaskResult(task_id=_id(task), regions=regions, given=predictions)
        if below.problem is not None and not regions:
            return TaskResult(task_id=_id(task), problem=below.problem)
        if below.unfilled and not regions:
            return TaskResult(task_id=_id(task), timing=below.timing, unfilled=True)
        found = TaskResult(task_id=_id(task), regions=regions, given=predictions, timing=below.timing)
        if len(predictions) == 1 and predictions[0]["score"] == below.score:
            # The mean of regions of which some may be gone by now.
            found = replace(found, given=({**predictions[0], "score": found.score},))
        return found

    def answer(self, results: Sequence[TaskResult]) -> Answer:
        """Raises BridgeError, where the class never came to ask and the model cannot be used. Waits for no other thread."""
        if not self._version and self._request.wanted_version and not self._lock.locked():
            self.predict([], None)
        version = self._version
        if not version:
            known = SetupRequest(project=self._request.project, label_config=self._request.label_config)
            version = self._yolo.setup(known, wait_s=0.0).model_version
        return Answer(results=results, model_version=version, warnings=list(self._warnings))

    def check(self) -> None:
        """Raises what kept the model from answering: that is no fault of a task's."""
        if self._trouble is not None:
            raise self._trouble

    def _ask(self, new: Mapping[str, Any], context: Any) -> None:
        wanted = self._version or self._request.wanted_version  # one request, one version
        request = replace(
            self._request,
            tasks=tuple(new.values()),
            params={**self._request.params, "context": context},
            wanted_version=wanted,
        )
        try:
            answer = self._yolo.predict(request, deadline=self._deadline)
        except BridgeError as error:
            self._trouble = error
            raise
        self._version = answer.model_version
        self._warnings |= dict.fromkeys(answer.warnings)
        self._known |= dict(zip(new, answer.results, strict=True))

    def _prediction(self, found: TaskResult) -> dict[str, Any]:
        prediction: dict[str, Any] = {
            "result": json.loads(json.dumps(found.regions)),  # the class's own, to be changed at will
            "score": found.score,
            "model_version": self._version,
        }
        return prediction | ({"error": str(found.problem)} if found.problem is not None else {})


def _key(task: Any, context: Any) -> str:
    known = [_id(task), task.get("data"), context] if isinstance(task, Mapping) else task
    return json.dumps(known, sort_keys=True, default=str)


def _id(task: Any) -> Any:
    found = task.get("id") if isinstance(task, Mapping) else None
    return found if isinstance(found, int | str) else None
