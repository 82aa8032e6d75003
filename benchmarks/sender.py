"""Sends webhooks on a schedule that waits for nobody, from a process of its own.

Each has a planned moment; its time runs from there to the answer, so that a server that stops for a while is charged for
all that should have been sent meanwhile. As from Label Studio, each comes on a new connection. `python -m benchmarks.sender`
is that process: a plan as JSON on stdin, what became of each on stdout.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.bodies import AnnotationBodies

ROOT = Path(__file__).parents[1]
GIVE_UP_S = 10.0
LABEL_STUDIO_WAITS_S = 1.0
_SOON_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`count` annotations with ids from `first_id` on, `rate` a second."""

    url: str
    headers: Mapping[str, str]
    rate: float
    count: int
    first_id: int


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One delivery: seconds on the machine's monotonic clock, the same in all processes. `status` 0: none in 10 s."""

    id: int
    planned_s: float
    answered_s: float
    status: int

    @property
    def took_ms(self) -> float:
        return (self.answered_s - self.planned_s) * 1000


def send(plan: Plan) -> list[Sent]:
    """Carry a plan out in a process of its own; returns all deliveries in the order of the plan."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sender"],
        cwd=ROOT,
        input=json.dumps(asdict(plan)).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return [Sent(**one) for one in json.loads(done.stdout)]


def percentile(values: Sequence[float], share: float) -> float:
    """What this share of the values stays at or below: 0.5 for the median, 0.99 for what 99 of 100 do."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, round(len(ordered) * share) - 1))]


class _Delivery(asyncio.Protocol):
    """One request on a connection of its own; `status` is set with the answer's first line, or with the end."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._said = b""
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._said += data
        line, whole, _ = self._said.partition(b"\r\n")
        if whole and not self.status.done():
            self.status.set_result(int(line.split()[1]))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.status.done():
            self.status.set_result(0)


async def _carry_out(plan: Plan) -> list[Sent]:
    loop = asyncio.get_running_loop()
    address = urlsplit(plan.url)
    bodies = AnnotationBodies()
    head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in plan.headers.items())
    requests = []
    for id in range(plan.first_id, plan.first_id + plan.count):
        body = bodies.body(id)
        requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    began = time.monotonic() + _SOON_S

    async def one(number: int, planned: float) -> Sent:
        transport = None
        try:
            async with asyncio.timeout(GIVE_UP_S):
                transport, delivery = await loop.create_connection(
                    lambda: _Delivery(requests[number]), address.hostname or "", address.port or 80
                )
                status = await delivery.status
        except (TimeoutError, OSError):
            status = 0
        answered = time.monotonic()
        if transport is not None:
            transport.close()
        return Sent(id=plan.first_id + number, planned_s=planned, answered_s=answered, status=status)

    under_way = []
    for number in range(plan.count):
        planned = began + number / plan.rate
        if (wait := planned - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        under_way.append(asyncio.create_task(one(number, planned)))
    return list(await asyncio.gather(*under_way))


if __name__ == "__main__":
    sent = asyncio.run(_carry_out(Plan(**json.load(sys.stdin))))
    json.dump([asdict(one) for one in sent], sys.stdout)
