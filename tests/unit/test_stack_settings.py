"""stack/settings.py: what is started here, what is replaced, what our programs are handed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import SettingsError
from bridge.settings import MlBackendSettings, SidecarSettings, WorkersSettings
from stack.secrets import make_secrets
from stack.settings import (
    Setup,
    StackSettings,
    inherited,
    passed_on,
    program_environment,
    without_password,
    yes_or_no,
)

ROOT = Path("/srv/ours")


def make_setup(environ: dict[str, str] | None = None, secrets: dict[str, str] | None = None) -> Setup:
    environ = environ or {}
    return Setup(
        settings=StackSettings.checked(environ),
        root=ROOT,
        folder=ROOT / ".run",
        cwd=ROOT,
        secrets=secrets or make_secrets(),
        inherited=inherited(environ),
        passed_on=passed_on(environ),
        python="/srv/ours/.venv/bin/python",
    )


def test_without_any_setting_everything_is_on_this_machine() -> None:
    setup = make_setup()
    addresses = [setup.url(part) for part in ("label-studio", "sidecar", "ml_backend", "s3", "redis")]
    assert addresses == [
        "http://127.0.0.1:8080",
        "http://127.0.0.1:9100",
        "http://127.0.0.1:9090",
        "http://127.0.0.1:9532",
        "redis://127.0.0.1:6390/0",
    ]


def test_what_the_programs_are_handed_is_enough_for_each_of_them() -> None:
    environment = program_environment(make_setup())
    for settings in (SidecarSettings, WorkersSettings, MlBackendSettings):
        settings.from_env(environment)


def test_a_port_moves_the_address_that_the_programs_are_told() -> None:
    environment = program_environment(make_setup({"LABEL_STUDIO_PORT": "8085", "REDIS_PORT": "7000"}))
    assert environment["LABEL_STUDIO_URL"] == "http://127.0.0.1:8085"
    assert environment["REDIS_URL"] == "redis://127.0.0.1:7000/0"


def test_weights_are_found_from_any_folder() -> None:
    assert program_environment(make_setup())["MODEL"] == "/srv/ours/models/demo-shapes.pt"
    assert program_environment(make_setup({"MODEL": "/data/mine.pt"}))["MODEL"] == "/data/mine.pt"
    assert program_environment(make_setup({"MODEL": "s3://labels/m.pt"}))["MODEL"] == "s3://labels/m.pt"


def test_a_real_part_needs_its_own_keys() -> None:
    with pytest.raises(SettingsError) as caught:
        StackSettings.checked(
            {"LABEL_STUDIO_URL": "https://labels.example.com", "AWS_ENDPOINT_URL_S3": "http://s3:80"}
        )
    for name in ("LABEL_STUDIO_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "BUCKET"):
        assert f"{name} is not set: needed because" in str(caught.value)


def test_wrong_values_and_missing_keys_are_told_together() -> None:
    with pytest.raises(SettingsError) as caught:
        StackSettings.checked({"REDIS_PORT": "many", "LABEL_STUDIO_URL": "https://labels.example.com"})
    assert "REDIS_PORT: 'many' is not allowed" in str(caught.value)
    assert "LABEL_STUDIO_API_KEY is not set" in str(caught.value)


def test_a_part_started_here_gets_the_generated_keys_and_not_the_shells() -> None:
    """Somebody's keys of a real store must not end up in the Label Studio database of a trial."""
    secrets = make_secrets()
    shell = {
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SECRET_ACCESS_KEY": "real",
        "LABEL_STUDIO_API_KEY": "real-token",
    }
    environment = program_environment(make_setup(shell, secrets))
    for name in shell:
        assert environment[name] == secrets[name]


def test_a_real_part_gets_the_keys_that_were_given() -> None:
    environment = program_environment(
        make_setup(
            {
                "AWS_ENDPOINT_URL_S3": "https://cortx.example.com",
                "AWS_ACCESS_KEY_ID": "AK",
                "AWS_SECRET_ACCESS_KEY": "SK",
                "BUCKET": "wild",
            }
        )
    )
    assert environment["AWS_ENDPOINT_URL_S3"] == "https://cortx.example.com"
    assert (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]) == ("AK", "SK")
    assert environment["BUCKET"] == "wild"


def test_a_given_webhook_secret_wins_over_the_generated_one() -> None:
    assert (
        program_environment(make_setup({"WEBHOOK_SECRET": "given-secret"}))["WEBHOOK_SECRET"]
        == "given-secret"
    )


def test_our_programs_get_every_setting_of_theirs_and_nothing_else_of_the_shell() -> None:
    shell = {
        "MODEL_SCORE_THRESHOLD": "0.3",
        "DEBUG": "1",
        "AWS_PROFILE": "work",
        "HTTP_PROXY": "http://proxy:1",
    }
    environment = program_environment(make_setup({**shell, "PATH": "/usr/bin", "LC_ALL": "C.UTF-8"}))
    assert environment["MODEL_SCORE_THRESHOLD"] == "0.3"
    assert environment["PATH"] == "/usr/bin"
    assert environment["LC_ALL"] == "C.UTF-8"
    assert not {"DEBUG", "AWS_PROFILE", "HTTP_PROXY"} & set(environment)


def test_no_secret_shows_when_the_setup_is_printed() -> None:
    secrets = make_secrets()
    shown = repr(make_setup({"WEBHOOK_SECRET": "given-secret"}, secrets))
    assert "given-secret" not in shown
    assert not any(
        secrets[name] in shown for name in secrets if name.endswith(("SECRET", "KEY", "TOKEN", "PASSWORD"))
    )


@pytest.mark.parametrize(("given", "meant"), [("yes", True), ("1", True), ("No", False), ("off", False)])
def test_yes_or_no(given: str, meant: bool) -> None:
    assert yes_or_no(given) is meant


def test_neither_yes_nor_no_is_refused() -> None:
    with pytest.raises(SettingsError, match="DEMO_PROJECT: 'perhaps' is not allowed; allowed: yes or no"):
        StackSettings.checked({"DEMO_PROJECT": "perhaps"})


def test_an_address_is_shown_without_its_password() -> None:
    assert without_password("redis://:secret@redis:6379/0") == "redis://redis:6379/0"
    assert without_password("redis://127.0.0.1:6390/0") == "redis://127.0.0.1:6390/0"
