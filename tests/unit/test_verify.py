"""What can be told of a log object by its name and its bytes."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest

from bridge.etags import md5_of
from bridge.keys import Layout, LogKey
from bridge.store import ObjectInfo
from bridge.verify import Content, Order, Problem, persisting, read_log_object
from tests.fakes import record

LAYOUT = Layout("3.1795312966", "team-a")
LINES = [record(id=str(number)).to_json() for number in (1, 2, 3)]
BODY = "".join(f"{line}\n" for line in LINES).encode()
POSITION = 1795312966000


def key_of(body: bytes = BODY, position: int = POSITION) -> LogKey:
    return LogKey(position=position, sha=hashlib.sha256(body).hexdigest()[:16])


def info(key: str, body: bytes = BODY) -> ObjectInfo:
    return ObjectInfo(
        key=key, size_bytes=len(body), last_modified=datetime(2026, 11, 22, tzinfo=UTC), md5=md5_of(body)
    )


def read(body: bytes, key: LogKey | None = None) -> Content:
    key = key or key_of()
    return read_log_object(info(LAYOUT.log(key), body), key, body)


def whats(problems: list[Problem]) -> list[str]:
    return [problem.what for problem in problems]


def test_an_object_as_it_was_written_has_no_problem() -> None:
    found = read(BODY)
    assert found.problems == []
    assert [one.id for one in found.records] == ["1", "2", "3"]


def test_an_object_cut_short_is_named_and_read_as_far_as_it_goes() -> None:
    found = read(BODY[:-20])
    assert whats(found.problems) == ["checksum", "unreadable"]
    assert "line 3" in found.problems[1].words
    assert [one.id for one in found.records] == ["1", "2"]


def test_an_edited_object_is_named_though_every_line_can_be_read() -> None:
    found = read(BODY.replace(b'"TEST"', b'"BEST"'))
    assert whats(found.problems) == ["checksum"]
    assert len(found.records) == 3


def test_a_store_that_tells_another_md5_is_named() -> None:
    told = info(LAYOUT.log(key_of()), b"something else")
    assert whats(read_log_object(told, key_of(), BODY).problems) == ["etag"]


def test_a_put_that_does_not_know_its_version_is_named() -> None:
    fields = json.loads(LINES[0]) | {"version": None}
    body = json.dumps(fields).encode() + b"\n"
    assert whats(read(body, key_of(body)).problems) == ["version"]


def test_a_record_from_a_newer_version_is_counted_and_is_no_damage() -> None:
    body = BODY + LINES[0].replace('"put"', '"link"').encode() + b"\n"
    found = read(body, key_of(body))
    assert found.problems == []
    assert found.newer == 1
    assert len(found.records) == 4


# --- names in their order


def looked(*keys: str) -> list[tuple[str, str]]:
    order = Order(LAYOUT)
    return [(one.where, one.what) for key in keys for one in order.look(info(key))]


def test_names_in_their_order_have_no_problem() -> None:
    assert looked(*(LAYOUT.log(key_of(position=POSITION + step)) for step in (0, 1, 86_400_000))) == []


def test_two_objects_with_one_position_are_named() -> None:
    first, second = sorted(LAYOUT.log(key_of(body)) for body in (b"one", b"other"))
    assert looked(first, second) == [(second, "order")]


def test_an_object_under_another_day_is_named() -> None:
    wrong = LAYOUT.log(key_of()).replace("/2026/11/", "/2026/12/")
    assert looked(wrong) == [(wrong, "misplaced")]


@pytest.mark.parametrize(
    "name", ["log/README.txt", "log/2026/11/22/1795312966000-0123456789abcdef.jsonl.bak"]
)
def test_what_is_no_log_object_is_named(name: str) -> None:
    assert looked(LAYOUT.root + name) == [(LAYOUT.root + name, "foreign")]


def test_an_empty_object_is_named() -> None:
    key = LAYOUT.log(key_of(b""))
    assert whats(Order(LAYOUT).look(info(key, b""))) == ["empty"]


def test_only_what_is_seen_twice_persists() -> None:
    one, other, third = (Problem(part="current", where=w, what="missing", words="") for w in "abc")
    assert persisting([one, other], [other, third]) == [other]
