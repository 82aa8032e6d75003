"""How long the steps of a prediction take, as the metrics and the records are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ml_backend.engines.compare import Difference


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Of one picture's way through a model: seconds it waited for its batch, seconds the batch took, how many pictures
    were in it (or were computed beside it, with itself), and the engine that computed it."""

    queue_s: float
    inference_s: float
    batch: int
    engine: str


@dataclass(frozen=True, kw_only=True)
class TaskTiming:
    """Of one task, over all its pictures and passes, in seconds: fetching and decoding, waiting for a batch, the batches
    it was part of (shared with others), making regions. `batch`: the largest of those batches."""

    decode_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0
    encode_s: float = 0.0
    batch: int = 0
    engines: tuple[str, ...] = ()


def task_timing(*, decode_s: float, encode_s: float, passes: Sequence[Timing]) -> TaskTiming:
    return TaskTiming(
        decode_s=decode_s,
        queue_s=sum(one.queue_s for one in passes),
        inference_s=sum(one.inference_s for one in passes),
        encode_s=encode_s,
        batch=max((one.batch for one in passes), default=0),
        engines=tuple(dict.fromkeys(one.engine for one in passes)),
    )


@dataclass(kw_only=True)
class Spent:
    """What the videos of one task have taken so far, in seconds; the same steps as TaskTiming's."""

    decode_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0
    encode_s: float = 0.0
    batch: int = 0
    engines: dict[str, None] = field(default_factory=dict)

    def looked(self, seconds: float, passes: Sequence[Timing]) -> None:
        """Some frames went through a model together; of `seconds`, the longest wait of one of them was for a batch."""
        waited = min(seconds, max((one.queue_s for one in passes), default=0.0))
        self.queue_s += waited
        self.inference_s += seconds - waited
        self.batch = max([self.batch, *(one.batch for one in passes)])
        self.engines |= dict.fromkeys(one.engine for one in passes)

    def and_pictures(self, pictures: TaskTiming) -> TaskTiming:
        """The whole task's."""
        return TaskTiming(
            decode_s=self.decode_s + pictures.decode_s,
            queue_s=self.queue_s + pictures.queue_s,
            inference_s=self.inference_s + pictures.inference_s,
            encode_s=self.encode_s + pictures.encode_s,
            batch=max(self.batch, pictures.batch),
            engines=tuple(dict.fromkeys([*pictures.engines, *self.engines])),
        )


class Timings(Protocol):
    """Hears of each step. Called from many threads; raises nothing."""

    def decoded(self, seconds: float) -> None:
        """One image was fetched and decoded."""

    def queued(self, seconds: float) -> None:
        """One picture waited for its batch."""

    def computed(self, engine: str, seconds: float, pictures: int) -> None:
        """One batch went through a model. `pictures`: see `Timing.batch`."""

    def encoded(self, seconds: float) -> None:
        """One task's regions were made."""

    def compared(self, model: str, engine: str, difference: Difference) -> None:
        """An engine's answers were compared with torch's: the largest difference so far. `model`: version of weights."""

    def uses(self, model: str, engine: str, why: str) -> None:
        """From now on this engine computes a model. `why`: one of engines.select.WHY."""

    def forgotten(self, model: str) -> None:
        """A model is no longer loaded."""


class NoTimings:
    """For tests and tools."""

    def decoded(self, seconds: float) -> None: ...

    def queued(self, seconds: float) -> None: ...

    def computed(self, engine: str, seconds: float, pictures: int) -> None: ...

    def encoded(self, seconds: float) -> None: ...

    def compared(self, model: str, engine: str, difference: Difference) -> None: ...

    def uses(self, model: str, engine: str, why: str) -> None: ...

    def forgotten(self, model: str) -> None: ...
