"""Which snapshots stay, which serve, and what a manifest says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.snapshots import SCHEMA, File, Manifest, thinned
from tests.fakes import START, at

NOW_MS = int(START.timestamp() * 1000)
HOUR_MS = 3600 * 1000


def manifest() -> Manifest:
    return Manifest(
        uid="1.1795312801",
        position=NOW_MS,
        previous=None,
        newest_key="projects/1.1795312801/log/2026/11/22/1795327200000-0000000000000000.jsonl",
        log_objects=2,
        unreadable=0,
        received_from=at(1),
        received_to=at(9),
        baseline_completed_at=None,
        content_rules="0" * 16,
        files=(File(table="task", name="task.parquet", size_bytes=5, sha256="0" * 64, rows=3),),
        created_at=at(10),
    )


def test_a_manifest_is_read_back() -> None:
    assert Manifest.from_json(manifest().to_json()) == manifest()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b'{"schema": 1}'])
def test_what_is_no_manifest_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"manifest|Expecting"):
        Manifest.from_json(body)


def test_the_manifest_of_a_newer_version_says_so() -> None:
    with pytest.raises(ValueError, match="a newer version of us wrote it"):
        Manifest.from_json(replace(manifest(), schema=SCHEMA + 1).to_json())


def test_a_snapshot_serves_from_its_last_record_on() -> None:
    assert not manifest().serves(at=at(8))
    assert manifest().serves(at=at(9))
    assert manifest().serves()


def test_a_snapshot_serves_no_older_log_object() -> None:
    newest = manifest().newest_key
    assert manifest().serves(up_to=newest)
    assert not manifest().serves(up_to=newest.replace("1795327200000", "1795327199999"))


def test_a_year_of_hourly_snapshots_leaves_a_day_of_them_a_month_of_days_and_months() -> None:
    found = [NOW_MS - n * HOUR_MS for n in range(24 * 365)]
    stay = {*found} - {*thinned(found, START, keep_days=30)}
    assert 24 + 29 + 11 <= len(stay) <= 25 + 31 + 13


@given(st.sets(st.integers(0, 10**13 - 1), min_size=1, max_size=20), st.integers(1, 400))
def test_the_newest_always_stays_and_thinning_twice_removes_nothing_more(found: set[int], days: int) -> None:
    gone = thinned(found, START, keep_days=days)
    assert max(found) not in gone
    assert thinned(found - {*gone}, START, keep_days=days) == []
    recent = {one for one in found if abs(NOW_MS - one) <= timedelta(days=1).total_seconds() * 1000}
    assert not recent & {*gone}
