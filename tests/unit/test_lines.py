"""The data of a line, read alone: the same as out of the whole line."""

from __future__ import annotations

import json

import pytest

from bridge.edges.lines import Line, data_of
from tests.fakes import record

_HEAD = '{"kind":"task","op":"put","id":"1","data":'


@pytest.mark.parametrize(
    "data",
    [
        "{}",
        '{"a":1,"a":2}',
        '{"id":123456789012345678901234567890}',
        '{"result":[{"value":{"x":1e-7,"y":-0.0}}],"text":"\\u00e9 \\ud83d\\ude00"}',
        '{"broken":"\\ud83d"}',  # half an emoji, and a number beyond a double: msgspec refuses both
        '{"far":1e999}',
    ],
)
def test_it_is_what_the_standard_library_reads(data: str) -> None:
    assert json.dumps(data_of(f'{_HEAD}{data},"source":"webhook"}}')) == json.dumps(json.loads(data))


def test_it_is_the_data_of_the_record() -> None:
    one = record("annotation", "7", version=3, result=[{"id": "a", "value": {"x": 1.5}}])
    line = one.to_json()
    assert data_of(line) == one.data == Line.read(line.encode()).data


def test_whoever_changes_it_changes_nothing_else() -> None:
    line = record("task", "1").to_json()
    data_of(line)["changed"] = True
    assert "changed" not in data_of(line)


@pytest.mark.parametrize("line", ["", "{", _HEAD, '{"kind":"task"}', "[]x"])
def test_what_is_no_line_of_a_record_is_an_error(line: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        data_of(line)
