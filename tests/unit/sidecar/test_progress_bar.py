"""The line of a transfer, and that it is drawn on terminals alone."""

from __future__ import annotations

import io

import pytest

from bridge.transfer import Send
from sidecar.progress_bar import ProgressBar, bar_line, size_words, time_words


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def bar(stream: io.StringIO) -> ProgressBar:
    ticks = iter(range(100))
    return ProgressBar(stream, clock=lambda: float(next(ticks)))


def use(one: ProgressBar) -> None:
    one.start(2, 3000)
    one.moved(1000)
    one.finished(Send(name="a", key="a", size_bytes=1000), "")
    one.close()


def test_a_terminal_sees_bytes_rate_and_time_left() -> None:
    stream = Terminal()
    use(bar(stream))
    last = stream.getvalue().split("\r")[-2]
    assert "1 of 2 files" in last
    assert "1.0 kB of 3.0 kB" in last
    assert "/s" in last
    assert "left" in last


def test_anything_else_stays_quiet() -> None:
    stream = io.StringIO()
    use(bar(stream))
    assert stream.getvalue() == ""


def test_a_transfer_of_nothing_or_in_no_time_has_a_line_too() -> None:
    assert "100%" in bar_line(files=0, all_files=0, size_bytes=0, all_bytes=0, seconds=0)
    assert "? left" in bar_line(files=0, all_files=1, size_bytes=0, all_bytes=5, seconds=0)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2e12, "2.0 TB"),
    ],
)
def test_sizes_are_written_for_people(size: float, words: str) -> None:
    assert size_words(size) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(7, "0:07"), (723, "12:03"), (7500, "2:05:00"), (59.7, "1:00")]
)
def test_times_are_written_for_people(seconds: float, words: str) -> None:
    assert time_words(seconds) == words
