"""The settings of all programs, as far as this environment has them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from bridge.errors import SettingsError
from bridge.settings import PROGRAMS, SidecarSettings
from sidecar.clients import address_of
from sidecar.doctor.checks import Area, Check

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_settings(environ: Mapping[str, str]) -> list[Check]:
    """Every wrong or missing value of every program. What only another program needs may be set where that one runs."""
    area = Area("settings")
    seen: set[str] = set()
    for program, cls in PROGRAMS.items():
        problems = [problem for problem in problems_of(cls, environ) if problem not in seen]
        seen.update(problems)
        for problem in problems:
            name, text = _split(problem)
            if program != "sidecar" and " is not set:" in problem:
                area.warn(program, text, f"set {name} where {program} runs; here it is not needed")
            else:
                area.fail(
                    program, text, f"correct {name} in the environment or in .env; README has the table"
                )
        if not problems:
            area.ok(program, "all values can be read")
    return area.checks


def problems_of(cls: type, environ: Mapping[str, str]) -> list[str]:
    try:
        cls.from_env(environ)  # type: ignore[attr-defined]
    except SettingsError as error:
        return [line.strip() for line in str(error).splitlines()[1:]]
    return []


def _split(problem: str) -> tuple[str, str]:
    name = problem.split()[0].rstrip(":")
    return name, problem


def check_addresses(settings: SidecarSettings) -> list[Check]:
    """Values that are right by themselves, and wrong together; and the spool."""
    area = Area("settings")
    if not _loopback(settings.label_studio.url):
        ours = {"SIDECAR_URL": settings.sidecar_url, "ML_BACKEND_URL": settings.ml_backend_url}
        ours["LABEL_STUDIO_S3_URL"] = settings.label_studio_s3_url or settings.s3.endpoint_url
        for name, url in ours.items():
            if url and _loopback(url):
                area.warn(
                    name,
                    f"{url} is this machine only, and Label Studio is at {settings.label_studio.url}",
                    f"set {name} to an address that Label Studio reaches, unless both run on one machine",
                )
    spool = Path(settings.spool_dir)
    nearest = next((path for path in (spool, *spool.absolute().parents) if path.exists()), spool)
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        area.ok("SPOOL_DIR", f"{settings.spool_dir} can be written here")
    else:
        area.warn(
            "SPOOL_DIR",
            f"{settings.spool_dir} cannot be written by this user",
            "while Redis is away webhooks are kept there: make it writable for the user the sidecar runs as",
        )
    return area.checks


def check_proxy(settings: SidecarSettings, environ: Mapping[str, str]) -> list[Check]:
    """The way to the store: through S3_PROXY_URL (shown without its password), never through HTTP_PROXY."""
    area = Area("settings")
    if settings.s3.proxy_url:
        area.info("S3_PROXY_URL", f"the store is asked through {address_of(settings.s3.proxy_url)}")
        return area.checks
    found = [name for name in _PROXIES if environ.get(name) or environ.get(name.lower())]
    if found:
        area.info(
            "S3_PROXY_URL", f"not set: the store is asked directly, {' and '.join(found)} notwithstanding"
        )
    return area.checks


def _loopback(url: str) -> bool:
    return urlsplit(url).hostname in _LOOPBACK
