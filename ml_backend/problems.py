"""What can go wrong with one task: it costs that task only, and is named in the answer, the log and the metrics."""

from __future__ import annotations

from typing import Literal

from bridge.errors import BridgeError

Reason = Literal[
    "data",
    "address",
    "missing",
    "refused",
    "unreachable",
    "too_large",
    "undecodable",
    "model",
    "late",
    "handed_over",
]


def is_want_of_memory(error: Exception) -> bool:
    """Whether a model failed for a reason that passes, and lies in no picture: what torch, CUDA and OpenVINO say of it."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in said
        for words in ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "bad allocation")
    )


class TaskProblem(BridgeError):
    """One task cannot be predicted.

    `passing`: the cause lies around the task (a server down, a wrong token), not in it. Label Studio is then given
    no result to store, so that it asks again; an empty result, once stored, would stay for good."""

    def __init__(self, reason: Reason, message: str, *, hint: str = "", passing: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.reason: Reason = reason
        self.passing = passing
