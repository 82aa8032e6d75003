"""The faults. Each has begun, has been seen to do harm, and has been mended when its function returns.

A fault counts only with its effect seen from outside: in the proxy's account, at the wire, in the bucket's own list of
the faults that requests met, in the spool's file, in the sidecar's /metrics. One without an effect is tried again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from chaos.hooks import Mode
from chaos.wire import Catch
from chaos.world import OURS, Failed, World

EFFECT_WITHIN_S = 40.0
WORKER = "workers-live"


class NoEffect(Exception):
    """Nobody noticed: the fault does not count."""


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


def bucket_503(world: World, chance: random.Random) -> str:
    """Effect: PUTs of log objects were answered 503."""
    return _bucket_fault(world, chance, "busy", "503s served to PUTs of log objects")


def bucket_503_though_done(world: World, chance: random.Random) -> str:
    """Effect: PUTs of log objects were answered 503, though they were done."""
    return _bucket_fault(world, chance, "busy-late", "PUTs of log objects done and answered 503")


def bucket_loses_answers(world: World, chance: random.Random) -> str:
    """Effect: log objects were put, and the connection ended instead of an answer."""
    return _bucket_fault(world, chance, "lost", "answers to PUTs of log objects lost")


def bucket_cuts_bodies(world: World, chance: random.Random) -> str:
    """Effect: the bucket ended connections in the middle of a body."""
    return _bucket_fault(world, chance, "reset", "PUTs of log objects cut")


def _bucket_fault(world: World, chance: random.Random, kind: str, words: str) -> str:
    before = len(world.emulation("GET", "faults"))
    wanted = chance.randint(1, 5)
    body = {"kind": kind, "method": "PUT", "path": "/log/", "times": wanted}
    world.emulation("POST", "faults", body)

    def met() -> int:
        return sum(one["kind"] == kind for one in world.emulation("GET", "faults")[before:])

    try:
        wait(world, lambda: met() >= wanted)
    except NoEffect:
        if not met():
            raise
    finally:
        world.emulation("DELETE", "faults")
    return f"{met()} {words}"


def bucket_down(world: World, chance: random.Random) -> str:
    """Effect: connections were turned away, and events wait in Redis."""
    before = world.wire.refused
    world.wire.down()
    try:
        wait(world, lambda: world.wire.refused > before)
        waiting = wait(world, world.waiting)
        time.sleep(chance.uniform(0, 3))
    finally:
        world.wire.up()
    return f"{world.wire.refused - before} connections turned away, {waiting} events waited"


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
    "bucket answers 503": bucket_503,
    "bucket loses answers": bucket_loses_answers,
    "bucket down": bucket_down,
    "webhooks dropped": webhooks_dropped,
    "power cut": power_cut,
    "Redis and sidecar killed": redis_and_sidecar_killed,
}
"""The ten that every run has."""

MORE: dict[str, Deed] = {
    "worker killed": worker_killed,
    "other workers killed": other_workers_killed,
    "Redis hangs": redis_hangs,
    "sidecar killed while replaying": sidecar_killed_while_replaying,
    "bucket answers 503 though done": bucket_503_though_done,
    "bucket cuts bodies": bucket_cuts_bodies,
    "webhooks repeated": webhooks_repeated,
    "webhooks late": webhooks_late,
    "webhook answers lost": webhook_answers_lost,
}
"""These follow when more are wanted."""


def in_order(chance: random.Random, count: int) -> list[str]:
    """The kinds of `count` faults: the ten first, then these and the others mixed again and again."""
    found: list[str] = []
    while len(found) < count:
        names = list(NAMED) if not found else [*NAMED, *MORE]
        chance.shuffle(names)
        found += names
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
    world.hooks.arm(Mode.PASS, 0)
    world.emulation("DELETE", "faults")
    for name in ("redis", *OURS):
        if not world.processes.is_running(name):
            world.processes.start(name)


def wait(world: World, holds: Callable[[], object]) -> int:
    """Until the effect is seen; what `holds` returned. Raises NoEffect."""
    found: list[object] = []

    def seen() -> bool:
        found[:] = [holds()]
        return bool(found[0])

    try:
        world.wait("the effect", seen, EFFECT_WITHIN_S, 0.05)
    except Failed as error:
        raise NoEffect(str(error)) from error
    return int(found[0]) if isinstance(found[0], int) else 1
