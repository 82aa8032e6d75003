"""Somebody's own model, a class of label-studio-ml, as the door asks for it (model.py); docs/own-model.md.

The class is brought unchanged, so nothing is taken for granted: making it may take minutes, predict() may hang, raise for
one task of many, or answer too few; fit() may take an hour. None of that may cost another task, or keep /setup waiting.
"""

from __future__ import annotations

import copy
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bridge.errors import SenderError, Unavailable
from ml_backend import own_contract
from ml_backend.model import Answer, Offer
from ml_backend.own_contract import load_class
from ml_backend.own_training import Trainings
from ml_backend.own_yolo import Asking, is_plain_yolo, stands_on_yolo
from ml_backend.predict import TaskResult
from ml_backend.problems import TaskProblem
from ml_backend.protocol import PredictRequest, SetupRequest
from ml_backend.yolo_model import YoloModel

__all__ = ["OwnModel", "load_class"]
log = logging.getLogger(__name__)
_CHUNK = 16  # tasks given to predict() at once: what is done when time is over is kept
_KEPT = 32  # models in memory, one a project and labeling config
_YOLO_ENDS_S = (
    10.0  # our model ends what it has begun when time is over, and a class that stands on it has its turn
)
EVENTS = (
    "START_TRAINING",
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATIONS_DELETED",
)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A model of one project and config. `version`: where it tells none of its own; of a class that stands on our model, what
    it adds to that one's."""

    model: Any
    version: str


