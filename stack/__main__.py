"""`python -m stack run`: every part in the foreground, until Ctrl-C. `python -m stack sidecar …`: its command line."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import click
import httpx

from bridge.errors import BridgeError
from stack.machine import find_redis_server, run_program, setup_here, started
from stack.parts import make_parts
from stack.settings import Setup, without_password
from stack.terminal import Terminal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A polite kill and a closed terminal end the stack as Ctrl-C does."""


@click.group()
def main() -> None:
    """Start and use all parts on one machine."""


@main.command()
def run() -> None:
    """Start everything, wait until it is well, stop everything at Ctrl-C."""
    for number in ENDING:
        signal.signal(number, _interrupt)
    begun = time.monotonic()
    terminal: Terminal | None = None
    try:
        setup = setup_here(os.environ)
        names = [part.name for part in make_parts(setup, redis_server=find_redis_server())]
        terminal = Terminal(sys.stdout, ["stack", *names])
        terminal("stack", f"starting {', '.join(names)}; logs in {_short(setup.folder)}/logs")
        with started(setup, say=terminal) as stack:
            try:
                project = None
                if setup.settings.label_studio_url is None:
                    from stack.seed import seed  # only here: drawing needs numpy and Pillow

                    project = seed(setup, terminal)
                terminal.write(_welcome(setup, project, time.monotonic() - begun))
                stack.watch()
            finally:
                terminal("stack", "stopping …")
                _ignore_further_signals()
        # not reached: watch() ends only by an exception
    except KeyboardInterrupt:
        if terminal is not None:
            terminal("stack", "everything is stopped")
    except (BridgeError, httpx.HTTPError) as error:
        for line in getattr(error, "lines", ()):
            click.echo(f"    | {line}", err=True)
        click.echo(f"stack: {error}", err=True)
        sys.exit(1)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def sidecar(words: tuple[str, ...]) -> None:
    """Run `python -m sidecar WORDS…` with the settings of this stack."""
    try:
        setup = setup_here(os.environ)
    except BridgeError as error:
        raise click.ClickException(str(error)) from None
    # A Ctrl-C reaches the command too, which has a word to say and an exit code of its own.
    signal.signal(signal.SIGINT, lambda *_: None)
    sys.exit(run_program(setup, ["sidecar", *words], capture=False).returncode)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ignore_further_signals()
    raise KeyboardInterrupt


def _ignore_further_signals() -> None:
    """Stopping takes seconds and ends by itself; an impatient second Ctrl-C must not leave parts behind."""
    for number in ENDING:
        # Not SIG_IGN: a signal that came in just before would be told as a traceback.
        signal.signal(number, lambda *_: None)


def _short(path: Path) -> str:
    """Relative where that is shorter to read."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _welcome(setup: Setup, project: int | None, seconds: float) -> str:
    """What to open and what to try. The password is shown here and nowhere else."""
    ours = setup.settings
    login = ""
    if ours.label_studio_url is None:
        login = f"   log in as {setup.secrets['LABEL_STUDIO_USERNAME']}  password {setup.secrets['LABEL_STUDIO_PASSWORD']}"
    memory = "   (in memory: empty again after each stop)" if ours.s3_url is None else ""
    page = f"projects/{project}" if project else "projects"
    lines = [
        "",
        f"Everything is up ({seconds:.0f} s).",
        f"  Label Studio  {setup.label_studio_url}{login}",
        f"  sidecar       {setup.sidecar_url}   /health /ready /metrics",
        f"  ML backend    {setup.ml_backend_url}   /health",
        f"  bucket        {ours.bucket} at {setup.s3_url}{memory}",
        f"  Redis         {without_password(setup.redis_url)}",
        f"  keys          {_short(setup.folder)}/secrets.env",
        "Try:",
        f"  1. open {setup.label_studio_url}/{page} and a task in it: the model has drawn its boxes already",
        "  2. correct a box and submit: a second later it is in the bucket",
        f"  3. see it: {_short(Path(sys.executable))} -m stack sidecar status",
        "Ctrl-C stops everything.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
