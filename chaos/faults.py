"""The faults. Each has begun, has been seen to do harm, and has been mended when its function returns.

A fault counts only with its effect seen from outside: in the proxy's account, at the wire, in the bucket's own list of
the faults that requests met, in the spool's file, in the sidecar's /metrics. One without an effect is tried again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, repeat

from chaos import bucket_faults as bucket
from chaos.effects import NoEffect, wait
from chaos.hooks import Mode
from chaos.wire import Catch
from chaos.world import OURS, World

WORKER = "workers-live"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One that counts. `effect` says what was seen."""

    kind: str
    effect: str
    seconds: float


def sidecar_killed(world: World, chance: random.Random) -> str:
    """Effect: at least one webhook found nobody at the door."""
    first = world.hooks.next_number
    world.processes.kill("sidecar")
    wait(world, lambda: world.hooks.count(since=first, acknowledged=False) > 0)
    time.sleep(chance.uniform(0, 1.5))
    world.processes.start("sidecar")
    return f"{world.hooks.count(since=first, acknowledged=False)} webhooks found no sidecar"


def worker_killed_in_a_put(world: World, chance: random.Random) -> str:
    """Effect: the PUT of a log object was on the wire, half of its body sent, and was cut."""
    return _killed_at_a_put(world, Catch.BODY)


def worker_killed_after_a_put(world: World, chance: random.Random) -> str:
    """Effect: the log object was put, and the worker died before it read the answer."""
    return _killed_at_a_put(world, Catch.ANSWER)


def _killed_at_a_put(world: World, where: Catch) -> str:
    world.wire.catch(where)
    try:
        wait(world, world.wire.caught.is_set)
        caught = world.wire.caught.is_set()
        world.processes.kill(WORKER)
    finally:
        world.wire.release()
    world.processes.start(WORKER)
    if not caught:
        raise NoEffect("no PUT was on the wire")
    return f"worker killed with a PUT {where.value}"


def worker_killed(world: World, chance: random.Random) -> str:
    """Effect: while nobody works, events pile up in Redis."""
    world.processes.kill(WORKER)
    waiting = wait(world, world.waiting)
    world.processes.start(WORKER)
    return f"{waiting} events waited in Redis"


def other_workers_killed(world: World, chance: random.Random) -> str:
    """Effect: with everybody but the live worker dead, what follows an event (current/, media …) is left undone."""

    def undone() -> int:
        gauges = world.gauges()
        return int(
            sum(
                number
                for name, number in gauges.items()
                if name.startswith("bridge_jobs{") and 'state="queued"' in name
            )
        )

    world.processes.kill("scheduler", "workers-other", "workers-baseline")
    jobs = wait(world, undone)
    time.sleep(chance.uniform(0, 2))
    world.processes.start("workers-other", "workers-baseline", "scheduler")
    return f"{jobs} jobs waited, and nobody looked"


def redis_killed(world: World, chance: random.Random) -> str:
    """Effect: events went to the spool."""
    world.processes.kill("redis")
    spooled = wait(world, world.spooled)
    time.sleep(chance.uniform(0, 2))
    spooled = max(spooled, world.spooled())
    world.processes.start("redis")
    return f"{spooled} events spooled"


def redis_hangs(world: World, chance: random.Random) -> str:
    """Effect: events went to the spool though Redis never closed a connection. What it read before, it does late:
    such an event is in the spool and in Redis."""
    world.processes.freeze("redis")
    try:
        spooled = wait(world, world.spooled)
        time.sleep(chance.uniform(0, 2))
        spooled = max(spooled, world.spooled())
    finally:
        world.processes.thaw("redis")
    return f"{spooled} events spooled"


def redis_and_sidecar_killed(world: World, chance: random.Random) -> str:
    """Effect: the sidecar died with events in its spool, and another one found them there."""
    world.processes.kill("redis")
    wait(world, world.spooled)
    world.processes.kill("sidecar")
    spooled = world.spooled()
    if chance.random() < 0.5:
        world.processes.start("redis")
        world.processes.start("sidecar")
    else:
        world.processes.start("sidecar")
        world.processes.start("redis")
    if not spooled:
        raise NoEffect("the spool was empty when the sidecar died")
    return f"the sidecar died with {spooled} events in its spool"


