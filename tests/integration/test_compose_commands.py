"""docker-compose.yml in Compose's own eyes, and every command of ours in it, started with the environment it gives.

Without Docker nothing runs in a container here: a service's command is started on this machine, its addresses led to
the tests' own servers, and asked its own health check until that passes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import yaml

from bridge.edges.s3 import S3Store
from bridge.settings import S3Settings
from tests.compose import (
    EXAMPLE,
    FILE,
    ML_SERVER,
    ROOT,
    environment_of,
    ours,
    services,
)
from tests.integration.conftest import free_port, redis_server_binary, running

HEALTHY_WITHIN_S = 90.0


def compose() -> list[str]:
    """The command that runs Compose here. Where there is none the test is skipped, aloud; CI installs one and sets
    NEEDS_COMPOSE, so that there a missing one is a failure."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, check=False)
            if done.returncode == 0:
                return command
    message = "docker-compose is missing, so Compose itself has not read docker-compose.yml: apt install docker-compose"
    if os.environ.get("NEEDS_COMPOSE"):
        pytest.fail(message)
    pytest.skip(message)


def config(folder: Path, given: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """`docker-compose config` with `given` as its `.env`, whatever the repository's own says."""
    env_file = folder / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    return subprocess.run(
        [*compose(), "--env-file", str(env_file), "--project-directory", str(ROOT), *words, "config"],
        env=inherited(),
        capture_output=True,
        text=True,
        check=False,
    )


def inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ}


def test_compose_accepts_the_file_and_names_nothing_to_mend(tmp_path: Path) -> None:
    done = config(tmp_path, EXAMPLE, "-f", str(FILE))
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower(), done.stderr
    found = set(yaml.safe_load(done.stdout)["services"])
    # docker-compose 1.29 shows the services of profiles that are off as well.
    assert found in (set(services()), {name for name, one in services().items() if "profiles" not in one})


def test_compose_reads_the_file_as_the_other_tests_do(tmp_path: Path) -> None:
    given = EXAMPLE | {"LOG_LEVEL": "DEBUG", "REDIS_HOST": "10.0.0.1", "ML_BACKEND_REPLICAS": "0"}
    done = config(tmp_path, given, "-f", str(FILE), "--profile", "dev", "--profile", "gpu")
    assert done.returncode == 0, done.stderr
    theirs, mine = yaml.safe_load(done.stdout)["services"], services(given)
    assert set(theirs) == set(mine)
    for name, service in mine.items():
        found = {key: value for key, value in theirs[name]["environment"].items() if value is not None}
        shown = {key: str(value).replace("$$", "$") for key, value in found.items()}
        assert shown == environment_of(service, given)
        assert theirs[name].get("command") == service.get("command")


def test_compose_publishes_the_backend_of_a_server_of_its_own(tmp_path: Path) -> None:
    files = ["-f", str(FILE), "-f", str(ML_SERVER)]
    done = config(tmp_path, EXAMPLE | {"PRIVATE_LISTEN": "10.0.0.2"}, *files)
    assert done.returncode == 0, done.stderr
    assert "10.0.0.2" in str(yaml.safe_load(done.stdout)["services"]["ml_backend"]["ports"])


def test_compose_names_a_value_that_is_missing(tmp_path: Path) -> None:
    given = {name: value for name, value in EXAMPLE.items() if name != "WEBHOOK_SECRET"}
    done = config(tmp_path, given, "-f", str(FILE))
    assert done.returncode != 0
    assert "WEBHOOK_SECRET" in done.stderr
    assert "secret of the webhooks" in done.stderr


