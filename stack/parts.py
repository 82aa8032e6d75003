"""The parts of the stack as data: what to start, with what, after what, and how to see that it is well.

Pure: a setup goes in, a tuple of parts comes out. stack/supervisor.py carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bridge import jobs
from stack.settings import LOOPBACK, Setup, program_environment


class Health(Enum):
    """How to see that a part is up."""

    HTTP = "an HTTP answer below 400 at `health_url`"
    REDIS = "PONG at `health_url`"
    WORKER = "an RQ worker with the part's process id is registered in the Redis at `health_url`"
    ALIVE = "still running a second after its start"


class Show(Enum):
    """Which lines of a part the terminal shows; its log file gets all of them."""

    ALL = "all"
    LABEL_STUDIO = "warnings and errors in Label Studio's format, without tracebacks"
    SERVER_ERRORS = "HTTP answers of 500 and above, tracebacks"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process to start. `env` is its whole environment; `folders` are made, `emptied` are made and emptied, first.

    It starts when all of `after` are well, and is stopped before them and before all in `outlived_by`.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    health: Health = Health.ALIVE
    health_url: str = ""
    timeout_s: float = 60.0
    port: int | None = None
    port_setting: str = ""
    after: tuple[str, ...] = ()
    outlived_by: tuple[str, ...] = ()
    restart: bool = False
    show: Show = Show.ALL
    folders: tuple[Path, ...] = ()
    emptied: tuple[Path, ...] = ()
    stop_grace_s: float = 10.0


WORKERS: Mapping[str, tuple[str, ...]] = {
    "workers-live": (jobs.LIVE,),
    "workers-baseline": (jobs.BASELINE, jobs.RESTORE),
    "workers-other": tuple(
        name for name in jobs.QUEUES if name not in (jobs.LIVE, jobs.BASELINE, jobs.RESTORE)
    ),
}
"""A process for each group of queues: a long baseline must not delay live events."""


def make_parts(setup: Setup, *, redis_server: str | None) -> tuple[Part, ...]:
    """Every part to start, in the order they are listed to people. `redis_server` is the path of the server's binary."""
    parts: list[Part] = []
    if setup.settings.redis_url is None:
        parts.append(_redis(setup, redis_server or "redis-server"))
    if setup.settings.s3_url is None:
        parts.append(_s3(setup))
    if setup.settings.label_studio_url is None:
        parts.append(_label_studio(setup))
    started = [part.name for part in parts]
    stores = tuple(name for name in started if name != "label-studio")
    parts.append(_program(setup, "ml_backend", ("ml_backend",), stores, port=setup.settings.ml_backend_port))
    parts.append(_program(setup, "sidecar", ("sidecar", "serve"), stores, port=setup.settings.sidecar_port))
    # What reads from Label Studio waits for it, or it would begin with a page of errors about work left over.
    for name, queues in WORKERS.items():
        parts.append(
            _program(setup, name, ("workers", *queues), stores if queues == (jobs.LIVE,) else tuple(started))
        )
    parts.append(_program(setup, "scheduler", ("workers", "scheduler"), tuple(started)))
    return tuple(parts)


def _redis(setup: Setup, server: str) -> Part:
    data = setup.folder / "redis"
    options = {
        "--bind": LOOPBACK,
        "--port": str(setup.settings.redis_port),
        "--dir": str(data),
        # What Redis has said yes to must be on disk: the record's events wait here for the bucket.
        "--appendonly": "yes",
        "--appendfsync": "always",
        "--maxmemory-policy": "noeviction",
        "--save": "",
        "--daemonize": "no",
    }
    return Part(
        name="redis",
        argv=(server, *(word for pair in options.items() for word in pair)),
        env=setup.inherited,
        cwd=setup.cwd,
        health=Health.REDIS,
        health_url=setup.redis_url,
        port=setup.settings.redis_port,
        port_setting="REDIS_PORT",
        show=Show.NONE,
        folders=(data,),
    )


def _s3(setup: Setup) -> Part:
    options = {
        "--host": LOOPBACK,
        "--port": str(setup.settings.s3_port),
        "--profile": setup.settings.s3_profile,
    }
    keys = {name: setup.secrets[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    return Part(
        name="s3",
        argv=(
            setup.python,
            *("-m", "cortx_emulation"),
            *(word for pair in options.items() for word in pair),
        ),
        env={**setup.inherited, **keys, "PYTHONPATH": str(setup.root), "PYTHONUNBUFFERED": "1"},
        cwd=setup.cwd,
        health=Health.HTTP,
        health_url=f"{setup.s3_url}/_emulation/health",
        port=setup.settings.s3_port,
        port_setting="S3_PORT",
        show=Show.SERVER_ERRORS,
        stop_grace_s=3,
    )


def _label_studio(setup: Setup) -> Part:
    data = setup.folder / "label-studio"
    env = {
        **setup.inherited,
        "PYTHONUNBUFFERED": "1",
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_HOST": setup.label_studio_url,
        "LABEL_STUDIO_USERNAME": setup.secrets["LABEL_STUDIO_USERNAME"],
        "LABEL_STUDIO_PASSWORD": setup.secrets["LABEL_STUDIO_PASSWORD"],
        "LABEL_STUDIO_USER_TOKEN": setup.secrets["LABEL_STUDIO_API_KEY"],
        # Acts only when the first start creates the organisation (label_studio/server.py, _create_user).
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        # Sidecar, ML backend and S3 are on this machine: Label Studio refuses loopback addresses unless told so.
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "ML_BLOCK_LOCAL_IP": "false",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        # Nothing is sent to anybody: no analytics, no crash reports, no look for newer versions.
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "LATEST_VERSION_CHECK": "false",
        # boto3's default checksum trailers are refused by CORTX.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    return Part(
        name="label-studio",
        argv=(
            str(setup.label_studio_python),
            *("-m", "label_studio.server", "start", "--no-browser"),
            *("--internal-host", LOOPBACK, "--port", str(setup.settings.label_studio_port)),
        ),
        env=env,
        cwd=data,
        health=Health.HTTP,
        health_url=f"{setup.label_studio_url}/health",
        timeout_s=300,
        port=setup.settings.label_studio_port,
        port_setting="LABEL_STUDIO_PORT",
        # It starts beside the others, for it takes longest; but what annotators do until its end must still be heard.
        outlived_by=("sidecar", "ml_backend"),
        show=Show.LABEL_STUDIO,
        folders=(data,),
        stop_grace_s=5,
    )


def _program(
    setup: Setup, name: str, command: tuple[str, ...], after: tuple[str, ...], *, port: int | None = None
) -> Part:
    metrics = setup.folder / "metrics" / name
    env = {**program_environment(setup), "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    if port is not None:
        env |= {"HOST": setup.settings.listen_host, "PORT": str(port)}
    health, health_url = Health.ALIVE, ""
    if port is not None:
        health, health_url = Health.HTTP, f"http://{LOOPBACK}:{port}/health"
    elif name in WORKERS:
        health, health_url = Health.WORKER, setup.redis_url
    return Part(
        name=name,
        argv=(setup.python, "-m", *command),
        env=env,
        cwd=setup.cwd,
        health=health,
        health_url=health_url,
        timeout_s=180,
        port=port,
        port_setting=f"{name.upper()}_PORT" if port is not None else "",
        after=after,
        restart=port is None,  # a job that takes its worker down must not take everything else down
        folders=(setup.folder / "spool", setup.folder / "cache"),
        emptied=(metrics,),
    )
