"""The keys and passwords of one stack: made on its first run, kept in a file that only its owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from dotenv import dotenv_values

from stack.errors import StackError

LOGIN_EMAIL = "demo@example.com"


def make_secrets() -> dict[str, str]:
    """Fresh random values under the names that our programs use."""
    return {
        "LABEL_STUDIO_USERNAME": LOGIN_EMAIL,
        "LABEL_STUDIO_PASSWORD": secrets.token_urlsafe(12),
        "LABEL_STUDIO_API_KEY": secrets.token_hex(20),  # Label Studio's legacy token: 40 hexadecimal digits
        "WEBHOOK_SECRET": secrets.token_urlsafe(32),
        "API_TOKEN": secrets.token_urlsafe(32),
        "BASIC_AUTH_USER": "label-studio",
        "BASIC_AUTH_PASS": secrets.token_urlsafe(24),
        "AWS_ACCESS_KEY_ID": "AK" + secrets.token_hex(9).upper(),
        "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
    }


def load_or_make_secrets(path: Path) -> dict[str, str]:
    """The secrets in `path`; the file is made, mode 0600, if it is not there. Raises StackError when one is missing."""
    wanted = make_secrets()
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        half = path.with_suffix(".new")
        half.unlink(missing_ok=True)
        with os.fdopen(
            os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(
                "# Made by the first run; keep it with Label Studio's data beside it, whose login it holds.\n"
            )
            file.writelines(f"{name}={value}\n" for name, value in wanted.items())
        half.rename(path)  # whole or not at all: a half-written file would lock its owner out of Label Studio
        return wanted
    found = {name: value for name, value in dotenv_values(path, interpolate=False).items() if value}
    if missing := [name for name in wanted if name not in found]:
        raise StackError(
            f"{path} has no {', '.join(missing)}",
            hint="add a line NAME=value for each, or remove the whole folder to start afresh",
        )
    return {name: found[name] for name in wanted}
