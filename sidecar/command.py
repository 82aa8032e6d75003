"""What every command of the command line shares: its clients, its errors, its JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import click

from bridge.errors import BridgeError
from sidecar.clients import Clients

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def says_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """One clear line on standard error and exit code 1 instead of a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BridgeError as error:
            raise click.ClickException(str(error)) from None

    return run


def clients_of(ctx: click.Context) -> Clients:
    """Those handed in by a test, or new ones from the environment (cli.py leaves a function that makes them)."""
    found: Clients = ctx.obj if isinstance(ctx.obj, Clients) else ctx.obj()
    return found


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def fail(message: str) -> NoReturn:
    raise click.ClickException(message)
