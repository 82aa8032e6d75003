"""What the stack starts and where: its settings, and the environment that it hands to our programs.

Only values; nothing is started, read or written here. Redis, the S3 endpoint and Label Studio are each replaced by a
real one when its address is set, and are then not started.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bridge.errors import SettingsError
from bridge.settings import (
    FromEnv,
    all_settings,
    bucket_name,
    log_level,
    prefix,
    redis_url,
    setting,
    text,
    url,
    whole,
)
from cortx_emulation.profiles import PROFILES, STRICTEST

LOOPBACK = "127.0.0.1"

_INHERITED = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|TERM|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|OMP_NUM_THREADS|CUDA_VISIBLE_DEVICES"
)
"""Variables that every part gets from our own environment. Nothing else: a stray DEBUG, PORT, AWS_PROFILE or
HTTP_PROXY of the operator's shell would change how Label Studio or boto3 behave."""


def port(value: str) -> int:
    return whole(1, 65535)(value)


def profile(value: str) -> str:
    if value not in PROFILES:
        raise ValueError(f"one of {', '.join(PROFILES)}")
    return value


def yes_or_no(value: str) -> bool:
    if value.lower() in ("1", "yes", "true", "on"):
        return True
    if value.lower() in ("0", "no", "false", "off"):
        return False
    raise ValueError("yes or no")


@dataclass(frozen=True, kw_only=True)
class StackSettings(FromEnv):
    """`make run` and `python -m stack …`: what is started here, and on which ports."""

    label_studio_port: int = setting(
        "LABEL_STUDIO_PORT", port, "port of the Label Studio started here", default=8080
    )
    ml_backend_port: int = setting(
        "ML_BACKEND_PORT", port, "port of the ML backend started here", default=9090
    )
    sidecar_port: int = setting("SIDECAR_PORT", port, "port of the sidecar started here", default=9100)
    redis_port: int = setting("REDIS_PORT", port, "port of the Redis started here", default=6390)
    s3_port: int = setting(
        "S3_PORT",
        port,
        "port of the S3 endpoint (a stand-in for CORTX, in memory) started here",
        default=9532,
    )
    s3_profile: str = setting(
        "S3_PROFILE",
        profile,
        f"which CORTX that endpoint stands in for: {', '.join(PROFILES)}",
        default=STRICTEST,
    )
    listen_host: str = setting(
        "STACK_HOST",
        text,
        "address that ML backend and sidecar listen on; 0.0.0.0 for a Label Studio on another machine",
        default=LOOPBACK,
    )
    run_dir: str = setting(
        "RUN_DIR", text, "folder for Label Studio's data, Redis, spool, logs", default=".run"
    )
    label_studio_venv: str = setting(
        "LABEL_STUDIO_VENV", text, "virtual environment with Label Studio", default=".venv-label-studio"
    )
    demo_project: bool = setting(
        "DEMO_PROJECT",
        yes_or_no,
        "yes: the first run creates a demo project in the Label Studio started here",
        default=True,
    )
    label_studio_url: str | None = setting(
        "LABEL_STUDIO_URL", url, "a real Label Studio; none is started", default=None
    )
    label_studio_api_key: str | None = setting(
        "LABEL_STUDIO_API_KEY", text, "token for the real Label Studio", default=None, secret=True
    )
    redis_url: str | None = setting(
        "REDIS_URL",
        redis_url,
        "a real Redis; none is started",
        default=None,
        secret=True,  # it may hold a password
    )
    s3_url: str | None = setting(
        "AWS_ENDPOINT_URL_S3", url, "a real S3 endpoint; none is started", default=None
    )
    access_key_id: str | None = setting("AWS_ACCESS_KEY_ID", text, "its access key", default=None)
    secret_access_key: str | None = setting(
        "AWS_SECRET_ACCESS_KEY", text, "its secret key", default=None, secret=True
    )
    bucket: str = setting("BUCKET", bucket_name, "the bucket", default="labels")
    bucket_prefix: str = setting("BUCKET_PREFIX", prefix, "key prefix inside the bucket", default="")
    storage_prefix: str = setting(
        "STORAGE_PREFIX", prefix, "where the pictures to label lie", default="images"
    )
    sidecar_url: str | None = setting(
        "SIDECAR_URL", url, "the sidecar as Label Studio reaches it", default=None
    )
    ml_backend_url: str | None = setting(
        "ML_BACKEND_URL", url, "the ML backend as Label Studio reaches it", default=None
    )
    model: str = setting(
        "MODEL", text, "weights: a file, or s3://…/models/current.json", default="models/demo-shapes.pt"
    )
    model_root: str = setting("MODEL_ROOT", text, "folder of further weights", default="models")
    log_level: str = setting("LOG_LEVEL", log_level, "DEBUG, INFO, WARNING or ERROR", default="INFO")

    @classmethod
    def checked(cls, environ: Mapping[str, str]) -> StackSettings:
        """`from_env`, and what a real part needs beside its address. Raises SettingsError naming all that is wrong."""
        problems = [f"{name} is not set: {why}" for name, why in _missing_for_real_parts(environ)]
        try:
            settings = cls.from_env(environ)
        except SettingsError as error:
            raise SettingsError("\n  ".join([str(error), *problems])) from None
        if problems:
            raise SettingsError("wrong settings:\n  " + "\n  ".join(problems))
        return settings


