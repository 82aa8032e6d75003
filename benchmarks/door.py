"""How long Label Studio waits for a webhook: the sidecar (stream, then bucket) beside writing to the bucket at once.

At 200 events a second the live worker drains meanwhile, as it does in production; sender, sidecar, Redis, worker and the
stand-in for the store share one machine. Label Studio gives up on a webhook after a second, so that is counted too.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.bodies import AnnotationBodies, import_body
from benchmarks.direct import OTHER_IS, direct_to_bucket
from benchmarks.relay import NO_LABEL_STUDIO
from benchmarks.row import Row, less_is_better, more_is_better
from benchmarks.sender import LABEL_STUDIO_WAITS_S, Plan, percentile, send
from stack.machine import started, temporary_setup
from stack.settings import program_environment


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is sent: deliveries one after the other; a stream of them; tasks in a body, and such bodies."""

    deliveries: int = 300
    rate: float = 200
    seconds: float = 30
    tasks: int = 5000
    imports: int = 5


WARM_UP = 20


def measure(size: Size = Size()) -> list[Row]:
    """Milliseconds until the answer, for both; the emulation stands in for the store."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        setup = temporary_setup(Path(folder), os.environ, **NO_LABEL_STUDIO)
        with started(setup, only={"redis", "s3", "sidecar", "workers-live"}) as stack:
            environment = program_environment(setup)
            headers = webhook_headers(environment)
            ours = _Found.at(f"{setup.sidecar_url}/webhook", headers, size)
            for name in ("workers-live", "sidecar"):  # what is left to drain shall not disturb the other
                stack.stop_part(name)
            with direct_to_bucket(environment, headers) as url:
                direct = _Found.at(url, headers, size)
    stream = f"answer at {size.rate:g} events/s"
    return [
        _less("a webhook's answer, median", percentile(ours.alone, 0.5), percentile(direct.alone, 0.5)),
        _less("a webhook's answer, p99", percentile(ours.alone, 0.99), percentile(direct.alone, 0.99)),
        _less(f"{stream}, median", percentile(ours.stream, 0.5), percentile(direct.stream, 0.5)),
        _less(f"{stream}, p99", percentile(ours.stream, 0.99), percentile(direct.stream, 0.99)),
        more_is_better(f"{stream}, in time", "%", ours.in_time, direct.in_time, OTHER_IS),
        _less(
            f"answer to {size.tasks:,} tasks, median",
            percentile(ours.large, 0.5),
            percentile(direct.large, 0.5),
        ),
        _less(f"answer to {size.tasks:,} tasks, worst", max(ours.large), max(direct.large)),
    ]


def webhook_headers(environment: Mapping[str, str]) -> dict[str, str]:
    return {"X-Webhook-Secret": environment["WEBHOOK_SECRET"], "Content-Type": "application/json"}


def _less(name: str, ours: float, direct: float) -> Row:
    return less_is_better(name, "ms", ours, direct, OTHER_IS)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Milliseconds of each answer, and the share of the stream that was taken before Label Studio gives up, in %."""

    alone: list[float]
    stream: list[float]
    large: list[float]
    in_time: float

    @classmethod
    def at(cls, url: str, headers: Mapping[str, str], size: Size) -> _Found:
        bodies = AnnotationBodies()
        alone = _one_by_one(url, headers, [bodies.body(1 + id) for id in range(size.deliveries + WARM_UP)])
        first_id = 1 + len(alone)
        count = int(size.rate * size.seconds)
        sent = send(Plan(url=url, headers=headers, rate=size.rate, count=count, first_id=first_id))
        taken = [
            one for one in sent if 200 <= one.status < 300 and one.took_ms <= LABEL_STUDIO_WAITS_S * 1000
        ]
        imports = [
            import_body(size.tasks, first_id + count + n * size.tasks) for n in range(size.imports + 1)
        ]
        return cls(
            alone=alone[WARM_UP:],
            stream=[one.took_ms for one in sent],
            large=_one_by_one(url, headers, imports)[1:],
            in_time=100 * len(taken) / len(sent),
        )


def _one_by_one(url: str, headers: Mapping[str, str], bodies: list[bytes]) -> list[float]:
    """Milliseconds of each delivery, one after the other, as Label Studio sends them: a new connection each."""
    found = []
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(timeout=60, trust_env=False, limits=limits) as client:
        for body in bodies:
            began = time.perf_counter()
            client.post(url, content=body, headers=headers).raise_for_status()
            found.append((time.perf_counter() - began) * 1000)
    return found
