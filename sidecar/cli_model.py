"""`python -m sidecar model …`: weights in the bucket, and which of them serve (docs/models.md)."""

from __future__ import annotations

from pathlib import Path

import click

from bridge.keys import models_prefix
from bridge.published import checked_name, name_of_file
from sidecar.command import as_json, clients_of, print_json, says_errors
from sidecar.published import Shelf


@click.group()
def model() -> None:
    """Weights in the bucket: publish a file, list what is there, choose which serves."""


@model.command("publish")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="What to call it; otherwise the file's name.")
@click.option("--activate", is_flag=True, help="It serves from now on.")
@as_json
@click.pass_context
@says_errors
def publish(ctx: click.Context, file: Path, name: str | None, activate: bool, as_json: bool) -> None:
    """Put a file of weights into the bucket, as a version named by what is in it. Doing it again changes nothing."""
    shelf = _shelf(ctx)
    published, is_new = shelf.publish(file, checked_name(name) if name else name_of_file(file.stem))
    if activate:
        shelf.activate(published.version)
    if as_json:
        print_json({"version": published.version, "new": is_new, "active": activate})
        return
    click.echo(
        f"{published.version}: {'published' if is_new else 'is there already'}{', serves' if activate else ''}"
    )
    if activate:
        click.echo(f"ML backends with MODEL={_pointer(ctx)} take it within MODEL_CHECK_SECONDS.")


@model.command("list")
@as_json
@click.pass_context
@says_errors
def list_models(ctx: click.Context, as_json: bool) -> None:
    """The versions in the bucket, newest first; the one with * serves."""
    shelf = _shelf(ctx)
    active, found = shelf.active(), shelf.versions()
    if as_json:
        print_json(
            [
                {
                    "version": one.version,
                    "active": one.version == active,
                    "sha256": one.sha256,
                    "size_bytes": one.size_bytes,
                    "published_at": one.published_at.isoformat(),
                }
                for one in found
            ]
        )
        return
    if not found:
        click.echo("No weights are published: python -m sidecar model publish FILE --activate")
    for one in found:
        mark = "*" if one.version == active else " "
        click.echo(
            f"{mark} {one.version:<50} {one.published_at:%Y-%m-%d %H:%M}  {one.size_bytes / 1e6:8.1f} MB"
        )


@model.command("activate")
@click.argument("version")
@click.pass_context
@says_errors
def activate_model(ctx: click.Context, version: str) -> None:
    """From now on this version serves; an older one is how one goes back."""
    before = _shelf(ctx).activate(version)
    click.echo(f"{version} serves" + (f", {before} did before" if before and before != version else ""))


def _shelf(ctx: click.Context) -> Shelf:
    clients = clients_of(ctx)
    return Shelf(clients.store, models_prefix(clients.settings.s3.bucket_prefix))


def _pointer(ctx: click.Context) -> str:
    s3 = clients_of(ctx).settings.s3
    return f"s3://{s3.bucket}/{models_prefix(s3.bucket_prefix)}current.json"
