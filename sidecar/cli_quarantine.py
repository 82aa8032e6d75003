"""`python -m sidecar quarantine …`: what could not be read, and reading it again."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import click

from bridge.edges.stream import CONTROL
from sidecar import quarantine as quarantined
from sidecar import show
from sidecar.command import as_json, clients_of, fail, print_json, says_errors


@click.group()
def quarantine() -> None:
    """Webhooks that could not be read. They are kept until they can be."""


@quarantine.command("list")
@click.option(
    "--count", default=100, show_default=True, type=click.IntRange(1, 10000), help="How many at most."
)
@as_json
@click.pass_context
@says_errors
def quarantine_list(ctx: click.Context, count: int, as_json: bool) -> None:
    """The newest entries, newest first, without their bodies."""
    items = [quarantined.Line.of(item) for item in quarantined.newest(clients_of(ctx), count)]
    if as_json:
        print_json([item.to_json() for item in items])
    else:
        for line in show.quarantine_lines(items):
            click.echo(line)


@quarantine.command("show")
@click.argument("id")
@click.option(
    "--body",
    "target",
    metavar="FILE|-",
    help="Save the whole body as it came, or print it (-). It may hold secrets: the file is for you alone to read.",
)
@as_json
@click.pass_context
@says_errors
def quarantine_show(ctx: click.Context, id: str, target: str | None, as_json: bool) -> None:
    """One entry with the beginning of its body. What looks like a secret in it is not shown."""
    item = quarantined.one(clients_of(ctx), id)
    if target is not None:
        _save(item.entry.body, target)
        return
    line, body = quarantined.Line.of(item), show.body_text(item.entry.body)
    if as_json:
        print_json(line.to_json() | {"body": body})
        return
    for name, value in line.to_json().items():
        click.echo(f"{name:<12} {value}")
    click.echo(f"\n{body}")


def _save(body: bytes, target: str) -> None:
    if target == "-":
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return
    try:
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(body)
    except FileExistsError:
        fail(f"{target} is there already: choose another name")
    except OSError as error:
        fail(f"{target} cannot be written: {error.strerror}")
    click.echo(f"{len(body)} bytes in {Path(target)}")


@quarantine.command("retry")
@click.argument("ids", metavar="ID…", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Everything that is in the quarantine.")
@as_json
@click.pass_context
@says_errors
def quarantine_retry(ctx: click.Context, ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Read bodies again, after an update of ours, and send those that can be read on their way.

    They keep the time and the id that they got at the door. What still cannot be read stays, with the reason; exit code 1.
    """
    if bool(ids) == every:
        raise click.UsageError("name entries by their ID, or give --all")
    clients = clients_of(ctx)
    wanted = quarantined.all_ids(clients) if every else ids
    done: list[quarantined.Retried] = []
    for one in quarantined.retry(clients, wanted):
        done.append(one)
        if not as_json:
            there = "the events that name no project" if one.uid == CONTROL else f"the events of {one.uid}"
            click.echo(
                f"{one.id:<18}  " + (f"stays: {one.reason}" if one.reason else f"is among {there} now")
            )
    stay = [one for one in done if one.reason]
    if as_json:
        print_json({"ok": not stay, "entries": [dataclasses.asdict(one) for one in done]})
    elif not done:
        click.echo("The quarantine is empty.")
    if stay:
        fail(
            f"{len(stay)} of {len(done)} stay: `quarantine show ID --body FILE` saves a body; report what you find in it"
        )
