"""docker-compose.yml and the images: what they promise, and that the programs find what they need in them."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bridge import jobs
from bridge.settings import PROGRAMS, _leaves, all_settings
from tests.compose import (
    EXAMPLE,
    FILE,
    ROOT,
    NotSet,
    environment_of,
    ours,
    program_of,
    read,
    services,
    uses,
    variables,
)

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
HEAVY = ("torch", "torchvision", "ultralytics")
MODULES = ("sidecar", "workers", "ml_backend")

LABEL_STUDIO_VARIABLES = {
    "LABEL_STUDIO_USERNAME": "the first start creates this user",
    "LABEL_STUDIO_PASSWORD": "its password",
    "LABEL_STUDIO_USER_TOKEN": "its legacy token",
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "without it a token cannot be given beforehand",
    "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "or anybody could make an account",
    "LABEL_STUDIO_HOST": "the address in people's browsers",
    "CSRF_TRUSTED_ORIGINS": "the same, behind a proxy that ends TLS",
    "SESSION_COOKIE_SECURE": "1 behind a proxy that ends TLS",
    "USE_DEFAULT_BANNED_SUBNETS": "the sidecar, the backend and the store are on private addresses",
    "USER_ADDITIONAL_BANNED_SUBNETS": "what stays refused",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "boto3 inside Label Studio, for CORTX",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "boto3 inside Label Studio, for CORTX",
    "AWS_CA_BUNDLE": "boto3 inside Label Studio, for a store with its own authority",
    "COLLECT_ANALYTICS": "nothing is sent to anybody",
    "SENTRY_DSN": "nothing is sent to anybody",
    "FRONTEND_SENTRY_DSN": "nothing is sent to anybody",
    "LATEST_VERSION_CHECK": "nothing is sent to anybody",
    "DJANGO_DB": "SQLite or PostgreSQL",
    "POSTGRE_HOST": "PostgreSQL",
    "POSTGRE_PORT": "PostgreSQL",
    "POSTGRE_NAME": "PostgreSQL",
    "POSTGRE_USER": "PostgreSQL",
    "POSTGRE_PASSWORD": "PostgreSQL",
}
REDIS_VARIABLES = {"REDISCLI_AUTH": "the health check's redis-cli reads the password here"}
DEV_STORE_VARIABLES = dict.fromkeys(("HOST", "PORT", "S3_PROFILE"), "docker/moto_store.py")


def settings_of(program: str) -> set[str]:
    return {field.metadata["env"] for field in _leaves(PROGRAMS[program])}


def requirements_of(dockerfile: Path) -> set[str]:
    """The packages that an image installs by name; the constraints name only versions."""
    files = set(re.findall(r"-r (requirements/[\w.-]+\.txt)", dockerfile.read_text()))
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    return {re.split(r"[\[=]", line)[0] for line in lines if re.match(r"\w", line)}


@pytest.mark.parametrize("name", [name for name, one in ours().items() if program_of(one) in MODULES])
def test_a_program_gets_every_setting_it_has_and_no_other(name: str) -> None:
    service = ours()[name]
    given, known = set(service["environment"]), settings_of(program_of(service))
    assert given - known == set(), "no such setting in bridge/settings.py"
    assert known - given == set(), "set in .env, it would be ignored: name it in docker-compose.yml"


@pytest.mark.parametrize("name", [name for name, one in ours().items() if program_of(one) in MODULES])
def test_a_program_starts_from_the_required_variables_alone(name: str) -> None:
    service = ours()[name]
    PROGRAMS[program_of(service)].from_env(environment_of(service))


def test_what_other_programs_are_given_is_known() -> None:
    found = services()
    assert set(found["label-studio"]["environment"]) == set(LABEL_STUDIO_VARIABLES)
    assert set(found["redis"]["environment"]) == set(REDIS_VARIABLES)
    bucket = {"AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}
    bucket |= {"AWS_CA_BUNDLE", "S3_PROXY_URL", "BUCKET", "BUCKET_PREFIX"}
    assert set(found["moto"]["environment"]) == bucket | set(DEV_STORE_VARIABLES)


def test_every_queue_has_one_service() -> None:
    workers = {name: one for name, one in ours().items() if program_of(one) == "workers"}
    assert set(workers) == {f"workers-{queue}" for queue in jobs.QUEUES} | {"scheduler"}
    for queue in jobs.QUEUES:
        service = workers[f"workers-{queue}"]
        assert service["command"] == ["python", "-m", "workers", queue]
        assert service["healthcheck"]["test"][-2:] == ["worker", queue]
    assert workers["scheduler"]["command"] == ["python", "-m", "workers", "scheduler"]


def test_workers_and_backend_can_be_scaled() -> None:
    for name, service in ours().items():
        if name.startswith(("workers-", "ml_backend", "scheduler")):
            assert "ports" not in service, "two containers cannot have one port"
            assert "container_name" not in service


@pytest.mark.parametrize("name", sorted(EXAMPLE))
def test_a_missing_value_is_named_with_what_it_is(name: str) -> None:
    with pytest.raises(NotSet, match=f"{name}: .{{10,}}"):
        services({key: value for key, value in EXAMPLE.items() if key != name})


def test_no_secret_has_a_default() -> None:
    secret = {row.env for row in all_settings() if row.secret}
    for name, how, _ in uses():
        if name in secret or re.search(r"PASS|SECRET|TOKEN|KEY", name):
            assert how == ":?", name
    text = FILE.read_text()
    for name in (
        "LABEL_STUDIO_PASSWORD",
        "REDIS_URL",
        "WEBHOOK_SECRET",
        "API_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
    ):
        assert re.search(rf"^ +{name}: .*\$\{{\w+:\?", text, re.MULTILINE), name


def test_a_redis_password_is_asked_for_where_it_is_needed() -> None:
    found = services()
    command = found["redis"]["command"]
    assert command[command.index("--requirepass") + 1] == EXAMPLE["REDIS_PASSWORD"]
    assert found["redis"]["environment"]["REDISCLI_AUTH"] == EXAMPLE["REDIS_PASSWORD"]
    for service in ours().values():
        if program_of(service) in MODULES:
            assert (
                environment_of(service)["REDIS_URL"] == f"redis://:{EXAMPLE['REDIS_PASSWORD']}@redis:6379/0"
            )


def test_redis_keeps_what_it_is_given() -> None:
    command = services()["redis"]["command"]
    for option, value in (
        ("--appendonly", "yes"),
        ("--appendfsync", "always"),
        ("--maxmemory-policy", "noeviction"),
    ):
        assert command[command.index(option) + 1] == value
    assert "redis-data:/data" in services()["redis"]["volumes"]


def test_every_service_is_looked_after() -> None:
    for name, service in services().items():
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert service["logging"]["options"]["max-size"], name


def test_what_must_outlive_a_container_is_on_a_named_volume() -> None:
    found, named = services(), set(read()["volumes"])
    mounted = {
        name: dict(reversed(one.split(":")[:2]) for one in service.get("volumes", []))
        for name, service in found.items()
    }
    kept = {
        "label-studio": "/label-studio/data",
        "redis": "/data",
        "sidecar": "/spool",
        "ml_backend": "/cache",
    }
    for name, folder in kept.items():
        assert mounted[name][folder] in named
    assert environment_of(found["sidecar"])["SPOOL_DIR"] in mounted["sidecar"]
    assert environment_of(found["ml_backend"])["CACHE_DIR"] in mounted["ml_backend"]
    assert named == {mounted[name][folder] for name, folder in kept.items()}


def test_the_door_is_open_before_anybody_annotates_and_does_not_wait_for_redis() -> None:
    found = services()
    assert found["label-studio"]["depends_on"] == {"sidecar": {"condition": "service_healthy"}}
    assert found["sidecar"]["depends_on"] == {"redis": {"condition": "service_started"}}
    for name in ("workers-live", "scheduler"):
        assert found[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}


@pytest.mark.parametrize(("setting", "name"), [("SIDECAR_URL", "sidecar"), ("ML_BACKEND_URL", "ml_backend")])
def test_label_studio_accepts_the_addresses_of_its_webhooks(setting: str, name: str) -> None:
    """Django's URLValidator (Label Studio 1.23.2, webhooks/models.py) answers "Enter a valid URL." to a name without a
    dot, and to one with an underscore."""
    found = services()
    address = urlsplit(environment_of(found["sidecar"])[setting])
    assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", address.hostname or "")
    for service in (name, f"{name}-gpu"):
        if service in found:
            assert address.hostname in found[service]["networks"]["default"]["aliases"]
            assert str(address.port) == environment_of(found[service])["PORT"]


def test_label_studio_may_reach_private_addresses_but_no_metadata_service() -> None:
    environment = services()["label-studio"]["environment"]
    assert environment["USE_DEFAULT_BANNED_SUBNETS"] == "false"
    banned = [ipaddress.ip_network(one) for one in environment["USER_ADDITIONAL_BANNED_SUBNETS"].split(",")]

    def refused(address: str) -> bool:
        return any(ipaddress.ip_address(address) in network for network in banned)

    assert not any(map(refused, ("10.1.2.3", "172.18.0.4", "192.168.1.5", "fd00::5", "100.64.1.1")))
    assert all(
        map(refused, ("169.254.169.254", "127.0.0.1", "0.0.0.0", "::1", "fe80::1", "::ffff:169.254.169.254"))
    )


def test_label_studio_is_the_version_everything_was_tried_with() -> None:
    wanted = re.search(
        r"^label-studio==(.+)$", (ROOT / "requirements" / "label-studio.txt").read_text(), re.MULTILINE
    )
    assert wanted is not None
    assert services()["label-studio"]["image"] == f"heartexlabs/label-studio:{wanted[1]}"


def test_profiles_add_only_what_they_say() -> None:
    found = services()
    assert {name: one["profiles"] for name, one in found.items() if "profiles" in one} == {
        "ml_backend-gpu": ["gpu"],
        "moto": ["dev"],
    }
    cpu, gpu = found["ml_backend"], found["ml_backend-gpu"]
    assert "deploy" not in cpu
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert {key: value for key, value in gpu.items() if key not in ("profiles", "deploy")} == {
        key: value for key, value in cpu.items() if key != "scale"
    }


def test_ports_are_open_to_this_machine_alone_unless_somebody_says_otherwise() -> None:
    for service in services().values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_small_and_runs_as_nobody_special(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "FROM python:3.11-slim"
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["bridge"]
    assert not any(line.startswith(("COPY", "RUN")) for line in lines[lines.index("USER bridge") :])
    assert not re.search(r"^(ADD|ARG)|COPY \. |PASSWORD|SECRET|TOKEN", path.read_text(), re.MULTILINE)
    assert "PIP_NO_CACHE_DIR=1" in path.read_text()


def test_only_the_ml_image_installs_torch() -> None:
    for path in DOCKERFILES:
        heavy = requirements_of(path) & set(HEAVY)
        assert heavy == (set(HEAVY) if path.name == "ml_backend.Dockerfile" else set()), path.name


def test_every_image_has_a_dockerfile_with_its_program_and_its_health_check() -> None:
    used = set()
    for name, service in ours().items():
        path = ROOT / service["build"]["dockerfile"]
        used.add(path)
        copied = re.findall(r"^COPY (.+) \S+$", path.read_text(), re.MULTILINE)
        sources = {source for line in copied for source in line.split()}
        assert all((ROOT / source).exists() for source in sources), sources
        assert program_of(service) in sources, name
        assert service["healthcheck"]["test"][2] in sources, name
    assert used == set(DOCKERFILES)


def test_the_build_sends_what_images_copy_and_nothing_else() -> None:
    first, *rest = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    let_through = {line.removeprefix("!") for line in rest if line.startswith("!")}
    assert first == "*"
    copied = {
        source
        for path in DOCKERFILES
        for line in re.findall(r"^COPY (.+) \S+$", path.read_text(), re.MULTILINE)
        for source in line.split()
    }
    covered = {source if source in let_through else source.split("/")[0] for source in copied}
    assert covered == let_through


def test_every_variable_of_compose_is_in_the_example() -> None:
    shown = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert variables() - shown == set()


def test_the_deployment_page_names_only_what_there_is() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    code = "".join(
        path.read_text()
        for folder in ("sidecar", "ml_backend", "workers")
        for path in (ROOT / folder).rglob("*.py")
    )
    for name in set(re.findall(r"`((?:bridge|ml_backend)_[a-z_]+)(?:\{[^}]*\})?`", page)):
        own = name.removesuffix("_total")
        assert f'"{own}"' in code or f'"{own.removeprefix("bridge_")}"' in code, name
    assert set(re.findall(r"workers-[a-z]+", page)) <= set(services())
    assert set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9])", page)) <= {
        *variables(),
        *(row.env for row in all_settings()),
        "COMPOSE_PROFILES",  # Compose's own
    }
    assert {f"`{volume}`" for volume in read()["volumes"]} <= set(re.findall(r"`[a-z-]+`", page))


def test_the_secrets_that_the_page_has_made_are_those_without_a_default() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    made = set(re.findall(r"[A-Z][A-Z0-9_]+", page.partition("umask 077")[2].partition("3. **Build")[0]))
    assert set(EXAMPLE) <= made
