"""stack/secrets.py: made once, kept, readable by their owner only."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.secrets import load_or_make_secrets, make_secrets


def test_the_first_run_makes_them_and_later_runs_find_them(tmp_path: Path) -> None:
    path = tmp_path / "run" / "secrets.env"
    made = load_or_make_secrets(path)
    assert load_or_make_secrets(path) == made


def test_only_their_owner_may_read_them(tmp_path: Path) -> None:
    path = tmp_path / "run" / "secrets.env"
    load_or_make_secrets(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_stacks_have_nothing_in_common_but_names() -> None:
    one, other = make_secrets(), make_secrets()
    assert {name for name in one if one[name] == other[name]} == {"LABEL_STUDIO_USERNAME", "BASIC_AUTH_USER"}


def test_the_token_has_label_studios_form() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", make_secrets()["LABEL_STUDIO_API_KEY"])


def test_a_run_that_died_while_writing_them_is_made_good(tmp_path: Path) -> None:
    (tmp_path / "secrets.new").write_text("WEBHOOK_SE")
    made = load_or_make_secrets(tmp_path / "secrets.env")
    assert load_or_make_secrets(tmp_path / "secrets.env") == made


def test_a_missing_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secrets.env"
    load_or_make_secrets(path)
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "API_TOKEN" not in line))
    with pytest.raises(StackError, match="has no API_TOKEN"):
        load_or_make_secrets(path)


def test_a_value_is_taken_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "secrets.env"
    made = load_or_make_secrets(path)
    path.write_text(path.read_text().replace(made["API_TOKEN"], "token-${HOME}"))
    assert load_or_make_secrets(path)["API_TOKEN"] == "token-${HOME}"
