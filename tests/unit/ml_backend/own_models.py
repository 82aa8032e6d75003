"""Models as people write them for label-studio-ml; and a stand-in for the base class of its 2.x line, which PyPI lacks.

The stand-in keeps to that line's contract (constructor, setup(), get and set, model_version, predict, fit) and to what trips
others up there: settings are text, and nothing else, and lie outside the instance, the labeling config among them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, ClassVar

from label_studio_ml.model import LabelStudioMLBase as BaseOf1  # type: ignore[import-untyped]


def regions(label: str, score: Any = 0.5) -> list[dict[str, Any]]:
    value = {"x": 1, "y": 2, "width": 3, "height": 4, "rectanglelabels": [label]}
    return [
        {"from_name": "label", "to_name": "image", "type": "rectanglelabels", "value": value, "score": score}
    ]


class LabelStudioMLBase:
    """The 2.x line's."""

    INITIAL_MODEL_VERSION = "0.0.1"
    _kept: ClassVar[dict[tuple[str, str], str]] = {}

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.set("label_config", label_config)
        if not self.get("model_version"):
            self.set("model_version", self.INITIAL_MODEL_VERSION)
        self.setup()

    def setup(self) -> None:
        pass

    def get(self, key: str) -> str | None:
        return self._kept.get((self.project_id, key))

    def set(self, key: str, value: str) -> None:
        if not isinstance(value, str):
            raise ValueError("Value must be a string")
        self._kept[self.project_id, key] = value

    def set_extra_params(self, extra_params: str) -> None:
        self.set("extra_params", extra_params)

    @property
    def label_config(self) -> str | None:
        return self.get("label_config")

    @property
    def model_version(self) -> str | None:
        return self.get("model_version")

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any:
        return None

    def fit(self, event: str, data: dict[str, Any], **kwargs: Any) -> Any:
        return None


class PredictionValue:
    """As label-studio-sdk's: no dict, but made into one by serialize()."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def serialize(self) -> dict[str, Any]:
        return self._fields


@dataclass
class ModelResponse:
    predictions: list[Any]
    model_version: str | None = None


class Plain2(LabelStudioMLBase):
    """Answers a list of dicts; fails for every task whose text says so."""

    def setup(self) -> None:
        self.set("model_version", "shapes-7")

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any:
        return [self._one(task) for task in tasks]

    def _one(self, task: dict[str, Any]) -> dict[str, Any]:
        if task["data"]["image"] == "bad":
            raise KeyError("no such shape")
        if task["data"]["image"] == "slow":
            raise TimeoutError("the picture's server is slow")
        return {"result": regions("Box"), "score": 0.25, "model_version": "something else"}


class Response2(LabelStudioMLBase):
    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any:
        several = [PredictionValue(result=regions("A"), score=0.1), {"result": regions("B"), "score": 0.2}]
        return ModelResponse(predictions=[several for _ in tasks], model_version="constant")


class Contextual2(LabelStudioMLBase):
    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any:
        said = f"{len(tasks)} {context} {sorted(kwargs)}"
        return [{"result": regions(said), "score": 1} for _ in tasks]


class Drawn2(LabelStudioMLBase):
    """Answers what a person draws, and nothing else, as the examples with segment-anything do."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any:
        if not context or not context.get("result"):
            return ModelResponse(predictions=[])
        return ModelResponse(predictions=[PredictionValue(result=regions("drawn"), score=0.5)])


class Silent2(LabelStudioMLBase):
    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any:
        return None


class Configured2(LabelStudioMLBase):
    """Says which labeling config it goes by."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any:
        return [{"result": regions(self.label_config or ""), "score": 1} for _ in tasks]


class Told:
    """No base class, and what it is told is its own."""

    model_version = "told-1"

    def __init__(self, label_config: str) -> None:
        self.extra_params = ""

    def set_extra_params(self, extra_params: str) -> None:
        self.extra_params = extra_params

    def predict(self, tasks: list[dict[str, Any]]) -> Any:
        return [{"result": regions(self.extra_params), "score": 1.0} for _ in tasks]


class FirstOnly2(LabelStudioMLBase):
    """As many are: written for one task."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any:
        return [{"result": regions(tasks[0]["data"]["image"]), "score": 0.5}]


class Hangs2(LabelStudioMLBase):
    gate: ClassVar[threading.Event] = threading.Event()

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any:
        self.gate.wait(30)
        return [{"result": [], "score": 0} for _ in tasks]


class Odd2(LabelStudioMLBase):
    """Answers what Label Studio would refuse the whole batch for."""

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any:
        answers = {
            "none": None,
            "no result": {"score": 1},
            "null result": {"result": None},
            "text score": {"result": regions("A"), "score": "abc"},
            "nan score": {"result": regions("A"), "score": float("nan")},
            "nan region": {"result": regions("A", float("nan")), "score": 1},
            "null version": {"result": regions("A"), "score": 1, "model_version": None},
            "exit": None,
        }
        if tasks[0]["data"]["image"] == "exit":
            raise SystemExit("bye")
        return [answers[task["data"]["image"]] for task in tasks]


class Learns2(LabelStudioMLBase):
    learnt: ClassVar[list[tuple[str, str]]] = []
    gate: ClassVar[threading.Event] = threading.Event()

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **kwargs: Any) -> Any:
        return [{"result": [], "score": 0} for _ in tasks]

    def fit(self, event: str, data: dict[str, Any], **kwargs: Any) -> Any:
        assert self.gate.wait(30)
        self.learnt.append((event, self.project_id))
        self.set("model_version", f"learnt-{len(self.learnt)}")


class Breaks2(LabelStudioMLBase):
    def setup(self) -> None:
        raise RuntimeError("no weights here")


class Slow2(LabelStudioMLBase):
    """Takes long to be made."""

    gate: ClassVar[threading.Event] = threading.Event()
    made: ClassVar[list[str]] = []

    def setup(self) -> None:
        self.made.append(self.project_id)
        assert self.gate.wait(30)


class Old1(BaseOf1):  # type: ignore[misc]
    """Of the 1.0.9 on PyPI, with the constructor that its examples have."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.label = self.train_output.get("label", next(iter(self.parsed_label_config)))

    def predict(self, tasks: list[dict[str, Any]], **kwargs: Any) -> Any:
        return [{"result": regions(self.label), "score": 0.75} for _ in tasks]

    def fit(self, tasks: Any, workdir: str | None = None, **kwargs: Any) -> dict[str, Any]:
        return {"label": f"learnt from {kwargs['event']}"}


class Events1(BaseOf1):  # type: ignore[misc]
    """Looks at events itself, and at more of them than others do."""

    TRAIN_EVENTS = ("PROJECT_UPDATED",)
    heard: ClassVar[list[tuple[str, str, list[str]]]] = []

    def predict(self, tasks: list[dict[str, Any]], **kwargs: Any) -> Any:
        return [{"result": [], "score": 0} for _ in tasks]

    def process_event(self, event: str, data: Any, job_id: str, additional_params: dict[str, Any]) -> Any:
        self.heard.append((event, job_id, sorted(additional_params)))


class Duck:
    """No base class at all."""

    model_version = "duck-1"

    def predict(self, tasks: list[dict[str, Any]]) -> Any:
        return [{"result": regions("Duck"), "score": 1.0} for _ in tasks]
