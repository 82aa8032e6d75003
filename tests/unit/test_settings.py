"""Settings: every wrong value is named at once, secrets are never shown, defaults hold."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bridge.errors import SettingsError
from bridge.settings import (
    PROGRAMS,
    LabelStudioSettings,
    MlBackendSettings,
    S3Settings,
    SidecarSettings,
    WorkersSettings,
    all_settings,
    proxy_url,
)

S3 = {
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "hush-hush",
    "BUCKET": "labels",
}
LABEL_STUDIO = {"LABEL_STUDIO_URL": "http://127.0.0.1:8080/", "LABEL_STUDIO_API_KEY": "0" * 40}
WORKERS = S3 | LABEL_STUDIO | {"REDIS_URL": "redis://127.0.0.1:6379/0"}
SIDECAR = WORKERS | {"WEBHOOK_SECRET": "a-webhook-secret", "API_TOKEN": "an-api-token"}
ML_BACKEND = S3 | {"LABEL_STUDIO_URL": "http://127.0.0.1:8080", "MODEL": "models/demo.pt"}


@pytest.mark.parametrize(
    ("cls", "environ"),
    [(SidecarSettings, SIDECAR), (WorkersSettings, WORKERS), (MlBackendSettings, ML_BACKEND)],
)
def test_each_program_starts_with_what_has_no_default(cls: Any, environ: dict[str, str]) -> None:
    settings = cls.from_env(environ)
    assert settings.log_level == "INFO"
    needed = {doc.env for doc in all_settings() if doc.default is None}
    for name in set(environ) & needed:
        with pytest.raises(SettingsError, match=f"{name} is not set"):
            cls.from_env({key: value for key, value in environ.items() if key != name})


def test_an_address_loses_its_last_slash() -> None:
    assert LabelStudioSettings.from_env(LABEL_STUDIO).url == "http://127.0.0.1:8080"


def test_an_empty_value_is_an_absent_one() -> None:
    assert WorkersSettings.from_env(WORKERS | {"LOG_LEVEL": "", "BUCKET_PREFIX": "  "}).s3.bucket_prefix == ""


def test_every_wrong_value_is_reported_at_once() -> None:
    wrong = SIDECAR | {
        "LABEL_STUDIO_URL": "127.0.0.1:8080",
        "REDIS_URL": "http://127.0.0.1",
        "BUCKET": "Labels",
        "PORT": "seventy",
        "WEB_WORKERS": "0",
        "LOG_LEVEL": "loud",
        "BUCKET_PREFIX": "/team-a",
    }
    del wrong["API_TOKEN"]
    with pytest.raises(SettingsError) as caught:
        SidecarSettings.from_env(wrong)
    said = str(caught.value).splitlines()
    assert len(said) == 1 + 8
    for name, value in (
        ("LABEL_STUDIO_URL", "'127.0.0.1:8080'"),
        ("PORT", "'seventy'"),
        ("WEB_WORKERS", "a whole number from 1 to 64"),
        ("LOG_LEVEL", "one of DEBUG, INFO, WARNING, ERROR"),
        ("API_TOKEN", "is not set"),
    ):
        assert any(name in line and value in line for line in said), name


def test_a_wrong_secret_is_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        SidecarSettings.from_env(SIDECAR | {"WEBHOOK_SECRET": "shorty"})
    assert "WEBHOOK_SECRET" in str(caught.value)
    assert "shorty" not in str(caught.value)


def test_secrets_do_not_show_in_a_settings_object() -> None:
    shown = repr(SidecarSettings.from_env(SIDECAR))
    for secret in ("a-webhook-secret", "an-api-token", "hush-hush", "0" * 40):
        assert secret not in shown


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("BUCKET", "my-labels.v2", True),
        ("BUCKET", "ab", False),  # too short
        ("BUCKET", "a--b", False),  # CORTX refuses these
        ("BUCKET", "a..b", False),
        ("BUCKET", "a.-b", False),
        ("BUCKET", "-abc", False),
        ("BUCKET", "abc-", False),
        ("BUCKET", "a" * 64, False),
        ("BUCKET_PREFIX", "team-a/labels/", True),
        ("BUCKET_PREFIX", "a//b", False),
        ("BUCKET_PREFIX", "../b", False),
        ("REDIS_URL", "unix:///run/redis.sock", True),
        ("SWEEP_SECONDS", "0.5", True),
        ("SWEEP_SECONDS", "0", False),
        ("SWEEP_SECONDS", "nan", False),
        ("BASELINE_PAGE_SIZE", "5001", False),
        ("MEDIA_MAX_MIB", "1.5", False),
        ("AWS_ENDPOINT_URL_S3", "https://s3.example.com", True),
        ("AWS_ENDPOINT_URL_S3", "s3.example.com", False),
        ("AWS_ENDPOINT_URL_S3", "http://", False),
        ("LOG_LEVEL", "debug", True),
    ],
)
def test_a_value_is_taken_or_refused(name: str, value: str, good: bool) -> None:
    if good:
        WorkersSettings.from_env(WORKERS | {name: value})
        return
    with pytest.raises(SettingsError, match=name):
        WorkersSettings.from_env(WORKERS | {name: value})


def test_every_setting_is_documented_once() -> None:
    names = [doc.env for doc in all_settings()]
    assert len(names) == len(set(names))
    for doc in all_settings():
        assert doc.about
        assert set(doc.programs) <= set(PROGRAMS)


def test_settings_cannot_be_changed() -> None:
    settings = S3Settings.from_env(S3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.bucket = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "value",
    ["http://proxy.example:3128", "https://proxy.example:3128/", "http://user:pa%40ss@10.0.0.1:8080"],
)
def test_a_proxy_has_a_port_and_perhaps_a_password(value: str) -> None:
    assert proxy_url(value) == value.rstrip("/")


@pytest.mark.parametrize(
    "value",
    [
        "proxy.example:3128",
        "http://proxy.example",
        "socks5://proxy.example:1",
        "http://u:guessed@proxy:3128x/",
        "http://p:1/?a",
    ],
)
def test_what_is_no_proxy_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(SettingsError, match="S3_PROXY_URL: its value is not allowed") as caught:
        S3Settings.from_env(S3 | {"S3_PROXY_URL": value})
    assert "guessed" not in str(caught.value)
