"""The journal's breaker, with a Redis that fails as told and a clock that stands still."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis

from bridge.edges.stream import Entry
from sidecar.journal import BREAK_S, Journal
from sidecar.spool import Spool, spool_size

ENTRY = Entry(
    event_id="e", received_at=datetime(2026, 11, 22, tzinfo=UTC), source="webhook", action="A", body=b"{}"
)


class RefusingRedis:
    """Counts how often it is asked, and refuses each time."""

    def __init__(self) -> None:
        self.asked = 0

    def pipeline(self, **_: Any) -> Any:
        self.asked += 1
        raise redis.ConnectionError("refused")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_after_a_failure_redis_is_left_alone_for_a_second(tmp_path: Path) -> None:
    refusing, clock, spool = RefusingRedis(), Clock(), Spool(tmp_path)
    journal = Journal(refusing, spool, clock=clock)  # type: ignore[arg-type]
    assert [journal.append("1.2", ENTRY) for _ in range(3)] == ["spool"] * 3
    assert refusing.asked == 1
    clock.now += BREAK_S
    journal.append("1.2", ENTRY)
    assert refusing.asked == 2
    assert spool.size()[0] == 4


def test_a_replay_that_fails_loses_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    journal = Journal(RefusingRedis(), spool, clock=Clock())  # type: ignore[arg-type]
    journal.append("1.2", ENTRY)
    assert journal.replay() == 0
    assert spool.size()[0] == 1


def test_the_spool_keeps_what_it_was_given_over_a_restart(tmp_path: Path) -> None:
    Spool(tmp_path).add(ENTRY, uid="1.2")
    Spool(tmp_path).add(ENTRY, reason="not JSON")
    first, second = Spool(tmp_path).oldest()
    assert (first.uid, first.reason, first.entry) == ("1.2", None, ENTRY)
    assert (second.uid, second.reason) == (None, "not JSON")
    assert spool_size(str(tmp_path)) == (2, 4)


def test_a_folder_without_a_spool_counts_as_empty(tmp_path: Path) -> None:
    assert spool_size(str(tmp_path / "missing")) == (0, 0)


def test_only_one_process_replays(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with spool.sole_replayer() as mine, Spool(tmp_path).sole_replayer() as other:
        assert mine
        assert not other
    with Spool(tmp_path).sole_replayer() as again:
        assert again


def test_several_processes_open_a_new_spool_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for round in range(8):
        start = context.Barrier(4)
        openers = [context.Process(target=_open_spool, args=(tmp_path / str(round), start)) for _ in range(4)]
        for opener in openers:
            opener.start()
        for opener in openers:
            opener.join()
        assert [opener.exitcode for opener in openers] == [0, 0, 0, 0]


def _open_spool(folder: Path, start: Any) -> None:
    start.wait()
    Spool(folder)
