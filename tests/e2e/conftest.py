"""One Label Studio for all tests that need no stack of their own: it takes half a minute to start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from stack.machine import started, temporary_setup
from tests.e2e.studio import Studio


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A real Label Studio: one that runs already where E2E_LABEL_STUDIO_URL and _TOKEN say so, else one of our own."""
    if url := os.environ.get("E2E_LABEL_STUDIO_URL"):
        with closing(Studio(url, os.environ["E2E_LABEL_STUDIO_TOKEN"])) as found:
            yield found
        return
    setup = temporary_setup(tmp_path_factory.mktemp("label-studio"), os.environ)
    with (
        started(setup, only={"label-studio"}),
        closing(Studio(setup.label_studio_url, setup.secrets["LABEL_STUDIO_API_KEY"])) as found,
    ):
        yield found
