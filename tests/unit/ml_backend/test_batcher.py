"""Batching: who goes through the model with whom, and who waits for whom."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from bridge.errors import Busy
from ml_backend.batcher import Batcher

_LONG_S = 20.0


class Model:
    """Answers an item with its text in capitals; waits at a gate first, and fails on what is told."""

    def __init__(self, *, fail: Sequence[str] = (), open_gate: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.begun = threading.Event()
        self._fail = fail
        if open_gate:
            self.gate.set()

    def __call__(self, group: Hashable, items: list[str]) -> list[str]:
        self.begun.set()
        assert self.gate.wait(_LONG_S)
        self.batches.append(list(items))
        if any(item in self._fail for item in items):
            raise ValueError("broken")
        return [item.upper() for item in items]


def a_batcher(model: Model, *, most: int = 4, room: int = 100) -> Batcher[str, str]:
    return Batcher(model, most=lambda group: most, room=room)


def blocked(batcher: Batcher[str, str], model: Model) -> None:
    """The model is at work on one item, so that what comes next waits."""
    batcher.ticket().add("busy", "first")
    assert model.begun.wait(_LONG_S)


def test_items_that_wait_go_together_and_are_answered_in_order() -> None:
    model = Model(open_gate=False)
    batcher = a_batcher(model)
    blocked(batcher, model)
    ticket = batcher.ticket()
    for item in "abcdef":
        ticket.add("group", item)
    model.gate.set()
    assert [ticket.answer(index) for index in range(6)] == list("ABCDEF")
    assert model.batches[1:] == [list("abcd"), list("ef")]


def test_a_model_with_lanes_computes_as_many_side_by_side_and_no_more() -> None:
    """Each waits at the gate until all lanes are in use; were there fewer, it would time out."""
    meeting = threading.Barrier(3)
    inside: list[int] = []
    most_inside: list[int] = []

    def run(group: Hashable, items: list[str]) -> list[str]:
        inside.append(1)
        most_inside.append(len(inside))
        meeting.wait(_LONG_S)
        inside.pop()
        return [item.upper() for item in items]

    batcher: Batcher[str, str] = Batcher(run, most=lambda group: 1, lanes=lambda group: 3, room=100)
    ticket = batcher.ticket()
    for item in "abcdef":
        ticket.add("group", item)
    assert [ticket.answer(index) for index in range(6)] == list("ABCDEF")
    assert max(most_inside) == 3


def test_lanes_may_become_more_while_the_model_is_at_work() -> None:
    """As when an engine is found that computes side by side."""
    lanes = [1]
    gates = {name: threading.Event() for name in "abc"}
    begun: list[str] = []

    def run(group: Hashable, items: list[str]) -> list[str]:
        begun.extend(items)
        assert gates[items[0]].wait(_LONG_S)
        return [item.upper() for item in items]

    batcher: Batcher[str, str] = Batcher(run, most=lambda group: 1, lanes=lambda group: lanes[0], room=100)
    ticket = batcher.ticket()
    ticket.add("group", "a")
    ticket.add("group", "b")
    lanes[0] = 2
    ticket.add("group", "c")
    gates["b"].set()
    assert ticket.answer(1) == "B"  # though "a" is still inside
    gates["c"].set()
    assert ticket.answer(2) == "C"
    gates["a"].set()
    assert ticket.answer(0) == "A"


def test_a_single_task_does_not_wait_for_a_hundred_queued_ones() -> None:
    model = Model(open_gate=False)
    batcher = a_batcher(model)
    blocked(batcher, model)
    large, small = batcher.ticket(), batcher.ticket()
    for number in range(80):
        large.add("group", f"large {number}")
    small.add("group", "small")
    model.gate.set()
    assert small.answer(0) == "SMALL"
    assert large.answer(79) == "LARGE 79"
    assert "small" in model.batches[1]


def test_a_single_task_of_another_shape_waits_for_one_batch() -> None:
    model = Model(open_gate=False)
    batcher = a_batcher(model)
    blocked(batcher, model)
    large, small = batcher.ticket(), batcher.ticket()
    for number in range(80):
        large.add("wide", str(number))
    small.add("high", "small")
    model.gate.set()
    assert large.answer(79) == "79"
    assert model.batches[2] == ["small"]


def test_only_one_group_is_in_a_batch() -> None:
    model = Model(open_gate=False)
    batcher = a_batcher(model)
    blocked(batcher, model)
    ticket = batcher.ticket()
    for index, item in enumerate("abcdef"):
        ticket.add(index % 2, item)
    model.gate.set()
    assert [ticket.answer(index) for index in range(6)] == list("ABCDEF")
    assert model.batches[1:] == [list("ace"), list("bdf")]


def test_one_item_at_fault_costs_no_other() -> None:
    model = Model(open_gate=False, fail=["b"])
    batcher = a_batcher(model)
    blocked(batcher, model)
    ours, others = batcher.ticket(), batcher.ticket()
    ours.add("group", "b")
    others.add("group", "a")
    others.add("group", "c")
    model.gate.set()
    assert [others.answer(0), others.answer(1)] == ["A", "C"]
    with pytest.raises(ValueError, match="broken"):
        ours.answer(0)


def test_a_full_queue_refuses_and_has_room_again_when_a_request_leaves() -> None:
    model = Model(open_gate=False)
    batcher = a_batcher(model, room=2)
    blocked(batcher, model)
    first, second = batcher.ticket(), batcher.ticket()
    first.add("group", "a")
    first.add("group", "b")
    with pytest.raises(Busy, match="PREDICT_QUEUE"):
        second.add("group", "c")
    first.leave()
    assert batcher.waiting == 0
    second.add("group", "c")
    model.gate.set()
    assert second.answer(0) == "C"


def test_how_long_an_item_waited_is_told() -> None:
    waits: list[float] = []
    times = iter(range(100))
    batcher: Batcher[str, str] = Batcher(
        Model(), most=lambda group: 1, room=9, observe=waits.append, clock=lambda: float(next(times))
    )
    ticket = batcher.ticket()
    ticket.add("group", "a")
    assert ticket.answer(0) == "A"
    assert waits == [ticket.queue_s(0)] == [1.0]


def test_many_threads_each_get_their_own_answers_and_the_model_one_caller_at_a_time() -> None:
    inside: list[int] = []
    most_inside: list[int] = []

    def run(group: Hashable, items: list[str]) -> list[str]:
        inside.append(1)
        most_inside.append(len(inside))
        inside.pop()
        return [item.upper() for item in items]

    batcher: Batcher[str, str] = Batcher(run, most=lambda group: 8, room=10_000)

    def ask(who: int) -> list[str]:
        ticket = batcher.ticket()
        for number in range(30):
            ticket.add(number % 3, f"{who}-{number}-x")
        return [ticket.answer(number) for number in range(30)]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert answers == [[f"{who}-{number}-X" for number in range(30)] for who in range(16)]
    assert set(most_inside) == {1}
