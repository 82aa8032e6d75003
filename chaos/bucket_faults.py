"""The faults of the bucket: its answers, by its own list of what requests met, and the wire to it. As in chaos/faults.py,
each has been seen to do harm and has been mended when its function returns."""

from __future__ import annotations

import random
import time

from chaos.effects import NoEffect, wait
from chaos.world import World

GIVES_UP_WITHIN_S = 150.0  # the bucket's clients wait a minute for an answer


def answers_503(world: World, chance: random.Random) -> str:
    """Effect: PUTs of log objects were answered 503."""
    return _armed(world, chance, "busy", "503s served to PUTs of log objects")


def answers_503_though_done(world: World, chance: random.Random) -> str:
    """Effect: PUTs of log objects were answered 503, though they were done."""
    return _armed(world, chance, "busy-late", "PUTs of log objects done and answered 503")


def loses_answers(world: World, chance: random.Random) -> str:
    """Effect: log objects were put, and the connection ended instead of an answer."""
    return _armed(world, chance, "lost", "answers to PUTs of log objects lost")


def cuts_bodies(world: World, chance: random.Random) -> str:
    """Effect: the bucket ended connections in the middle of a body."""
    return _armed(world, chance, "reset", "PUTs of log objects cut")


def _armed(world: World, chance: random.Random, kind: str, words: str) -> str:
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


def down(world: World, chance: random.Random) -> str:
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


def hangs(world: World, chance: random.Random) -> str:
    """Effect: a worker waited for the answer to the PUT of a log object for as long as it ever does, and hung up; events
    wait in Redis meanwhile. The bucket then does all it was asked, that PUT among it."""
    before = world.wire.given_up
    world.wire.hang_at_log_put()
    try:
        wait(world, lambda: world.wire.hangs)
        wait(world, lambda: world.wire.given_up > before, GIVES_UP_WITHIN_S)
        waiting = wait(world, world.waiting)
        if chance.random() < 0.5:  # so that what is asked next, whether the object is there, hangs too
            time.sleep(chance.uniform(0, 5))
    finally:
        world.wire.go_on()
    return f"{world.wire.given_up - before} PUTs of log objects given up, {waiting} events waited"
