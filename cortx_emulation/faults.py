"""Faults of a store that is overloaded or dying, seeded: the same seed and requests meet the same faults.

rule: 503 with Retry-After (ServiceUnavailable; SlowDown from CORTX-RGW), an answer lost after the write, a connection
reset in the middle of a body, 400 RequestTimeout, and 200 with an error inside from long operations.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from cortx_emulation.answers import Answer, Cut, Refusal
from cortx_emulation.profiles import Profile
from cortx_emulation.request import S3Request

HEADER = "x-emulation-fault"


class Kind(Enum):
    """`busy`: 503, nothing done. `busy-late`: 503, but done. `lost`: done, and no answer. `reset`: the connection ends
    in the middle of the request's body, with nothing done, or else of the answer's. `timeout`: 400, nothing done.
    `error-inside`: 200 with an error in the body, nothing done; of a Complete or a copy only."""

    BUSY = "busy"
    BUSY_LATE = "busy-late"
    LOST = "lost"
    RESET = "reset"
    TIMEOUT = "timeout"
    ERROR_INSIDE = "error-inside"

    def refuse(self, request: S3Request, profile: Profile) -> None:
        """Raises the Refusal, where nothing is to be done."""
        match self:
            case Kind.BUSY:
                raise _busy(profile)
            case Kind.TIMEOUT:
                raise Refusal(400, "RequestTimeout", "Your socket connection was not read from in time.")
            case Kind.ERROR_INSIDE if request.completes or request.is_copy:
                raise Refusal(200, "InternalError", "We encountered an internal error. Please try again.")

    def cut(self, answer: Answer, method: str, profile: Profile) -> Answer:
        """The answer as it goes out after the work is done."""
        match self:
            case Kind.BUSY_LATE:
                raise _busy(profile)
            case Kind.LOST:
                return replace(answer, cut=Cut.NO_ANSWER)
            case Kind.RESET:
                half = method != "HEAD" and len(answer.body) > 1
                return replace(answer, cut=Cut.HALF_WAY if half else Cut.NO_ANSWER)
        return answer


def _busy(profile: Profile) -> Refusal:
    code = "ServiceUnavailable" if profile.s3server else "SlowDown"
    return Refusal(503, code, "Reduce your request rate.")


@dataclass(frozen=True, kw_only=True)
class Armed:
    """A fault for the requests whose method and path fit: of those `skip` pass first, then `times` meet it."""

    kind: Kind
    method: str = ""
    path: str = ""
    skip: int = 0
    times: int = 1

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Armed:
        return cls(**{**value, "kind": Kind(value["kind"])})

    def fits(self, request: S3Request) -> bool:
        whole = f"{request.raw_path}?{request.raw_query}"
        return self.method in ("", request.method) and self.path in whole


class Faults:
    """Which request meets which fault: one that it asks for itself (x-emulation-fault), an armed one, or by chance."""

    def __init__(self, *, seed: int = 0, rate: float = 0.0) -> None:
        self._chance, self._rate = random.Random(seed), rate
        self._armed: list[Armed] = []
        self.met: list[dict[str, str]] = []
        self._lock = threading.Lock()

    @classmethod
    def parsed(cls, text: str) -> Faults:
        """From `seed:rate`, such as `7:0.05`. Raises ValueError."""
        seed, _, rate = text.partition(":")
        if not 0 <= float(rate) <= 1:
            raise ValueError("the rate is between 0 and 1")
        return cls(seed=int(seed), rate=float(rate))

    def arm(self, armed: Armed) -> None:
        with self._lock:
            self._armed.append(armed)

    def disarm(self) -> None:
        with self._lock:
            self._armed.clear()

    def next(self, request: S3Request) -> Kind | None:
        """None for most; what was met is kept in `met`."""
        kind = self._next(request)
        if kind is not None:
            self.met.append({"kind": kind.value, "method": request.method, "path": request.raw_path})
        return kind

    def _next(self, request: S3Request) -> Kind | None:
        if asked := request.header(HEADER):
            return Kind(asked)
        with self._lock:
            for place, armed in enumerate(self._armed):
                if not armed.fits(request):
                    continue
                if armed.skip:
                    self._armed[place] = replace(armed, skip=armed.skip - 1)
                    continue
                self._armed[place : place + 1] = (
                    [replace(armed, times=armed.times - 1)] if armed.times > 1 else []
                )
                return armed.kind
            if self._rate and self._chance.random() < self._rate:
                return self._chance.choice(list(Kind))
        return None
