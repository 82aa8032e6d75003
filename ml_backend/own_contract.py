"""How classes written for label-studio-ml are made and asked: 1.0.9 (PyPI), the 2.x line (GitHub), and plain ones like them.

Nothing of label-studio-ml is imported: a class is known by the names of its parameters.
- 1.x: `__init__(label_config, train_output, hostname, access_token)`, `predict(tasks, **params)`,
  `fit(tasks, workdir, event=…, data=…, job_id=…)` whose answer is the next `train_output`.
- 2.x: `__init__(project_id, label_config)`, `predict(tasks, context, **params)`, `fit(event, data)`, `get("model_version")`.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bridge.errors import NotFound, Refused

Contract = Literal["1.x", "2.x", "plain"]
_BASE = "LabelStudioMLBase"
_INSTALL = ": `pip install --no-deps -r requirements/label-studio-ml.txt`, or the 2.x line that your class is written for"
_OURS = ("context", "model_version", "prelabel")  # of a request's params: not for the model as they are


def load_class(name: str) -> type:
    """The class that MODEL_CLASS names, as package.module:Class. Raises NotFound or Refused saying what to do."""
    module_name, _, class_name = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        hint = "start from the folder it is in, or add that to PYTHONPATH"
        if error.name and not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            hint = f"it imports {error.name!r}, which is not installed here"
            if error.name.partition(".")[0] == "label_studio_ml":
                hint += _INSTALL
        raise NotFound(f"MODEL_CLASS={name}: {error}", hint=hint) from error
    except Exception as error:
        raise Refused(f"MODEL_CLASS={name}: importing it failed: {type(error).__name__}: {error}") from error
    for part in class_name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise NotFound(f"MODEL_CLASS={name}: {module_name} has no class {class_name!r}")
    if not callable(getattr(found, "predict", None)):
        raise Refused(f"MODEL_CLASS={name}: the class has no predict(tasks, …)")
    return found


def contract_of(cls: type) -> Contract:
    """By the first constructor, from the class upwards, that names what only one line has."""
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        names = _parameters(init) if init is not None and base is not object else {}
        if "project_id" in names:
            return "2.x"
        if "train_output" in names:
            return "1.x"
    return "plain"


def learns(cls: type) -> bool:
    """Whether somebody wrote a fit(): the one of label-studio-ml's base does nothing."""
    return _writes(cls, "fit") or (contract_of(cls) == "1.x" and _writes(cls, "process_event"))


def train_events(cls: type) -> tuple[str, ...]:
    """The events that a class of 1.x says it learns from, PROJECT_UPDATED among them unless it says otherwise. The server
    of the 2.x line does not ask its classes."""
    told = getattr(cls, "TRAIN_EVENTS", ()) if contract_of(cls) == "1.x" else ()
    return tuple(told) if isinstance(told, list | tuple | set | frozenset) else ()


def train(model: Any, event: str, data: Mapping[str, Any], *, workdir: Path, job_id: str) -> Any:
    """What fit() answers; a class of 1.x may look at events in a process_event() of its own. Raises what they raise."""
    if contract_of(type(model)) != "1.x":
        return model.fit(event, data)
    workdir.mkdir(parents=True, exist_ok=True)
    if _writes(type(model), "process_event"):
        return model.process_event(event, data, job_id, {"workdir": str(workdir)})
    return model.fit((), workdir=str(workdir), event=event, data=data, job_id=job_id)


def make(
    cls: type,
    *,
    project_id: str,
    label_config: str,
    train_output: Mapping[str, Any],
    hostname: str,
    access_token: str,
) -> Any:
    """A model for one project and config. Raises what its constructor raises."""
    known: dict[str, Any] = {
        "1.x": {
            "label_config": label_config,
            "train_output": dict(train_output),
            "hostname": hostname,
            "access_token": access_token,
        },
        "2.x": {"project_id": project_id, "label_config": label_config},
        "plain": {"project_id": project_id, "label_config": label_config},
    }[contract_of(cls)]
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return cls()
    return cls(**_accepted(cls.__init__, known))  # type: ignore[misc]


