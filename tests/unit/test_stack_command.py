"""`python -m stack sidecar …`: the command line with the settings of the stack."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stack import __main__ as stack


@pytest.fixture
def interruptible() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_is_left_to_the_command_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The terminal sends it to both; the command says that its job goes on, and ends with 130."""
    asked: list[list[str]] = []

    def interrupted(setup: Any, words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        os.kill(os.getpid(), signal.SIGINT)
        return subprocess.CompletedProcess(words, 130)

    monkeypatch.setattr(stack, "setup_here", lambda environ: None)
    monkeypatch.setattr(stack, "run_program", interrupted)
    done = CliRunner().invoke(stack.main, ["sidecar", "prelabel", "3", "--wait", "60"])
    assert asked == [["sidecar", "prelabel", "3", "--wait", "60"]]
    assert (done.exit_code, done.output) == (130, "")
