"""The spool's limits: its largest size, a full disk, a damaged file, and the marks of what had to be refused."""

from __future__ import annotations

import logging
import os
import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from bridge.edges import redis as names
from bridge.edges.stream import CONTROL, Entry
from sidecar.journal import WARN_EVERY_S, Journal, NotKept
from sidecar.missed import Missed
from sidecar.show import status_lines
from sidecar.spool import FILE, Fill, Spool
from sidecar.status import status
from tests.unit.sidecar.fakes import World

MIB = 1024 * 1024
ENTRY = Entry(
    event_id="e", received_at=datetime(2026, 11, 22, tzinfo=UTC), source="webhook", action="A", body=b"{}"
)


class NoRedis:
    """Refuses everything."""

    def __getattr__(self, name: str) -> object:
        raise redis.ConnectionError("refused")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def big(number: int, size_bytes: int = 64 * 1024) -> Entry:
    return replace(ENTRY, event_id=f"e{number}", body=bytes([number % 256]) * size_bytes)


def fill_up(spool: Spool) -> int:
    """Add until it is refused; returns how many were taken."""
    for number in range(1000):
        try:
            spool.add(big(number), uid="1.2")
        except (sqlite3.Error, OSError):
            return number
    raise AssertionError("the spool has no end")


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """A disk that takes no file beyond a size, for this process: writing further fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_spool_refuses_keeps_what_it_has_and_takes_again_once_there_is_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=2 * MIB)
    taken = fill_up(spool)
    assert 20 < taken <= 32
    assert spool.fill().share > 0.9
    assert (tmp_path / FILE).stat().st_size <= 2 * MIB
    assert [item.entry for item in spool.oldest()] == [big(number) for number in range(taken)]
    spool.remove(*(item.row for item in spool.oldest(5)))
    assert not spool.fill().share > 0.9
    spool.add(big(99), uid="1.2")
    assert spool.size() == (taken - 4, (taken - 4) * 64 * 1024)


def test_a_full_disk_refuses_as_the_limit_does(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with file_size_limit(MIB):
        kept = fill_up(spool)
        assert 0 < kept < 20
        assert spool.size()[0] == kept
    assert [item.entry for item in spool.oldest()] == [big(number) for number in range(kept)]
    spool.add(big(99), uid="1.2")
    assert spool.size()[0] == kept + 1


def test_the_room_on_the_disk_counts_as_the_limit(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    fill = Spool(tmp_path, max_bytes=1 << 60).fill()
    assert fill.limit_bytes <= disk.f_bavail * disk.f_frsize + (1 << 30)
    assert Fill(used_bytes=10, limit_bytes=0).is_high
    assert Fill(used_bytes=50, limit_bytes=100).is_high
    assert not Fill(used_bytes=49, limit_bytes=100).is_high


def test_an_emptied_spool_gives_the_disk_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(20):
        spool.add(big(number, MIB), uid="1.2")
    assert (tmp_path / FILE).stat().st_size > 16 * MIB
    spool.remove(*(item.row for item in spool.oldest(max_bytes=1 << 30)))
    spool.shrink()
    assert (tmp_path / FILE).stat().st_size < MIB
    spool.add(ENTRY, uid="1.2")
    assert spool.size() == (1, 2)


def test_a_page_of_the_spool_is_bounded_in_bytes(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(5):
        spool.add(big(number, MIB), uid="1.2")
    assert len(spool.oldest(max_bytes=2 * MIB)) == 2
    assert len(spool.oldest(max_bytes=1)) == 1, "one that is larger goes alone"


def test_a_spool_of_garbage_is_set_aside_loudly_and_a_new_one_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all " * 1000)
    spool = Spool(tmp_path)
    spool.add(ENTRY, uid="1.2")
    assert [item.entry for item in spool.oldest()] == [ENTRY]
    (aside,) = tmp_path.glob("spool-damaged-*.sqlite3")
    assert aside.read_bytes() == b"no database at all " * 1000
    (said,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert aside.name in said.getMessage()
    assert ".recover" in said.getMessage()
    assert spool.missed.names() == ["all"], "nobody knows what was in it: everything is read again"


def test_what_can_be_read_of_a_damaged_spool_is_carried_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(40):
        spool.add(big(number, 10_000), uid="1.2")
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    del spool
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(200_000)
        file.write(b"\xa5" * 20_000)  # in the middle
    again = Spool(tmp_path)
    again.add(replace(ENTRY, event_id="new"), uid="1.2")
    ids = [item.entry.event_id for item in _all(again)]
    assert list(tmp_path.glob("spool-damaged-*")), "the damage was noticed"
    assert "new" in ids
    assert 20 < len(set(ids)) <= 41
    assert all(item.entry == big(int(item.entry.event_id[1:]), 10_000) for item in again.oldest(10))


def _all(spool: Spool) -> list:  # type: ignore[type-arg]
    return spool.oldest(1000, max_bytes=1 << 30)


def test_other_threads_follow_to_the_new_file_when_one_was_set_aside(tmp_path: Path) -> None:
    first, second = Spool(tmp_path), Spool(tmp_path)
    second.add(ENTRY, uid="1.2")
    (tmp_path / FILE).rename(tmp_path / "elsewhere.sqlite3")
    first.add(replace(ENTRY, event_id="f"), uid="1.2")
    second.add(replace(ENTRY, event_id="g"), uid="1.2")
    assert [item.entry.event_id for item in first.oldest()] == ["f", "g"]


def test_a_spool_of_the_version_before_is_read_on(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(
            "CREATE TABLE entries (id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT, reason TEXT, event_id TEXT NOT NULL, "
            "received_at TEXT NOT NULL, source TEXT NOT NULL, action TEXT NOT NULL, body BLOB NOT NULL)"
        )
        row = ("1.2", None, "e", "2026-11-22T00:00:00.000000Z", "webhook", "A", b"{}")
        connection.execute("INSERT INTO entries VALUES (NULL,?,?,?,?,?,?,?)", row)
    connection.close()
    spool = Spool(tmp_path)
    assert spool.size() == (1, 2)
    assert spool.oldest()[0].entry == ENTRY


def test_a_sidecar_starts_though_its_spool_cannot_be_opened_and_uses_it_once_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    spool = Spool(tmp_path / "spool")
    assert "cannot be used" in caplog.text
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        spool.add(ENTRY, uid="1.2")
    (tmp_path / "spool").unlink()
    spool.add(ENTRY, uid="1.2")
    assert spool.size()[0] == 1


def test_what_neither_redis_nor_the_spool_takes_is_refused_and_its_project_marked(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=MIB)
    journal = Journal(NoRedis(), spool)  # type: ignore[arg-type]
    fill_up(spool)
    with pytest.raises(NotKept, match="SPOOL_MAX_MIB"):
        journal.append("7.1795312801", big(1))
    assert spool.missed.names() == ["7.1795312801"]
    with pytest.raises(NotKept):
        journal.append(CONTROL, big(1))
    assert Spool(tmp_path, max_bytes=MIB).missed.names() == ["7.1795312801", "all"], (
        "on the disk, for a restart"
    )


def test_a_mark_leaves_only_after_it_was_sent_and_one_made_meanwhile_stays(tmp_path: Path) -> None:
    missed = Missed(tmp_path)
    missed.note("1.2")
    with pytest.raises(redis.ConnectionError):
        missed.carry(lambda _: (_ for _ in ()).throw(redis.ConnectionError("away")))
    assert missed.names() == ["1.2"]
    sent: list[str | None] = []

    def send(uid: str | None) -> None:
        sent.append(uid)
        if len(sent) == 1:
            missed.note("1.2")  # the door refuses another one just now

    assert missed.carry(send) == ["1.2"]
    assert missed.names() == ["1.2"]
    assert missed.carry(send) == ["1.2"]
    assert (missed.names(), sent) == ([], ["1.2", "1.2"])


def test_a_mark_that_the_disk_does_not_take_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "missed").write_text("a file where the folder should be")
    missed = Missed(tmp_path)
    missed.note(None)
    assert missed.names() == ["all"]
    sent: list[str | None] = []
    missed.carry(sent.append)
    assert (missed.names(), sent) == ([], [None])


def test_a_process_that_does_not_have_the_spool_carries_what_it_alone_remembers(tmp_path: Path) -> None:
    """The one that has it, until it ends, cannot know of that."""
    (tmp_path / "missed").write_text("a file where the folder should be")
    spool = Spool(tmp_path)
    world = World()
    world.redis.sadd(names.WANTED, "1.2")
    journal = Journal(world.redis, spool)  # type: ignore[arg-type]
    spool.missed.note("1.2")
    stop = threading.Event()
    with spool.sole_replayer() as mine:
        assert mine
        thread = threading.Thread(target=journal.replay_forever, args=(stop,), daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while spool.missed.names() and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()
        thread.join(30)
    assert spool.missed.names() == []
    assert world.redis.smembers(names.REREAD) == {b"1.2"}


def test_a_spool_that_is_half_full_is_said_as_an_error_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool, clock = Spool(tmp_path, max_bytes=MIB), Clock()
    journal = Journal(NoRedis(), spool, clock=clock)  # type: ignore[arg-type]
    journal.append("1.2", big(0))
    journal.tend()
    assert not _errors(caplog)
    for number in range(9):
        spool.add(big(number), uid="1.2")
    for _ in range(5):
        journal.tend()
    assert len(_errors(caplog)) == 1
    assert "SPOOL_MAX_MIB" in _errors(caplog)[0]
    clock.now += WARN_EVERY_S
    journal.tend()
    assert len(_errors(caplog)) == 2


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_many_threads_add_at_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    def add(start: int) -> None:
        for number in range(start, start + 10):
            spool.add(big(number, 100), uid="1.2")

    threads = [threading.Thread(target=add, args=(start * 10,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {item.entry.event_id for item in spool.oldest(100)} == {f"e{number}" for number in range(80)}


def test_status_shows_a_filling_spool_and_refused_projects_in_words(tmp_path: Path) -> None:
    world = World(SPOOL_DIR=str(tmp_path), SPOOL_MAX_MIB="1")
    spool = Spool(tmp_path, max_bytes=MIB)
    spool.add(ENTRY, uid="1.2")
    calm = "\n".join(status_lines(status(world.clients)))
    assert "SPOOL_MAX_MIB" not in calm
    fill_up(spool)
    spool.missed.note("7.1795312801")
    found = status(world.clients)
    assert found.missed == ["7.1795312801"]
    alarmed = "\n".join(status_lines(found))
    assert "full (" in alarmed
    assert "SPOOL_MAX_MIB" in alarmed
    assert "to be read again: 7.1795312801" in alarmed