def ask(model: Any, tasks: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """What its predict() answers. `params`: those of the request. Raises what it raises."""
    context = params.get("context")
    given = {name: value for name, value in params.items() if name not in _OURS} | {"context": context}
    return model.predict(list(tasks), **_accepted(model.predict, given))


def read_answer(answer: Any, count: int) -> list[tuple[dict[str, Any], ...]]:
    """For each of `count` tasks its predictions: {"result": [regions], "score": number}.

    Takes lists of dicts, lists of lists of them, objects with `predictions` (2.x's ModelResponse) and with serialize() or
    model_dump(). Nothing at all, as models that only answer what a person draws give for everything else, is no
    prediction for any task. Raises ValueError saying what is wrong."""
    items = answer
    if isinstance(items, Mapping):
        items = items.get("results", items.get("predictions"))
    elif hasattr(items, "predictions"):
        items = items.predictions
    if items is None or (isinstance(items, list | tuple) and not items):
        return [()] * count
    if not isinstance(items, list | tuple):
        raise ValueError(f"predict() answered a {type(answer).__name__}, not a list of predictions")
    if len(items) != count:
        raise ValueError(f"predict() answered {len(items)} predictions for {count} tasks")
    return [_predictions(item) for item in items]


def told_version(model: Any) -> str | None:
    """The version that a model says it has, None when it says none of its own."""
    told = None
    get = getattr(model, "get", None)
    if contract_of(type(model)) == "2.x" and callable(get):
        told = get("model_version")
    if told is None:
        told = getattr(model, "model_version", None)
    if told is None or callable(told) or not str(told).strip():
        return None
    initial = getattr(type(model), "INITIAL_MODEL_VERSION", None)
    chosen = any(
        "INITIAL_MODEL_VERSION" in base.__dict__ for base in type(model).__mro__ if base.__name__ != _BASE
    )
    return None if initial is not None and str(told) == str(initial) and not chosen else str(told).strip()


def made_version(cls: type, label_config: str, training: str = "") -> str:
    """For a model that tells none: its class, code, training and labeling config."""
    return f"{code_version(cls, training)}.m{hashlib.sha256(label_config.encode()).hexdigest()[:8]}"


def code_version(cls: type, training: str = "") -> str:
    """A class, the code of its module, and what it learnt last."""
    source = inspect.getsourcefile(cls) if cls.__module__ in sys.modules else None
    code = Path(source).read_bytes() if source and Path(source).is_file() else cls.__qualname__.encode()
    return ".".join([cls.__name__, hashlib.sha256(code).hexdigest()[:8], *([training] if training else [])])


def _predictions(item: Any) -> tuple[dict[str, Any], ...]:
    several = item if isinstance(item, list | tuple) else [item]
    return tuple(_prediction(_plain(one)) for one in several)


def _prediction(one: Any) -> dict[str, Any]:
    if not isinstance(one, Mapping):
        raise ValueError(f"a prediction is a {type(one).__name__}, not an object with 'result'")
    result = one.get("result")
    result = [_plain(region) for region in result] if isinstance(result, list | tuple) else None
    if result is None or not all(isinstance(region, dict) for region in result):
        raise ValueError("a prediction has no 'result' that is a list of regions")
    score = _plain(one.get("score"))
    is_number = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)
    found = {"result": result, "score": float(score) if is_number else 0.0}
    try:
        cleaned: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False, default=_plain_number))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a prediction cannot be sent as JSON: {error}") from error
    return cleaned


def _plain(value: Any) -> Any:
    """An object of label-studio-sdk or pydantic as a dict, a number of numpy as one of Python."""
    for name in ("serialize", "model_dump", "dict"):
        method = None if isinstance(value, Mapping | type) else getattr(value, name, None)
        if callable(method):
            return method()
    return _plain_number(value) if hasattr(value, "dtype") else value


def _plain_number(value: Any) -> Any:
    for name in ("tolist", "item"):
        method = getattr(value, name, None)
        if callable(method):
            return method()
    if hasattr(value, "serialize") or hasattr(value, "model_dump") or hasattr(value, "dict"):
        return _plain(value)
    raise TypeError(f"a {type(value).__name__}")


def _writes(cls: type, name: str) -> bool:
    """Whether a method is somebody's own."""
    return any(name in base.__dict__ for base in cls.__mro__ if base.__name__ != _BASE)


def _accepted(function: Callable[..., Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Of the arguments we know, those that a function takes by name."""
    names = _parameters(function)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in names.values()):
        return dict(known)
    return {name: value for name, value in known.items() if name in names}


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