def _missing_for_real_parts(environ: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    needed = {
        "LABEL_STUDIO_URL": ("LABEL_STUDIO_API_KEY",),
        "AWS_ENDPOINT_URL_S3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "BUCKET"),
    }
    for address, names in needed.items():
        if environ.get(address, "").strip():
            for name in names:
                if not environ.get(name, "").strip():
                    yield name, f"needed because {address} names a real one"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that decides what is started: `stack.parts.make_parts` turns it into processes.

    `root` is the repository, `folder` where all data and logs go, `cwd` the folder the programs run in (an `.env`
    there is read by them), `secrets` what stack/secrets.py made, `inherited` what every part gets of the operator's
    environment, `passed_on` the settings that only our own programs get.
    """

    settings: StackSettings
    root: Path
    folder: Path
    cwd: Path
    secrets: Mapping[str, str] = field(repr=False)
    inherited: Mapping[str, str]
    passed_on: Mapping[str, str] = field(default_factory=dict, repr=False)
    python: str = sys.executable

    @property
    def label_studio_url(self) -> str:
        return self.settings.label_studio_url or f"http://{LOOPBACK}:{self.settings.label_studio_port}"

    @property
    def sidecar_url(self) -> str:
        return self.settings.sidecar_url or f"http://{LOOPBACK}:{self.settings.sidecar_port}"

    @property
    def ml_backend_url(self) -> str:
        return self.settings.ml_backend_url or f"http://{LOOPBACK}:{self.settings.ml_backend_port}"

    @property
    def s3_url(self) -> str:
        return self.settings.s3_url or f"http://{LOOPBACK}:{self.settings.s3_port}"

    @property
    def redis_url(self) -> str:
        return self.settings.redis_url or f"redis://{LOOPBACK}:{self.settings.redis_port}/0"

    @property
    def label_studio_python(self) -> Path:
        return self.root / self.settings.label_studio_venv / "bin" / "python"

    def url(self, part: str) -> str:
        """The address of "label-studio", "sidecar", "ml_backend", "s3" or "redis"."""
        urls = {
            "label-studio": self.label_studio_url,
            "sidecar": self.sidecar_url,
            "ml_backend": self.ml_backend_url,
            "s3": self.s3_url,
            "redis": self.redis_url,
        }
        return urls[part]


def without_password(address: str) -> str:
    """For showing: `redis://:secret@host:6379/0` becomes `redis://host:6379/0`."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What every part gets of the operator's environment."""
    return {name: value for name, value in environ.items() if _INHERITED.fullmatch(name)}


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What our own programs get besides: every setting they know (MODEL_SCORE_THRESHOLD …), as it was given."""
    names = {row.env for row in all_settings()}
    return {name: value for name, value in environ.items() if name in names}


def program_environment(setup: Setup) -> dict[str, str]:
    """The whole environment of our programs. Keys of a part that we start are the generated ones, never the shell's."""
    settings, secrets = setup.settings, setup.secrets
    environment: dict[str, Any] = {
        **setup.inherited,
        **setup.passed_on,
        "PYTHONPATH": setup.root,
        "PYTHONUNBUFFERED": "1",
        "LABEL_STUDIO_URL": setup.label_studio_url,
        "LABEL_STUDIO_API_KEY": settings.label_studio_api_key
        if settings.label_studio_url
        else secrets["LABEL_STUDIO_API_KEY"],
        "REDIS_URL": setup.redis_url,
        "AWS_ENDPOINT_URL_S3": setup.s3_url,
        "AWS_ACCESS_KEY_ID": settings.access_key_id if settings.s3_url else secrets["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": settings.secret_access_key
        if settings.s3_url
        else secrets["AWS_SECRET_ACCESS_KEY"],
        "BUCKET": settings.bucket,
        "BUCKET_PREFIX": settings.bucket_prefix,
        "STORAGE_PREFIX": settings.storage_prefix,
        "SIDECAR_URL": setup.sidecar_url,
        "ML_BACKEND_URL": setup.ml_backend_url,
        "MODEL": settings.model if "://" in settings.model else setup.root / settings.model,
        "MODEL_ROOT": setup.root / settings.model_root,
        "SPOOL_DIR": setup.folder / "spool",
        "CACHE_DIR": setup.folder / "cache",
        "LOG_LEVEL": settings.log_level,
    }
    for name in ("WEBHOOK_SECRET", "API_TOKEN", "BASIC_AUTH_USER", "BASIC_AUTH_PASS"):
        environment[name] = setup.passed_on.get(name) or secrets[name]
    return {name: str(value) for name, value in environment.items()}
