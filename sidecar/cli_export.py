"""`python -m sidecar export …`: ask for exports, list and show them, fetch their files."""

from __future__ import annotations

from pathlib import Path

import click

from bridge.edges.exports import View
from bridge.exports import ANNOTATED, FORMATS, TASKS
from sidecar import exports, show_exports
from sidecar.command import as_json, clients_of, fail, print_json, says_errors


class _CreateByDefault(click.Group):
    """`export PROJECT …` means `export create PROJECT …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["create", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_CreateByDefault)
def export() -> None:
    """Export a project from the bucket, in the background: Label Studio does nothing for it.

    `export PROJECT --format COCO` asks for one; PROJECT is an id, a title, or a uid such as 3.1795312966.
    """


@export.command("create")
@click.argument("project")
@click.option("--format", "format", required=True, help=f"One of {', '.join(FORMATS)}.")
@click.option(
    "--tasks",
    default=ANNOTATED,
    show_default=True,
    type=click.Choice(TASKS),
    help="Those with an annotation, as Label Studio's own export has them, or all.",
)
@click.option("--wait", "wait", is_flag=True, help="Wait until it is there, showing how far it is.")
@click.option(
    "--wait-seconds",
    "wait_s",
    type=click.FloatRange(0, 86400),
    default=exports.WAIT_S,
    show_default=True,
    help="How long --wait waits.",
)
@as_json
@click.pass_context
@says_errors
def create(
    ctx: click.Context, project: str, format: str, tasks: str, wait: bool, wait_s: float, as_json: bool
) -> None:
    """Ask for an export of what is in the bucket now. Asking again for the same content gives the same export."""
    clients = clients_of(ctx)
    view = exports.ask(clients, project, format, tasks, "command line")
    if wait:
        said: list[str] = []

        def say(now: View) -> None:
            line = show_exports.state_words(now)
            if not as_json and said[-1:] != [line]:
                said.append(line)
                click.echo(line, err=True)

        view = exports.wait(clients, view.id, wait_s=wait_s, say=say)
    _show(view, as_json)
    if view.state == "failed":
        fail(view.message)


@export.command("list")
@click.argument("project")
@as_json
@click.pass_context
@says_errors
def list_exports(ctx: click.Context, project: str, as_json: bool) -> None:
    """The exports of PROJECT, newest first: whole, under way, failed."""
    views = exports.listed(clients_of(ctx), project)
    if as_json:
        print_json([view.to_json() for view in views])
        return
    for line in show_exports.list_lines(views):
        click.echo(line)


@export.command("show")
@click.argument("id")
@as_json
@click.pass_context
@says_errors
def show(ctx: click.Context, id: str, as_json: bool) -> None:
    """One export: its files, what is in it, and what is not, with the reasons."""
    _show(exports.look(clients_of(ctx), id), as_json)


@export.command("download")
@click.argument("id")
@click.option(
    "--to",
    "folder",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to put a folder of the export's name into.",
)
@click.pass_context
@says_errors
def download(ctx: click.Context, id: str, folder: Path) -> None:
    """Fetch the files of an export, and compare them with its manifest."""
    clients = clients_of(ctx)
    view = exports.look(clients, id)
    if view.manifest is None:
        fail(f"the export {id} is {show_exports.state_words(view)}; its files are there when it is complete")
    target = folder / id
    target.mkdir(parents=True, exist_ok=True)
    for file in view.manifest.files:
        exports.fetch(clients, file, target / file.name)
        click.echo(f"{target / file.name}  {show_exports.size(file.size_bytes)}")


def _show(view: View, as_json: bool) -> None:
    if as_json:
        print_json(view.to_json())
        return
    for line in show_exports.lines(view):
        click.echo(line)
