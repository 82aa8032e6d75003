"""How long after a submit the annotation is in the bucket, at several rates: sidecar, live worker and scheduler as they
run in production, beside a route that puts each webhook into the bucket before it answers.

That is the fastest way there is to the bucket, as long as the bucket keeps up, and it is paid for by the annotator, who
waits for it (`make bench ONLY=door` and `ONLY=save` show the price). Both ways go through the same relay to the same
store, and both are measured from the moment for which the sending was planned.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bodies import UID
from benchmarks.direct import OTHER_IS, direct_to_bucket
from benchmarks.door import webhook_headers
from benchmarks.relay import NO_LABEL_STUDIO, Relay, bucket_behind_relay
from benchmarks.row import Row, less_is_better
from benchmarks.sender import Plan, Sent, percentile, send
from bridge.edges import stream
from bridge.edges.log import log_keys, read_object
from bridge.settings import WorkersSettings
from stack.machine import started, temporary_setup
from stack.settings import program_environment
from workers.context import Context

WARM_UP = Plan(url="", headers={}, rate=20, count=20, first_id=900_000)
LONGEST_S = 60


@dataclass(frozen=True, kw_only=True)
class Size:
    """Events a second -> for how many seconds."""

    seconds_at: tuple[tuple[float, float], ...] = ((1, 20), (10, 12), (50, 12))


def measure(size: Size = Size()) -> list[Row]:
    """Seconds from the submit to the object, median and what 99 of 100 stay below."""
    plans, first_id = [], 1
    for rate, seconds in size.seconds_at:
        plans.append(Plan(url="", headers={}, rate=rate, count=round(rate * seconds), first_id=first_id))
        first_id += plans[-1].count
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        bucket_behind_relay(Path(folder) / "store") as (relay, bucket),
    ):
        setup = temporary_setup(Path(folder) / "stack", os.environ, **NO_LABEL_STUDIO, **bucket)
        with started(setup, only={"redis", "sidecar", "workers-live", "scheduler"}) as stack:
            environment = program_environment(setup)
            headers = webhook_headers(environment)
            here = Context(WorkersSettings.from_env(environment))
            sent = _send_all(f"{setup.sidecar_url}/webhook", headers, plans)
            _until_drained(here)
            ours = _in_bucket(here, relay, sent)
            for name in ("scheduler", "workers-live", "sidecar"):
                stack.stop_part(name)
            with direct_to_bucket(environment, headers) as url:
                directly = [
                    [(one.answered_s - one.planned_s) for one in some]
                    for some in _send_all(url, headers, plans)
                ]
    rows = []
    for (rate, _), mine, direct in zip(size.seconds_at, ours, directly, strict=True):
        for name, share in (("median", 0.5), ("p99", 0.99)):
            rows.append(
                less_is_better(
                    f"submit to bucket at {rate:g}/s, {name}",
                    "s",
                    percentile(mine, share),
                    percentile(direct, share),
                    OTHER_IS,
                )
            )
    return rows


def _send_all(url: str, headers: dict[str, str], plans: list[Plan]) -> list[list[Sent]]:
    """Raises AssertionError when a delivery was not taken: there is nothing to compare then."""
    found = []
    for plan in (WARM_UP, *plans):
        sent = send(Plan(url=url, headers=headers, rate=plan.rate, count=plan.count, first_id=plan.first_id))
        refused = [one.status for one in sent if not 200 <= one.status < 300]
        assert not refused, f"{len(refused)} of {plan.count} at {plan.rate:g}/s were not taken: {refused[:5]}"
        found.append(sent)
    return found[1:]


def _until_drained(here: Context) -> None:
    deadline = time.monotonic() + LONGEST_S
    while stream.waiting(here.redis, UID):
        if time.monotonic() > deadline:
            raise TimeoutError("the stream is not empty")
        time.sleep(0.05)


def _in_bucket(here: Context, relay: Relay, sent: list[list[Sent]]) -> list[list[float]]:
    """Seconds from the planned moment until the object with the annotation was there. Raises KeyError for one that is
    not in the log."""
    at: dict[str, float] = {}
    for info in log_keys(here.store, here.layout(UID)):
        when = relay.put_at[f"/{here.settings.s3.bucket}/{info.key}"]
        for record in read_object(here.store, info.key):
            if record.kind == "annotation":
                at[record.id] = min(when, at.get(record.id, when))
    return [[at[str(one.id)] - one.planned_s for one in some] for some in sent]