def on_this_machine(
    service: dict[str, Any], folder: Path, *, redis_url: str, store: S3Settings | None
) -> dict[str, str]:
    """What the container gets, its addresses, folders and port led to this machine's."""
    environment = environment_of(service) | inherited()
    changes = {
        "REDIS_URL": redis_url,
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",  # not there: nothing waits for it
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "SPOOL_DIR": str(folder / "spool"),
        "CACHE_DIR": str(folder / "cache"),
        "MODEL": str(ROOT / environment.get("MODEL", "")),
    }
    if store is not None:
        changes |= {
            "AWS_ENDPOINT_URL_S3": store.endpoint_url,
            "AWS_ACCESS_KEY_ID": store.access_key_id,
            "AWS_SECRET_ACCESS_KEY": store.secret_access_key,
            "BUCKET": store.bucket,
        }
    return environment | {name: value for name, value in changes.items() if name in environment}


def here(words: list[str], environment: Mapping[str, str]) -> list[str]:
    """A command of a container as one of this machine: `python` is ours, and files lie in the repository."""
    program, *rest = [str(ROOT / word) if word.startswith("docker/") else word for word in words]
    assert program == "python"
    variables = [f"{name}={value}" for name, value in environment.items()]
    return ["env", "-i", f"PYTHONPATH={ROOT}", *variables, sys.executable, *rest]


def health_of(service: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    how, *words = service["healthcheck"]["test"]
    assert how == "CMD"
    return here(words, environment)


def is_healthy(check: list[str]) -> bool:
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", sorted(set(ours()) - {"ml_backend-gpu"}))  # the same command as ml_backend
def test_the_command_starts_and_its_health_check_passes_only_then(
    name: str,
    tmp_path: Path,
    redis_url: str,
    redis_client: redis.Redis,
    store: S3Store,
    s3_settings: S3Settings,
) -> None:
    service = ours()[name]
    environment = on_this_machine(
        service, tmp_path, redis_url=redis_url, store=None if name == "moto" else s3_settings
    )
    check = health_of(service, environment)
    if name in ("sidecar", "workers-live", "moto"):  # one of each kind of check that asks the program itself
        assert not is_healthy(check)
    last = [0.0]

    def well() -> bool:
        """The check, at most twice a second: each is a Python of its own."""
        if time.monotonic() - last[0] < 0.5:
            return False
        last[0] = time.monotonic()
        return is_healthy(check)

    command = here(service["command"], environment)
    with running(command, tmp_path / "log", is_up=well) as process:
        assert process.poll() is None
        if name == "moto":
            settings = S3Settings.from_env(
                environment | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{environment['PORT']}"}
            )
            S3Store(settings).check()
    assert process.returncode in (0, -15), (tmp_path / "log").read_text()[-2000:]
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_redis_takes_the_options_and_asks_for_the_password(tmp_path: Path) -> None:
    program, *options = services()["redis"]["command"]
    assert program == "redis-server"
    password, port = EXAMPLE["REDIS_PASSWORD"], free_port()
    command = [
        redis_server_binary(),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(tmp_path),
        *options,
    ]
    with redis.Redis(port=port, password=password) as known, redis.Redis(port=port) as stranger:

        def answers() -> bool:
            try:
                return bool(known.ping())
            except redis.ConnectionError:
                return False

        with running(command, tmp_path / "log", is_up=answers):
            with pytest.raises(redis.AuthenticationError):
                stranger.ping()
            wanted = {
                "appendonly": "yes",
                "appendfsync": "always",
                "maxmemory-policy": "noeviction",
                "save": "",
            }
            assert {name: known.config_get(name)[name] for name in wanted} == wanted
            assert int(known.config_get("maxmemory")["maxmemory"]) == 1024**3


def test_a_health_check_says_why_it_fails(tmp_path: Path) -> None:
    service = ours()["workers-live"]
    environment = on_this_machine(
        service, tmp_path, redis_url=f"redis://127.0.0.1:{free_port()}/0", store=None
    )
    done = subprocess.run(health_of(service, environment), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ConnectionError" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_addresses_that_were_replaced_are_those_of_the_file() -> None:
    """Were a service renamed, the tests above would not notice: the names of the addresses are the services'."""
    names = set(services())
    for service in ours().values():
        for setting in ("REDIS_URL", "LABEL_STUDIO_URL"):
            if setting in service["environment"]:
                assert urlsplit(environment_of(service)[setting]).hostname in names
