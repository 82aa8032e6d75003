"""stack/supervisor.py: when a dead worker is started again, and how an end is told."""

from __future__ import annotations

from stack.supervisor import how_it_ended, restart_delay_s


def test_each_death_doubles_the_wait() -> None:
    deaths = [10.0, 11.0, 12.0, 13.0, 14.0]
    assert [restart_delay_s(deaths[:count], now=14.0) for count in range(1, 6)] == [0.5, 1, 2, 4, 8]


def test_the_sixth_death_within_two_minutes_is_the_last() -> None:
    assert restart_delay_s([0, 20, 40, 60, 80, 100], now=100) is None


def test_old_deaths_are_forgiven() -> None:
    assert restart_delay_s([0, 1, 2, 3, 4, 500], now=500) == 0.5


def test_an_end_by_signal_is_told_as_one() -> None:
    assert how_it_ended(-9) == "was ended by signal 9"
    assert how_it_ended(3) == "ended with exit code 3"
