"""Asking a backend for a chunk: what is tried again, what is given up, what ends the try."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bridge.edges.ml_backend import Cut, Down
from bridge.errors import Busy, Refused, Unavailable
from bridge.prelabel import Pace
from workers.prelabel_predict import CUT_TRIES, LATER_TRIES, PATIENCE_S, Predictions, Stopped, Task

Ask = Callable[[Sequence[Task]], list[Any]]


class Kept:
    """What came of tasks."""

    def __init__(self) -> None:
        self.staged: dict[int, Any] = {}
        self.failed: dict[int, str] = {}
        self.tries: Counter[int] = Counter()

    def stage(self, rows: dict[int, Sequence[dict[str, Any]]]) -> None:
        self.staged |= rows

    def fail(self, reasons: dict[int, str]) -> None:
        self.failed |= reasons

    def tried(self, id: int) -> int:
        self.tries[id] += 1
        return self.tries[id]


class Sleeps:
    """Goes on by as much as anybody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def good(batch: Sequence[Task]) -> list[Any]:
    return [{"result": [], "score": 0.0} for _ in batch]


def run(
    ask: Ask, count: int = 20, *, kept: Kept | None = None, sleep: Sleeps | None = None, go_on: Any = None
) -> tuple[bool, Kept]:
    kept = kept or Kept()
    work = Predictions(
        ask=ask,
        keep=kept,
        version="v1",
        asked="",
        pace=Pace(),
        after_batch=go_on or (lambda: True),
        sleep=sleep or Sleeps(),
        clock=lambda: 0.0,
    )
    return work.run([{"id": id} for id in range(1, count + 1)]), kept


def test_every_task_is_predicted() -> None:
    done, kept = run(good)
    assert done
    assert sorted(kept.staged) == list(range(1, 21))


def test_the_one_task_that_breaks_its_requests_is_found_and_has_two_tries() -> None:
    def ask(batch: Sequence[Task]) -> list[Any]:
        if any(task["id"] == 13 for task in batch):
            raise Cut("no answer")
        return good(batch)

    _, kept = run(ask)
    assert kept.failed == {13: "no answer"}
    assert kept.tries == {13: CUT_TRIES}
    assert len(kept.staged) == 19


@pytest.mark.parametrize("begun", [1, 3, 8, 50])
def test_what_a_backend_does_not_begin_in_its_own_time_is_done_by_smaller_requests(begun: int) -> None:
    late = {"score": 0.0, "error": "not begun in time"}

    def ask(batch: Sequence[Task]) -> list[Any]:
        return [*good(batch[:begun]), *[late] * len(batch[begun:])]

    done, kept = run(ask, 200)
    assert done
    assert kept.failed == {}
    assert sorted(kept.staged) == list(range(1, 201))


def test_a_backend_that_answers_nobody_is_no_tasks_fault_at_once() -> None:
    kept = Kept()

    def ask(batch: Sequence[Task]) -> list[Any]:
        raise Cut("no answer")

    with pytest.raises(Unavailable, match="3 requests for single tasks had no answer"):
        run(ask, kept=kept)
    assert not kept.failed


def test_it_ends_all_the_same_when_it_never_answers() -> None:
    kept = Kept()

    def ask(batch: Sequence[Task]) -> list[Any]:
        raise Cut("no answer")

    for _ in range(40):  # as often as the sweep comes
        left = 6 - len(kept.failed)
        if not left:
            break
        work = Predictions(
            ask=ask,
            keep=kept,
            version="v1",
            asked="",
            pace=Pace(size=1),
            after_batch=lambda: True,
            sleep=Sleeps(),
        )
        try:
            work.run([{"id": id} for id in range(1, 7) if id not in kept.failed])
        except Unavailable:
            continue
    assert len(kept.failed) == 6


@pytest.mark.parametrize("error", [Busy("503"), Down("nobody there")])
def test_a_busy_backend_is_waited_for_with_growing_patience(error: Exception) -> None:
    errors, sleeps = [error] * 4, Sleeps()

    def ask(batch: Sequence[Task]) -> list[Any]:
        if errors:
            raise errors.pop()
        return good(batch)

    done, kept = run(ask, sleep=sleeps)
    assert (done, len(kept.staged)) == (True, 20)
    assert sleeps.slept == [0.5, 1, 2, 4]


def test_what_was_waited_for_is_not_said_any_longer_than_it_was() -> None:
    errors, said = [Busy("503")], list[str]()

    def ask(batch: Sequence[Task]) -> list[Any]:
        if errors:
            raise errors.pop()
        return good(batch)

    work = Predictions(
        ask=ask,
        keep=Kept(),
        version="v1",
        asked="",
        pace=Pace(size=1),
        after_batch=lambda: True,
        say=said.append,
        sleep=Sleeps(),
    )
    work.run([{"id": 1}, {"id": 2}])
    assert said == ["waits: 503", "", ""]


def test_patience_ends_and_the_queue_comes_again() -> None:
    sleeps = Sleeps()

    def ask(batch: Sequence[Task]) -> list[Any]:
        raise Busy("503")

    with pytest.raises(Busy):
        run(ask, sleep=sleeps)
    assert PATIENCE_S <= sum(sleeps.slept) < PATIENCE_S + 20


def test_who_is_stopped_does_not_wait_on() -> None:
    def ask(batch: Sequence[Task]) -> list[Any]:
        raise Busy("503")

    with pytest.raises(Stopped):
        run(ask, go_on=lambda: False)


def test_a_refusal_is_not_tried_again() -> None:
    asked = []

    def ask(batch: Sequence[Task]) -> list[Any]:
        asked.append(len(batch))
        raise Refused("401")

    with pytest.raises(Refused):
        run(ask)
    assert asked == [8]


def test_what_is_never_done_in_time_is_given_up_with_the_reason() -> None:
    def ask(batch: Sequence[Task]) -> list[Any]:
        return [
            {"error": "not begun in time"} if task["id"] == 2 else item
            for task, item in zip(batch, good(batch), strict=True)
        ]

    _, kept = run(ask)
    assert kept.failed == {2: "not begun in time"}
    assert kept.tries == {2: LATER_TRIES}
    assert len(kept.staged) == 19
