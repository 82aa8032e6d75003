"""What the door (service.py) asks of a model, whichever it is: ours (yolo_model.py) or somebody's own (own_model.py).

The door keeps the time, lets in as many requests as may run, logs, counts and records; a model knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ml_backend.predict import TaskResult
from ml_backend.protocol import PredictRequest, SetupRequest


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a model will predict for a config: under which version, and what a person should know."""

    model_version: str
    warnings: Sequence[str] = ()
    engines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What computes each of the loaded models, by version of their weights, and why (yolo.py, engine_status)."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One result a task, in order, all of one version."""

    results: Sequence[TaskResult]
    model_version: str
    warnings: Sequence[str] = ()


class Model(Protocol):
    """Calls come from several threads."""

    def start(self) -> None:
        """Begin to load; returns at once."""

    def status(self) -> dict[str, Any]:
        """For /health: at least `state`, one of searching, loading, ready, failed."""

    def setup(self, request: SetupRequest, *, wait_s: float) -> Offer:
        """Answers within `wait_s` or a little more. Raises BridgeError when the model cannot be used."""

    def predict(self, request: PredictRequest, *, deadline: float) -> Answer:
        """What is not begun at the deadline (time.monotonic) gets the problem "late". Its version is the one that
        `setup` gives for the same project and config, unless the request asks for another one.

        Raises BridgeError when the model cannot be used, SenderError when the version asked for is not known."""

    def versions(self, configs: Sequence[tuple[str, str]]) -> list[str]:
        """Those that a request may ask for, given labeling configs as (project, config). Waits for nothing."""

    def published(self) -> list[str]:
        """Versions of weights that every backend with this bucket may be asked for. Waits for nothing."""

    def learn(self, action: str, event: Mapping[str, Any]) -> str | None:
        """Take in what Label Studio tells (START_TRAINING, ANNOTATION_CREATED …); returns at once.

        The id of the training it begins, or None when this model does not learn from such an event."""
