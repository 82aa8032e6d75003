"""What every test stands on: none of our settings in the environment, and Hypothesis without clock or memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from bridge.settings import all_settings

TESTS = Path(__file__).parent
SAMPLES = TESTS / "samples"

# A busy machine is no failing test, and a failing example belongs into a test of its own, not into a hidden folder.
# `--hypothesis-profile=many` looks harder.
for name, examples in (("few", 40), ("many", 2000)):
    hypothesis_settings.register_profile(
        name,
        deadline=None,
        database=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow],
    )
hypothesis_settings.load_profile("few")


@pytest.fixture(autouse=True)
def _clear_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees only the settings it makes, whatever the developer's shell holds."""
    for doc in all_settings():
        monkeypatch.delenv(doc.env, raising=False)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist writes the groups down
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder is the marker: nobody has to remember it. With several processes (`make test`), a file's tests stay in
    one, and those with a Label Studio run one after the other: two of them at once are too much for two cores."""
    for item in items:
        whole_stack = TESTS / "e2e" in item.path.parents
        item.add_marker(pytest.mark.xdist_group("e2e" if whole_stack else str(item.path.relative_to(TESTS))))
        for folder in ("integration", "e2e"):
            if TESTS / folder in item.path.parents:
                item.add_marker(getattr(pytest.mark, folder))


def sample_bytes(name: str) -> bytes:
    """A recorded body, as it came: `sample_bytes("ANNOTATION_CREATED")`."""
    return (SAMPLES / f"{name}.json").read_bytes()


def sample(name: str) -> Any:
    """A recorded body, decoded."""
    return json.loads(sample_bytes(name))
