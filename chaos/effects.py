"""Waiting for the effect of a fault: without one it does not count."""

from __future__ import annotations

from collections.abc import Callable

from chaos.world import Failed, World

EFFECT_WITHIN_S = 40.0


class NoEffect(Exception):
    """Nobody noticed: the fault does not count."""


def wait(world: World, holds: Callable[[], object], within_s: float = EFFECT_WITHIN_S) -> int:
    """Until the effect is seen; what `holds` returned. Raises NoEffect."""
    found: list[object] = []

    def seen() -> bool:
        found[:] = [holds()]
        return bool(found[0])

    try:
        world.wait("the effect", seen, within_s, 0.05)
    except Failed as error:
        raise NoEffect(str(error)) from error
    return int(found[0]) if isinstance(found[0], int) else 1
