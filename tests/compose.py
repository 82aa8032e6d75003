"""docker-compose.yml as data: what Compose makes of it with a given `.env`. A test holds that Compose agrees."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
ML_SERVER = ROOT / "docker" / "ml-server.yml"
_VARIABLE = re.compile(r"\$(?:\$|\{([A-Z][A-Z0-9_]*)(?:(:-|:\?)([^}]*))?\})")

EXAMPLE = {
    "AWS_ENDPOINT_URL_S3": "http://s3.example.com",
    "AWS_ACCESS_KEY_ID": "an-access-key",
    "AWS_SECRET_ACCESS_KEY": "a-secret-key",
    "BUCKET": "labels",
    "LABEL_STUDIO_USERNAME": "first@example.com",
    "LABEL_STUDIO_PASSWORD": "password-of-the-first-user",
    "LABEL_STUDIO_API_KEY": "0123456789012345678901234567890123456789",
    "REDIS_PASSWORD": "password0of0redis",
    "WEBHOOK_SECRET": "secret-of-the-webhooks",
    "API_TOKEN": "token-of-the-api",
    "BASIC_AUTH_PASS": "password-of-the-backend",
}
"""What must be in `.env`, and nothing else."""

Json = dict[str, Any]


class NotSet(Exception):
    """A variable that must be given is not."""


def interpolated(value: Any, environ: Mapping[str, str]) -> Any:
    """A value of the file with its variables filled in. Raises NotSet for `${NAME:?message}` without NAME."""
    if isinstance(value, dict):
        return {name: interpolated(inner, environ) for name, inner in value.items()}
    if isinstance(value, list):
        return [interpolated(inner, environ) for inner in value]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        name, how, word = found.groups()
        if name is None:
            return "$"
        if given := environ.get(name):
            return given
        if how == ":?":
            raise NotSet(f"{name}: {word}")
        return word or ""

    return _VARIABLE.sub(fill, value)


def read(path: Path = FILE) -> Json:
    loaded: Json = yaml.safe_load(path.read_text())
    return loaded


def services(environ: Mapping[str, str] = EXAMPLE) -> dict[str, Json]:
    """Every service, of every profile, its variables filled in."""
    found: dict[str, Json] = interpolated(read()["services"], environ)
    return found


def ours(environ: Mapping[str, str] = EXAMPLE) -> dict[str, Json]:
    """The services that run our own images."""
    return {name: service for name, service in services(environ).items() if "build" in service}


def environment_of(service: Json, environ: Mapping[str, str] = EXAMPLE) -> dict[str, str]:
    """A container's variables: one without a value is there only if `environ` has it."""
    given = {
        name: environ.get(name) if value is None else value for name, value in service["environment"].items()
    }
    return {name: value for name, value in given.items() if value is not None}


def program_of(service: Json) -> str:
    """`sidecar` for `python -m sidecar serve`; the file's name for a script."""
    words: list[str] = service["command"]
    return words[2] if words[1] == "-m" else words[1]


def uses(path: Path = FILE) -> Iterator[tuple[str, str, str]]:
    """(name, ":-", ":?" or "", default or message) of every variable in the file, comments left out."""

    def strings(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for inner in value.values():
                yield from strings(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from strings(inner)
        elif isinstance(value, str):
            yield value

    for text in strings(read(path)):
        for found in _VARIABLE.finditer(text):
            if found[1]:
                yield found[1], found[2] or "", found[3] or ""


def variables() -> set[str]:
    """Every variable that `.env` may set for Compose: those filled in, and those merely passed on."""
    passed_on = {
        name
        for service in read()["services"].values()
        for name, value in (service.get("environment") or {}).items()
        if value is None
    }
    return {name for path in (FILE, ML_SERVER) for name, _, _ in uses(path)} | passed_on
