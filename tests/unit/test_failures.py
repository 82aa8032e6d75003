"""Why a job failed, in words, out of what RQ keeps; and how far a job is."""

from __future__ import annotations

import traceback
from datetime import timedelta

import pytest

from bridge.errors import BridgeError, SettingsError, Unavailable
from bridge.failures import DIED, STOPPED, STUCK, reason_of
from bridge.progress import META, Progress, of_meta, span
from tests.fakes import START, at


def traceback_of(error: BaseException, cause: BaseException | None = None) -> str:
    try:
        raise error from cause
    except BaseException as raised:
        return "".join(traceback.format_exception(raised))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("no answer", hint="is it running?"), "no answer (is it running?)"),
        (
            SettingsError("wrong settings:\n  BUCKET is not set\n  PORT: 'x'"),
            "wrong settings:\n  BUCKET is not set\n  PORT: 'x'",
        ),
        (BridgeError("a: b: c"), "a: b: c"),
        (KeyError("id"), "KeyError: 'id'"),
        (ValueError(), "ValueError"),
    ],
)
def test_the_message_is_what_the_error_says(error: Exception, reason: str) -> None:
    assert reason_of(traceback_of(error)) == reason
    assert reason_of(traceback_of(error, cause=OSError("deeper"))) == reason
    assert reason_of("".join(traceback.format_exception_only(error))) == reason


@pytest.mark.parametrize(
    ("stored", "reason"),
    [  # sentences of rq 3.0.0
        ("Moved to FailedJobRegistry, due to AbandonedJobError, at 2026-11-22 06:00:00+00:00", DIED),
        ("Job stopped by user, work-horse terminated.", STOPPED),
        ("Job was stuck in intermediate queue.", STUCK),
        (
            "Work-horse terminated unexpectedly; waitpid returned 9 (signal 9); ",
            "its process was killed (signal 9): was the machine short of memory?",
        ),
        ("Work-horse terminated unexpectedly; waitpid returned 256; ", "its process ended without a word"),
        (
            "Traceback (most recent call last):\n  File …\nrq.timeouts.JobTimeoutException: Task exceeded maximum timeout value (120 seconds)\n",
            "took longer than the 120 s it may",
        ),
        ("", ""),
    ],
)
def test_rqs_own_sentences_are_put_into_words(stored: str, reason: str) -> None:
    assert reason_of(stored) == reason


def progress(done: int, total: int | None, after_s: float, before: int = 0) -> Progress:
    return Progress(
        done=done, total=total, unit="tasks", began_at=START, updated_at=at(after_s), done_at_start=before
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (progress(40, 100, 10), "40 of 100 tasks, 15 s left"),  # 4 a second
        (progress(40, 100, 10, before=30), "40 of 100 tasks, 60 s left"),  # 1 a second: 30 were done before
        (progress(40, None, 10), "40 tasks"),
        (progress(40, 100, 1), "40 of 100 tasks"),  # too early to tell
        (progress(0, 100, 10), "0 of 100 tasks"),
        (progress(100, 100, 10), "100 of 100 tasks, 0 s left"),
    ],
)
def test_progress_says_what_is_left_where_it_can_be_known(found: Progress, words: str) -> None:
    assert found.words() == words
    assert of_meta({META: found.to_json()}) == found


@pytest.mark.parametrize(
    "meta", [{}, {META: None}, {META: {"done": 1}}, {META: progress(1, 2, 3).to_json() | {"began_at": "x"}}]
)
def test_progress_that_cannot_be_read_is_none(meta: dict[str, object]) -> None:
    assert of_meta(meta) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (-3, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_a_span_is_told_in_the_unit_a_person_takes(seconds: float, words: str) -> None:
    assert span(timedelta(seconds=seconds).total_seconds()) == words
