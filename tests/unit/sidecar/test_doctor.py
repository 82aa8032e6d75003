"""What the doctor makes of what it is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sidecar.cli_doctor import check_lines
from sidecar.doctor.checks import Area, Check, Report, split_hint
from sidecar.doctor.in_bucket import judge_clock
from sidecar.doctor.in_label_studio import NEEDED, judge_permissions, judge_reach
from sidecar.doctor.in_projects import judge_status
from sidecar.doctor.in_redis import judge
from sidecar.doctor.in_settings import check_addresses, check_settings
from sidecar.status import Baseline, Neighbour, ProjectStatus, Status
from tests.unit.sidecar.fakes import ENVIRON, World

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
GOOD = {
    "redis_version": "7.0.15",
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "maxmemory_policy": "noeviction",
    "maxmemory": 1000,
    "used_memory": 100,
}


def results(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.result for check in checks}


def test_a_redis_that_keeps_everything_is_well() -> None:
    assert set(results(judge(GOOD, "always")).values()) == {"ok"}


@pytest.mark.parametrize(
    ("change", "fsync", "name", "result"),
    [
        ({"aof_enabled": 0}, "always", "persistence", "fail"),
        ({"aof_last_write_status": "err"}, "always", "persistence", "fail"),
        ({}, "no", "persistence", "fail"),
        ({}, "everysec", "persistence", "warn"),
        ({}, "", "persistence", "warn"),  # a hosted Redis forbids CONFIG
        ({"maxmemory_policy": "allkeys-lru"}, "always", "eviction", "fail"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 0}, "always", "eviction", "warn"),
        ({"used_memory": 950}, "always", "memory", "fail"),
        ({"used_memory": 800}, "always", "memory", "warn"),
        ({"maxmemory": 0}, "always", "memory", "info"),  # nobody knows how much there is
        ({"maxmemory": 0, "total_system_memory": 1000}, "always", "memory", "ok"),
        ({"redis_version": "5.0.7"}, "always", "version", "warn"),
    ],
)
def test_what_would_lose_events_is_found(change: dict[str, Any], fsync: str, name: str, result: str) -> None:
    checks = judge(GOOD | change, fsync)
    assert results(checks)[name] == result
    assert all(check.remedy for check in checks if check.result == "fail")


@pytest.mark.parametrize(
    ("seconds", "result"),
    [(0, "ok"), (59, "ok"), (-61, "warn"), (61, "warn"), (900, "fail"), (-5000, "fail")],
)
def test_a_clock_is_judged_by_the_middle_of_the_question(seconds: int, result: str) -> None:
    before, after = NOW - timedelta(seconds=2), NOW + timedelta(seconds=2)
    assert judge_clock(NOW - timedelta(seconds=seconds), before, after)[0].result == result


def test_a_store_without_a_clock_is_no_failure() -> None:
    assert judge_clock(None, NOW, NOW)[0].result == "info"


@pytest.mark.parametrize(
    ("said", "result"),
    [
        (None, "ok"),
        ("500 Debugging info is not available for s3 endpoints on domain: .", "ok"),
        ("403 URL resolves to a reserved network address (block: 127.0.0.0/8)", "fail"),
        ("500 Can't resolve hostname sidecar", "fail"),
        ("POST …: no answer from Label Studio at http://studio (ReadTimeout)", "fail"),
    ],
)
def test_whether_label_studio_may_reach_us_is_read_from_its_words(said: str | None, result: str) -> None:
    check = judge_reach("http://sidecar:9100", said)
    assert check.result == result
    assert bool(check.remedy) == (result == "fail")


def test_missing_permissions_are_named() -> None:
    assert judge_permissions(NEEDED)[0].result == "ok"
    assert judge_permissions(None)[0].result == "info"
    found = judge_permissions([name for name in NEEDED if name != "webhooks.change"])[0]
    assert (found.result, "webhooks.change" in found.text) == ("fail", True)


def test_what_only_another_program_needs_is_a_warning() -> None:
    checks = check_settings(ENVIRON)
    assert results(checks) == {"sidecar": "ok", "workers": "ok", "ml_backend": "warn"}
    found = results(check_settings({**ENVIRON, "BUCKET": "A"}))
    assert found["sidecar"] == "fail"


def test_no_settings_at_all_are_named_one_by_one_without_secrets() -> None:
    checks = check_settings({"WEBHOOK_SECRET": "short"})
    failed = [check for check in checks if check.result == "fail"]
    assert {"LABEL_STUDIO_URL", "REDIS_URL", "BUCKET"} <= {check.text.split()[0] for check in failed}
    assert "short" not in str(checks)


def test_an_address_of_this_machine_is_doubted_when_label_studio_is_elsewhere() -> None:
    there = World(SIDECAR_URL="http://127.0.0.1:9100").settings
    assert results(check_addresses(there))["SIDECAR_URL"] == "warn"
    here = World(SIDECAR_URL="http://127.0.0.1:9100", LABEL_STUDIO_URL="http://localhost:8080").settings
    assert "SIDECAR_URL" not in results(check_addresses(here))


def project(**change: Any) -> ProjectStatus:
    well = {"uid": "3.1", "id": 3, "title": "Animals", "connected": True, "webhook": "ok", "ml_backend": "ok"}
    return ProjectStatus(**(well | {"storage": "ok", "baseline": Baseline(state="done")} | change))


def status(*projects: ProjectStatus, quarantine: int = 0, spool: int | None = 0) -> Status:
    return Status(
        neighbours=[Neighbour(name="Redis", ok=True, detail="")],
        projects=projects,
        unassigned_waiting=0,
        quarantine=quarantine,
        spool_entries=spool,
        spool_bytes=0,
    )


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({}, "ok"),
        ({"webhook": "missing", "connected": False}, "fail"),
        ({"webhook": "drifted: secret", "connected": False}, "fail"),
        ({"ml_backend": "drifted: it is Disconnected"}, "fail"),
        ({"ml_backend": "not used", "storage": "not used"}, "ok"),
        ({"storage": "missing"}, "warn"),
        ({"storage": "unknown: 500"}, "warn"),
        ({"baseline": Baseline(state="failed", message="no bucket")}, "fail"),
        ({"baseline": Baseline(state="unknown")}, "warn"),
        ({"lag_s": 100.0, "waiting": 5}, "fail"),
        ({"trouble": "the bucket is full", "lag_s": 100.0, "waiting": 5}, "fail"),
        ({"media_failed": 2}, "warn"),
    ],
)
def test_each_project_is_judged_by_its_worst(change: dict[str, Any], result: str) -> None:
    checks = judge_status(status(project(**change)), redis_up=True)
    worst = max(checks, key=lambda check: ("ok", "info", "warn", "fail").index(check.result))
    assert worst.result == result
    assert worst.name == "3 Animals"
    assert worst.remedy or result == "ok"


def test_what_waits_outside_the_projects_is_named() -> None:
    checks = judge_status(status(project(), quarantine=2, spool=3), redis_up=True)
    assert results(checks) == {"quarantine": "warn", "spool": "warn", "3 Animals": "ok"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("it failed (check the key)", ("it failed", "check the key")),
        ("it failed (ConnectError)", ("it failed (ConnectError)", "")),
        ("no (Error) (is it up (or down)?)", ("no (Error)", "is it up (or down)?")),
        ("plain", ("plain", "")),
        ("(all of it is one)", ("(all of it is one)", "")),
    ],
)
def test_the_hint_of_an_error_becomes_the_remedy(message: str, expected: tuple[str, str]) -> None:
    assert split_hint(message) == expected


def test_only_failures_make_a_report_bad_and_a_remedy_has_its_own_line() -> None:
    area = Area("bucket")
    area.warn("one", "warned", "do this")
    assert Report(checks=area.checks).ok
    area.fail("two", "failed", "do that")
    report = Report(checks=area.checks)
    assert (report.ok, report.to_json()["ok"], len(report.failed)) == (False, False, 1)
    assert check_lines(area.checks[1]).splitlines()[1].strip() == "→ do that"