class OwnModel:
    """Safe to use from several threads. The class is asked by one thread at a time, unless it says `thread_safe = True`.

    `load` gives the class, or raises BridgeError. `folder`: for what fit() leaves. `yolo` makes our own model, for a class
    that stands on it (own_yolo.py)."""

    def __init__(
        self,
        *,
        load: Callable[[], type],
        folder: Path,
        yolo: Callable[[], YoloModel] | None = None,
        label_studio_url: str = "",
        api_key: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._make_yolo = yolo
        self._yolo: YoloModel | None = None
        self._label_studio_url = label_studio_url
        self._api_key = api_key
        self._clock = clock
        self._class: Future[type] | None = None
        self._made: OrderedDict[tuple[str, str], Future[_Made]] = OrderedDict()
        self._memory = threading.Lock()
        self._turn = threading.Lock()
        self._extra_params: dict[str, str] = {}
        self._access_token = ""
        self._trainings = Trainings(folder, done=self._forget)

    def start(self) -> None:
        with self._memory:
            if self._class is None:
                self._class = _begin(self._load_class, name="model-class")

    def status(self) -> dict[str, Any]:
        loading = self._class
        if loading is None or not loading.done():
            return {"state": "loading"}
        error = loading.exception()
        if error is not None:
            return {"state": "failed", "reason": str(error)}
        cls = loading.result()
        shown = {"state": "ready", "name": cls.__qualname__, "contract": own_contract.contract_of(cls)}
        if self._yolo is not None:
            shown = {"class": cls.__qualname__, "contract": shown["contract"]} | self._yolo.status()
        return shown | self._trainings.status()

    def setup(self, request: SetupRequest, *, wait_s: float) -> Offer:
        """Raises Unavailable when the model is not made within `wait_s`; it goes on being made."""
        if request.access_token:
            self._access_token = request.access_token
        deadline = self._clock() + wait_s
        made = self._model(request.project, request.label_config, deadline)
        if request.extra_params is not None:
            self._take_extra_params(made.model, request)
        if self._yolo is not None:
            return self._tagged(self._yolo, made).setup(request, wait_s=max(0.0, deadline - self._clock()))
        return Offer(model_version=self._version(made))

    def predict(self, request: PredictRequest, *, deadline: float) -> Answer:
        made = self._model(request.project, request.label_config, deadline)
        if self._yolo is not None:
            asking = Asking(self._tagged(self._yolo, made), request, deadline=deadline)
            # All at once: it makes its own batches, fetches pictures ahead, and keeps the time.
            return asking.answer(
                self._chunk(made.model, request.tasks, request.params, deadline + _YOLO_ENDS_S, asking)
            )
        version = self._version(made)
        if request.wanted_version not in ("", version):
            raise SenderError(
                f"there is no model version {request.wanted_version!r} for this labeling config",
                hint=f"there is {version}",
            )
        results: list[TaskResult] = []
        for start in range(0, len(request.tasks), _CHUNK):
            results += self._chunk(
                made.model, request.tasks[start : start + _CHUNK], request.params, deadline
            )
        return Answer(results=results, model_version=version)

    def versions(self, configs: Sequence[tuple[str, str]]) -> list[str]:
        with self._memory:
            done = [made for made in self._made.values() if made.done() and made.exception() is None]
        if self._yolo is not None:
            # Of all instances the newest: they differ in their config, not in the class.
            yolo = self._tagged(self._yolo, done[-1].result()) if done else None
            return yolo.versions(configs) if yolo is not None else []
        return list(dict.fromkeys(self._version(made.result()) for made in reversed(done)))

    def published(self) -> list[str]:
        return self._yolo.published() if self._yolo is not None else []

    def learn(self, action: str, event: Mapping[str, Any]) -> str | None:
        """Raises Unavailable when too many trainings wait already."""
        cls = self._loaded(0.0)
        if not own_contract.learns(cls):
            return self._yolo.learn(action, event) if self._yolo is not None else None
        if action not in EVENTS and action not in own_contract.train_events(cls):
            return None
        project = event.get("project")
        fields = project if isinstance(project, Mapping) else {}
        label_config = fields.get("label_config")
        data = {name: value for name, value in event.items() if name != "action"}
        return self._trainings.add(
            cls,
            lambda: self._make(
                cls, str(fields.get("id", "")), label_config if isinstance(label_config, str) else ""
            ),
            action,
            data,
        )

    def _chunk(
        self,
        model: Any,
        tasks: Sequence[Any],
        params: Mapping[str, Any],
        deadline: float,
        asking: Asking | None = None,
    ) -> list[TaskResult]:
        """All together; when that fails, one by one, so that only the task at fault is lost.

        Raises BridgeError where our own model below the class could not answer."""
        left = deadline - self._clock()
        if left <= 0:
            return [_late(task) for task in tasks]
        try:
            asked = _copied(tasks)
            answered = self._asked(model, asked, params, left, asking)
            join = _result if asking is None else asking.result
            return [
                join(task, predictions) if predictions else _nothing(task)
                for task, predictions in zip(tasks, answered, strict=True)
            ]
        except _NotInTime:
            return [_late(task) for task in tasks]
        except Exception as error:
            if asking is not None:
                asking.check()
            if len(tasks) > 1:
                return [
                    result
                    for task in tasks
                    for result in self._chunk(model, [task], params, deadline, asking)
                ]
            log.warning("predict() failed on a task: %r", error, exc_info=not isinstance(error, ValueError))
            told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            problem = TaskProblem("model", f"the model failed on this task: {told}")
            return [TaskResult(task_id=_id(tasks[0]), problem=problem)]

    def _asked(
        self,
        model: Any,
        tasks: Sequence[Any],
        params: Mapping[str, Any],
        wait_s: float,
        asking: Asking | None,
    ) -> list[tuple[dict[str, Any], ...]]:
        """On a thread of its own: one that hangs keeps its turn, and costs nobody more than the time they have.

        Raises _NotInTime, and what predict() raises."""
        alone = not getattr(type(model), "thread_safe", False)
        if alone and not self._turn.acquire(timeout=wait_s):
            raise _NotInTime

        def work() -> list[tuple[dict[str, Any], ...]]:
            try:
                with asking.here() if asking is not None else nullcontext():
                    return own_contract.read_answer(own_contract.ask(model, tasks, params), len(tasks))
            finally:
                if alone:
                    self._turn.release()

        return _wait(_begin(work, name="own-predict"), wait_s)

    def _load_class(self) -> type:
        cls = self._load()
        if stands_on_yolo(cls) and self._make_yolo is not None:
            self._yolo = self._make_yolo()
            self._yolo.start()
        return cls

    def _loaded(self, wait_s: float) -> type:
        """Raises Unavailable."""
        self.start()
        assert self._class is not None
        try:
            return _wait(self._class, wait_s)
        except _NotInTime:
            raise Unavailable("the model is still being imported", hint="try again in a moment") from None
        except Exception as error:
            raise Unavailable(f"the model cannot be used: {error}") from error

    def _model(self, project: str, label_config: str, deadline: float) -> _Made:
        """The one of this project and config, made when it is asked for the first time. Raises Unavailable."""
        cls = self._loaded(deadline - self._clock())
        key = (project, label_config)
        with self._memory:
            making = self._made.get(key)
            if making is None or (making.done() and making.exception() is not None):
                making = _begin(lambda: self._make(cls, project, label_config), name="own-model")
                self._forget_other_configs(cls, project)
                self._made[key] = making
            self._made.move_to_end(key)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        try:
            return _wait(making, deadline - self._clock())
        except _NotInTime:
            raise Unavailable(
                f"{cls.__name__} is still being set up for this project", hint="try again in a moment"
            ) from None
        except Exception as error:
            raise Unavailable(f"{cls.__name__} cannot be made: {type(error).__name__}: {error}") from error

    def _forget_other_configs(self, cls: type, project: str) -> None:
        """A 2.x class keeps its labeling config by project, outside the instance: one made for an earlier config would
        read the newer one. Called with the lock."""
        if own_contract.contract_of(cls) == "2.x":
            id = project.partition(".")[0]
            for key in [key for key in self._made if key[0].partition(".")[0] == id]:
                del self._made[key]

    def _make(self, cls: type, project: str, label_config: str) -> _Made:
        training, train_output = self._trainings.newest()
        model = own_contract.make(
            cls,
            project_id=project.partition(".")[0],
            label_config=label_config,
            train_output=train_output,
            hostname=self._label_studio_url,
            access_token=self._api_key or self._access_token,
        )
        if (extra_params := self._extra_params.get(project)) is not None:
            _tell(model, extra_params)
        if stands_on_yolo(cls):
            tag = "" if is_plain_yolo(cls) else own_contract.code_version(cls, training)
            return _Made(model=model, version=tag)
        return _Made(model=model, version=own_contract.made_version(cls, label_config, training))

    def _tagged(self, yolo: YoloModel, made: _Made) -> YoloModel:
        """Versions are those of our model, and what the class says of its own, or its code."""
        return yolo.tagged(self._version(made))

    def _version(self, made: _Made) -> str:
        """What the model says now: fit() and setup() of 2.x may have set another one meanwhile."""
        try:
            return own_contract.told_version(made.model) or made.version
        except Exception as error:
            raise Unavailable(
                f"the model cannot tell its version: {type(error).__name__}: {error}"
            ) from error

    def _take_extra_params(self, model: Any, request: SetupRequest) -> None:
        """For this model, and for those of the project that are made later. 2.x keeps them as text, and fails for anything
        else."""
        text = (
            request.extra_params
            if isinstance(request.extra_params, str)
            else json.dumps(request.extra_params)
        )
        if self._extra_params.get(request.project) != text and _tell(model, text):
            self._extra_params[request.project] = text

    def _forget(self) -> None:
        """A training is done: models are made again, from what it left."""
        with self._memory:
            self._made.clear()


class _NotInTime(Exception):
    """Still under way. Not TimeoutError: somebody's predict() may raise that, about something else."""


def _wait(future: Future[T], seconds: float) -> T:
    """Raises _NotInTime, and what was raised there."""
    try:
        return future.result(timeout=max(0.0, seconds))
    except TimeoutError:
        if future.done():
            return future.result()
        raise _NotInTime from None


def _begin(work: Callable[[], T], *, name: str) -> Future[T]:
    """On a daemon thread: nothing waits for it when the program ends."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)
        except BaseException as error:  # sys.exit() in somebody's code ends that call, nothing else
            future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def _result(task: Any, predictions: tuple[dict[str, Any], ...]) -> TaskResult:
    regions = tuple(_with_number(region) for prediction in predictions for region in prediction["result"])
    return TaskResult(task_id=_id(task), regions=regions, given=predictions)


def _with_number(region: dict[str, Any]) -> dict[str, Any]:
    """As the record takes it: a score that is no number is left out. Label Studio is given the region as it is."""
    score = region.get("score")
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    return region if is_number else {name: value for name, value in region.items() if name != "score"}


def _tell(model: Any, extra_params: str) -> bool:
    """Whether the model took them; most have no use for any."""
    tell = getattr(model, "set_extra_params", None)
    if not callable(tell):
        return True
    try:
        tell(extra_params)
    except Exception:
        log.exception("set_extra_params() failed")
        return False
    return True


def _nothing(task: Any) -> TaskResult:
    """As a 2.x server does, which then sends no result at all: Label Studio stores none, and asks again."""
    problem = TaskProblem("model", "the model gave no prediction", passing=True)
    return TaskResult(task_id=_id(task), problem=problem)


def _copied(tasks: Sequence[Any]) -> Sequence[Any]:
    """A model that writes into its tasks shall not see that when it is asked again. Raises ValueError."""
    try:
        return copy.deepcopy(tasks)
    except RecursionError:
        raise ValueError("its data is nested too deeply") from None


def _late(task: Any) -> TaskResult:
    problem = TaskProblem(
        "late", "not done in time", hint="ask again for the rest: what is done is kept", passing=True
    )
    return TaskResult(task_id=_id(task), problem=problem)


def _id(task: Any) -> Any:
    found = task.get("id") if isinstance(task, Mapping) else None
    return found if isinstance(found, int | str) else None
