"""All areas, one after another. One that is down costs its own lines, and those that need it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bridge.errors import SettingsError
from bridge.settings import SidecarSettings
from sidecar.clients import Clients
from sidecar.doctor import in_bucket, in_label_studio, in_projects, in_redis, in_settings
from sidecar.doctor.checks import Area, Check
from sidecar.status import status

if TYPE_CHECKING:
    from bridge.edges.s3_probe import Probe


def utc_now() -> datetime:
    return datetime.now(UTC)


def examine(
    environ: Mapping[str, str],
    make_clients: Callable[[SidecarSettings], Clients],
    make_probe: Callable[[SidecarSettings], Probe],
    *,
    thorough: bool = False,
    now: Callable[[], datetime] = utc_now,
) -> Iterator[Check]:
    """Every line, as it is found. Raises nothing of the outside world."""
    yield from in_settings.check_settings(environ)
    try:
        settings = SidecarSettings.from_env(environ)
    except SettingsError:
        area = Area("settings")
        area.info("the rest", "was not asked: it needs the sidecar's settings")
        yield from area.checks
        return
    clients = make_clients(settings)
    yield from in_settings.check_addresses(settings)
    yield from in_settings.check_proxy(settings, environ)
    redis = in_redis.check_redis(clients)
    yield from redis
    checks, studio_up = in_label_studio.check_label_studio(clients)
    yield from checks
    yield from in_projects.check_addresses(settings)
    if studio_up:
        yield from in_projects.judge_status(
            # The bucket has lines of its own below: asking a dead one twice takes twice as long.
            status(replace(clients, check_bucket=lambda: None)),
            redis_up=redis[0].result == "ok",
        )
    else:
        area = Area("projects")
        area.info("connected", "not asked: Label Studio does not let us in (above)")
        yield from area.checks
    yield from in_bucket.check_bucket(clients, make_probe(settings), thorough=thorough, now=now)
