"""What every test stands on: none of our settings in the environment, and Hypothesis without clock or memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadScopeScheduling

from bridge.settings import all_settings
from ml_backend.yolo import keep_ultralytics_to_itself

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


@pytest.fixture(scope="session", autouse=True)
def _ultralytics_keeps_to_itself(tmp_path_factory: pytest.TempPathFactory) -> None:
    """ultralytics reads the environment once, when the first test of a process imports it: that must not be up to which
    test is first."""
    keep_ultralytics_to_itself(os.environ, tmp_path_factory.mktemp("ultralytics"))


@pytest.fixture(autouse=True)
def _clear_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees only the settings it makes, whatever the developer's shell holds."""
    for doc in all_settings():
        monkeypatch.delenv(doc.env, raising=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder is the marker: nobody has to remember it."""
    for item in items:
        for folder in ("integration", "e2e"):
            if TESTS / folder in item.path.parents:
                item.add_marker(getattr(pytest.mark, folder))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _InTwoProcesses(config, log)


class _InTwoProcesses(LoadScopeScheduling):
    """A file's tests stay in one process, and those with a Label Studio run one after the other: two of them at once are
    too much for two cores."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "e2e" if file.startswith("tests/e2e/") else file


def sample_bytes(name: str) -> bytes:
    """A recorded body, as it came: `sample_bytes("ANNOTATION_CREATED")`."""
    return (SAMPLES / f"{name}.json").read_bytes()


def sample(name: str) -> Any:
    """A recorded body, decoded."""
    return json.loads(sample_bytes(name))