def sidecar_killed_while_replaying(world: World, chance: random.Random) -> str:
    """Effect: the sidecar died when Redis was there again and a part of the spool was still in its file."""
    world.processes.kill("redis")
    wait(world, lambda: world.spooled() >= 3)
    world.processes.start("redis")
    left = world.spooled()
    world.processes.kill("sidecar")
    left = min(left, world.spooled())
    world.processes.start("sidecar")
    if not left:
        raise NoEffect("the spool was replayed already")
    return f"the sidecar died with Redis back and {left} events still in its spool"


def power_cut(world: World, chance: random.Random) -> str:
    """Effect: everything of ours and Redis gone at once, and at least one webhook found nobody."""
    first = world.hooks.next_number
    world.processes.kill("redis", *OURS)
    wait(world, lambda: world.hooks.count(since=first, acknowledged=False) > 0)
    world.processes.start("redis")
    world.processes.start(*OURS)
    return f"{world.hooks.count(since=first, acknowledged=False)} webhooks found no sidecar; all was started again"


def webhooks_dropped(world: World, chance: random.Random) -> str:
    """Effect: the sidecar never heard of them."""
    return _webhook_fault(world, chance, Mode.DROP)


def webhooks_repeated(world: World, chance: random.Random) -> str:
    """Effect: the sidecar got the same body twice."""
    return _webhook_fault(world, chance, Mode.TWICE)


def webhooks_late(world: World, chance: random.Random) -> str:
    """Effect: bodies arrived after younger ones, and after Label Studio had given up."""
    return _webhook_fault(world, chance, Mode.LATE)


def webhook_answers_lost(world: World, chance: random.Random) -> str:
    """Effect: the sidecar kept them, and Label Studio never heard so."""
    return _webhook_fault(world, chance, Mode.NO_ANSWER)


def _webhook_fault(world: World, chance: random.Random, mode: Mode) -> str:
    first, times = world.hooks.next_number, chance.randint(2, 6)
    world.hooks.arm(mode, times)
    try:
        wait(world, lambda: world.hooks.count(since=first, mode=mode) >= times)
    finally:
        world.hooks.arm(Mode.PASS, 0)
    return f"{world.hooks.count(since=first, mode=mode)} bodies {mode.value}"


Deed = Callable[[World, random.Random], str]

NAMED: dict[str, Deed] = {
    "sidecar killed": sidecar_killed,
    "worker killed in a PUT": worker_killed_in_a_put,
    "worker killed after a PUT": worker_killed_after_a_put,
    "Redis killed": redis_killed,
    "Redis hangs": redis_hangs,
    "bucket answers 503": bucket.answers_503,
    "bucket loses answers": bucket.loses_answers,
    "bucket down": bucket.down,
    "webhooks dropped": webhooks_dropped,
    "power cut": power_cut,
    "Redis and sidecar killed": redis_and_sidecar_killed,
}
"""The eleven that every run has."""

MORE: dict[str, Deed] = {
    "worker killed": worker_killed,
    "other workers killed": other_workers_killed,
    "sidecar killed while replaying": sidecar_killed_while_replaying,
    "bucket answers 503 though done": bucket.answers_503_though_done,
    "bucket cuts bodies": bucket.cuts_bodies,
    "bucket hangs": bucket.hangs,
    "webhooks repeated": webhooks_repeated,
    "webhooks late": webhooks_late,
    "webhook answers lost": webhook_answers_lost,
}
"""These follow when more are wanted: slower ones, and variations."""


def in_order(chance: random.Random, count: int) -> list[str]:
    """The kinds of `count` faults: those that every run has first, then the others, then all mixed again and again."""
    found: list[str] = []
    for names in chain((list(NAMED), list(MORE)), repeat([*NAMED, *MORE])):
        if len(found) >= count:
            break
        found += chance.sample(names, len(names))
    return found[:count]


def carry_out(kind: str, world: World, chance: random.Random) -> Fault:
    """One fault, mended again. Raises NoEffect, with everything running all the same."""
    begun = time.monotonic()
    try:
        effect = (NAMED | MORE)[kind](world, chance)
    except NoEffect:
        mend(world)
        raise
    return Fault(kind=kind, effect=effect, seconds=round(time.monotonic() - begun, 1))


def mend(world: World) -> None:
    """Whatever was broken is whole again, whatever is dead runs."""
    world.wire.release()
    world.wire.up()
    world.wire.go_on()
    world.hooks.arm(Mode.PASS, 0)
    world.emulation("DELETE", "faults")
    for name in ("redis", *OURS):
        if not world.processes.is_running(name):
            world.processes.start(name)
