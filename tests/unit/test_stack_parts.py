"""stack/parts.py: which processes, in which order, with what environment. And the ports they ask for."""

from __future__ import annotations

import socket

import pytest

from bridge import jobs
from bridge.errors import SettingsError
from stack.parts import WORKERS, Health, Part, make_parts
from stack.ports import conflicts, free_ports
from stack.secrets import make_secrets
from tests.unit.test_stack_settings import make_setup

REAL = {
    "REDIS_URL": "redis://redis:6379/0",
    "LABEL_STUDIO_URL": "https://labels.example.com",
    "LABEL_STUDIO_API_KEY": "token",
    "AWS_ENDPOINT_URL_S3": "https://cortx.example.com",
    "AWS_ACCESS_KEY_ID": "AK",
    "AWS_SECRET_ACCESS_KEY": "SK",
    "BUCKET": "wild",
}
PROGRAMS = {"ml_backend", "sidecar", "workers-live", "workers-baseline", "workers-other", "scheduler"}


def parts_by_name(environ: dict[str, str] | None = None) -> dict[str, Part]:
    return {part.name: part for part in make_parts(make_setup(environ), redis_server="/opt/redis-server")}


def test_all_parts_are_started_when_nothing_is_given() -> None:
    assert set(parts_by_name()) == PROGRAMS | {"redis", "s3", "label-studio"}


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["REDIS_URL"], "redis"),
        (["AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "BUCKET"], "s3"),
        (["LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"], "label-studio"),
    ],
)
def test_a_part_replaced_by_a_real_one_is_not_started(names: list[str], part: str) -> None:
    parts = parts_by_name({name: REAL[name] for name in names})
    assert part not in parts
    assert all(part not in (*other.after, *other.outlived_by) for other in parts.values())


def test_with_real_ones_only_our_programs_are_started() -> None:
    assert set(parts_by_name(REAL)) == PROGRAMS


def test_the_store_started_here_is_the_strictest_cortx_unless_another_is_chosen() -> None:
    for environ, profile in (({}, "s3server-doc"), ({"S3_PROFILE": "rgw-motr"}, "rgw-motr")):
        part = parts_by_name(environ)["s3"]
        assert part.argv[1:3] == ("-m", "cortx_emulation")
        assert part.argv[part.argv.index("--profile") + 1] == profile


def test_the_store_started_here_gets_its_keys_where_no_list_of_processes_shows_them() -> None:
    setup = make_setup({})
    part = next(part for part in make_parts(setup, redis_server=None) if part.name == "s3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert part.env[name] == setup.secrets[name]
        assert setup.secrets[name] not in part.argv


def test_an_unknown_cortx_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"S3_PROFILE.*s3server-doc"):
        make_setup({"S3_PROFILE": "minio"})


def test_every_queue_has_a_worker() -> None:
    assert sorted(name for queues in WORKERS.values() for name in queues) == sorted(jobs.QUEUES)


def test_live_events_never_wait_behind_a_baseline() -> None:
    assert WORKERS["workers-live"] == (jobs.LIVE,)


def test_redis_loses_nothing_it_has_said_yes_to() -> None:
    words = parts_by_name()["redis"].argv
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert words[0] == "/opt/redis-server"
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "always")
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--bind"] == "127.0.0.1"


def test_label_studio_is_stopped_before_those_that_hear_it() -> None:
    assert set(parts_by_name()["label-studio"].outlived_by) == {"sidecar", "ml_backend"}


def test_label_studio_talks_to_nobody_outside() -> None:
    env = parts_by_name()["label-studio"].env
    assert env["SENTRY_DSN"] == env["FRONTEND_SENTRY_DSN"] == ""
    assert env["COLLECT_ANALYTICS"] == env["LATEST_VERSION_CHECK"] == "false"


def test_label_studio_sees_none_of_our_settings() -> None:
    """LOG_LEVEL, HOST and PORT mean something to it too, and it has no use for the keys."""
    env = parts_by_name({"LOG_LEVEL": "DEBUG", "HOST": "elsewhere", "PORT": "1"})["label-studio"].env
    assert not {"LOG_LEVEL", "HOST", "PORT", "API_TOKEN", "WEBHOOK_SECRET"} & set(env)


def test_no_secret_is_on_a_command_line() -> None:
    secrets = make_secrets()
    words = [word for part in make_parts(make_setup({}, secrets), redis_server=None) for word in part.argv]
    hidden = [value for name, value in secrets.items() if not name.endswith(("USER", "USERNAME"))]
    assert not [word for word in words if any(value in word for value in hidden)]


def test_each_program_counts_its_metrics_in_a_folder_of_its_own() -> None:
    folders = [
        part.env["PROMETHEUS_MULTIPROC_DIR"] for name, part in parts_by_name().items() if name in PROGRAMS
    ]
    assert len(set(folders)) == len(PROGRAMS)
    assert all(str(part.emptied[0]) in folders for name, part in parts_by_name().items() if name in PROGRAMS)


def test_what_label_studio_needs_starts_beside_it_and_what_reads_from_it_after_it() -> None:
    parts = parts_by_name()
    for name in ("ml_backend", "sidecar", "workers-live"):
        assert parts[name].after == ("redis", "s3")
    for name in ("workers-baseline", "workers-other", "scheduler"):
        assert parts[name].after == ("redis", "s3", "label-studio")


def test_the_health_of_a_web_program_is_asked_on_loopback_whatever_it_listens_on() -> None:
    sidecar = parts_by_name({"STACK_HOST": "0.0.0.0", "SIDECAR_URL": "http://labels-host:9100"})["sidecar"]
    assert sidecar.env["HOST"] == "0.0.0.0"
    assert sidecar.env["SIDECAR_URL"] == "http://labels-host:9100"
    assert (sidecar.health, sidecar.health_url) == (Health.HTTP, "http://127.0.0.1:9100/health")


def test_a_port_in_use_is_named_with_the_setting_that_moves_it() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        others = dict(
            zip(
                ("ML_BACKEND_PORT", "SIDECAR_PORT", "REDIS_PORT", "S3_PORT"),
                map(str, free_ports(4)),
                strict=True,
            )
        )
        lines = conflicts(parts_by_name({"LABEL_STUDIO_PORT": str(port), **others}).values())
    assert lines == [
        f"port {port} (label-studio) is in use; stop what uses it or set LABEL_STUDIO_PORT to a free one"
    ]


def test_two_parts_on_one_port_are_noticed() -> None:
    port, *others = map(str, free_ports(4))
    environ = dict(zip(("LABEL_STUDIO_PORT", "REDIS_PORT", "S3_PORT"), others, strict=True))
    lines = conflicts(parts_by_name({**environ, "ML_BACKEND_PORT": port, "SIDECAR_PORT": port}).values())
    assert lines == [f"SIDECAR_PORT={port} is also the port of ml_backend; choose another"]


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20
