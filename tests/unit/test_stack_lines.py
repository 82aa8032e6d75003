"""stack/lines.py: what of the parts' output an operator sees."""

from __future__ import annotations

import pytest

from stack.lines import LineFilter, prefixed
from stack.parts import Show

LABEL_STUDIO = """\
=> Database and media directory: /srv/.run/label-studio
Initializing database..
[2026-11-22 06:06:32,057] [django.server::log_message::213] [INFO] "GET /health HTTP/1.1" 200 16
[2026-11-22 06:06:33,000] [django.server::log_message::213] [WARNING] "GET /api/nothing HTTP/1.1" 404 16
[2026-11-22 06:06:33,500] [django.request::log_response::293] [WARNING] Bad Request: /api/ml/
[2026-11-22 06:06:34,000] [ml.api_connector::_request::155] [WARNING] ML backend is not reachable
[2026-11-22 06:06:34,000] [ml.api_connector::_request::155] [WARNING] ML backend is not reachable
[2026-11-22 06:06:35,000] [core.utils.common::handler::100] [ERROR] it broke
Traceback (most recent call last):
  File "x.py", line 1, in y
ValueError: z
[2026-11-22 06:06:36,000] [django.server::log_message::213] [ERROR] "POST /api/tasks HTTP/1.1" 500 90
[2026-11-22 06:06:37,000] [django.server::log_message::213] [INFO] "GET /health HTTP/1.1" 200 16
more of the same request
""".splitlines()

S3 = """\
 * Running on http://127.0.0.1:9532
127.0.0.1 - - [22/Nov/2026 06:15:03] "GET / HTTP/1.1" 200 -
127.0.0.1 - - [22/Nov/2026 06:15:04] "PUT /labels/a HTTP/1.1" 500 -
Traceback (most recent call last):
KeyError: 'a'
127.0.0.1 - - [22/Nov/2026 06:15:05] "GET / HTTP/1.1" 200 -
quiet again
""".splitlines()


def shown(show: Show, lines: list[str]) -> list[str]:
    wanted = LineFilter(show)
    return [line for line in lines if wanted.shows(line)]


def test_of_label_studio_only_what_went_wrong_is_shown_once_and_in_one_line() -> None:
    assert shown(Show.LABEL_STUDIO, LABEL_STUDIO) == [LABEL_STUDIO[5], LABEL_STUDIO[7], LABEL_STUDIO[11]]


def test_of_the_s3_endpoint_only_its_own_faults_are_shown() -> None:
    assert shown(Show.SERVER_ERRORS, S3) == S3[2:5]


def test_of_our_programs_every_line_but_empty_ones_is_shown() -> None:
    assert shown(Show.ALL, ["a", "", "  ", "b"]) == ["a", "b"]


def test_a_part_that_shows_nothing_shows_nothing() -> None:
    assert shown(Show.NONE, ["a", "Traceback (most recent call last):"]) == []


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-22 06:00:00,123 INFO started",  # logging's own format
        "[2026-11-22 06:00:00 +0000] INFO started",  # gunicorn
        "2026-11-22T06:00:00.123456Z INFO started",
        "INFO started",
    ],
)
def test_the_time_is_shown_once(line: str) -> None:
    assert (
        prefixed("sidecar", line, clock="06:00:00", width=12, colour=None)
        == "06:00:00 sidecar      | INFO started"
    )


def test_colour_covers_the_name_only() -> None:
    coloured = prefixed("s3", "text", clock="06:00:00", width=2, colour=36)
    assert coloured == "\x1b[36m06:00:00 s3 |\x1b[0m text"
