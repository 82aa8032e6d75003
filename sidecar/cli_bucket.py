"""`python -m sidecar bucket|ls|upload|download|rm`: an operator's hands in the object store.

These commands need the settings of the store alone: neither Redis nor Label Studio.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bridge.errors import NotFound, SenderError
from bridge.settings import S3Settings, bucket_name
from bridge.transfer import Place, is_record, parse_place
from sidecar import show_transfer as show
from sidecar.clients import Clients
from sidecar.command import as_json, fail, print_json, says_errors
from sidecar.progress_bar import ProgressBar

if TYPE_CHECKING:
    from bridge.edges.s3 import S3Store
    from bridge.edges.transfer import Report
    from bridge.store import ObjectInfo

ENVIRONMENT = "sidecar.environment"  # where cli.py leaves a function that reads the environment

force_option = click.option("--force", is_flag=True, help="Send unchanged files again too.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
record_option = click.option(
    "--even-the-record",
    is_flag=True,
    help="Also below projects/, where the record of the projects lies: what annotators did, and nothing else has it.",
)
at_once_option = click.option(
    "--at-once",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="How many files travel side by side.",
)


@click.group()
def bucket() -> None:
    """Create, list and delete buckets."""


@bucket.command("create")
@click.argument("name")
@click.pass_context
@says_errors
def create(ctx: click.Context, name: str) -> None:
    """Create the bucket NAME; one of ours that exists is no error."""
    try:
        bucket_name(name)
    except ValueError as error:
        raise SenderError(f"{name!r} is no name for a bucket; allowed: {error}") from None
    _store(ctx, name).create_bucket()
    click.echo(f"s3://{name} is there")


@bucket.command("list")
@as_json
@click.pass_context
@says_errors
def list_buckets(ctx: click.Context, as_json: bool) -> None:
    """The buckets that this key sees."""
    from bridge.edges.s3 import list_buckets as all_of

    names = [one.name for one in all_of(_settings(ctx))]
    if as_json:
        print_json(names)
        return
    for name in names or ["There is no bucket that this key sees."]:
        click.echo(name)


@bucket.command("delete")
@click.argument("name")
@yes_option
@record_option
@click.pass_context
@says_errors
def delete_bucket(ctx: click.Context, name: str, yes: bool, even_the_record: bool) -> None:
    """Delete the bucket NAME with all that is in it. Asks first when it is not empty."""
    store = _store(ctx, name)
    objects = list(store.keys())
    if objects:
        _confirm(ctx, Place(bucket=name), objects, yes=yes, even_the_record=even_the_record)
        _finish(_removing(ctx, store, objects), verb="deleted")
    store.delete_bucket()
    click.echo(f"s3://{name} is gone")


@click.command("ls")
@click.argument("place", metavar="S3://BUCKET/PREFIX")
@click.option("-r", "--recursive", is_flag=True, help="Each object, instead of one line a folder.")
@as_json
@click.pass_context
@says_errors
def ls(ctx: click.Context, place: str, recursive: bool, as_json: bool) -> None:
    """What lies in a bucket or below a prefix; folders with their objects counted."""
    where = parse_place(place)
    objects = _store(ctx, where.bucket).keys(where.key)
    rows = map(show.row, objects) if recursive else show.folded(objects, where.key.rpartition("/")[0])
    if as_json:
        print_json([row.to_json() for row in rows])
        return
    empty = True
    for row in rows:
        empty = False
        click.echo(row.line())
    if empty:
        click.echo(f"There is nothing below {where}", err=True)


@click.command("upload")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("place", metavar="S3://BUCKET/PREFIX")
@force_option
@dry_run_option
@at_once_option
@record_option
@as_json
@click.pass_context
@says_errors
def upload(
    ctx: click.Context,
    source: Path,
    place: str,
    force: bool,
    dry_run: bool,
    at_once: int,
    even_the_record: bool,
    as_json: bool,
) -> None:
    """Send the file or folder SOURCE below a prefix; what is there unchanged is skipped.

    A file is sent to PREFIX/its name, a folder's files to PREFIX/their path in it. After Ctrl-C or a failure run it
    again: it goes on where it was.
    """
    from bridge.edges import transfer

    where = parse_place(place)
    check = _never if even_the_record else _protects(ctx, where.bucket)
    with _progress(quiet=as_json) as bar:
        report = transfer.upload(
            _store(ctx, where.bucket),
            source,
            where.folder,
            force=force,
            dry_run=dry_run,
            at_once=at_once,
            progress=bar,
            is_protected=check,
        )
    _finish(report, verb="sent", as_json=as_json)


@click.command("download")
@click.argument("place", metavar="S3://BUCKET/PREFIX")
@click.argument("target", type=click.Path(path_type=Path))
@force_option
@dry_run_option
@at_once_option
@as_json
@click.pass_context
@says_errors
def download(
    ctx: click.Context, place: str, target: Path, force: bool, dry_run: bool, at_once: int, as_json: bool
) -> None:
    """Fetch one object, or all below a prefix, to TARGET; what is there unchanged is skipped.

    One object goes to the file TARGET, or into it where TARGET is a folder. A file appears only when it is whole.
    """
    from bridge.edges import transfer

    where = parse_place(place)
    store = _store(ctx, where.bucket)
    with _progress(quiet=as_json) as bar:
        if where.key and not where.key.endswith("/") and store.head(where.key) is not None:
            path = target / where.key.rpartition("/")[2] if target.is_dir() else target
            report = transfer.download_file(
                store, where.key, path, force=force, dry_run=dry_run, progress=bar
            )
        else:
            report = transfer.download(
                store, where.folder, target, force=force, dry_run=dry_run, at_once=at_once, progress=bar
            )
    _finish(report, verb="fetched", as_json=as_json)


@click.command("rm")
@click.argument("place", metavar="S3://BUCKET/KEY")
@click.option("-r", "--recursive", is_flag=True, help="All below the prefix KEY. Asks first.")
@yes_option
@dry_run_option
@record_option
@click.pass_context
@says_errors
def rm(
    ctx: click.Context, place: str, recursive: bool, yes: bool, dry_run: bool, even_the_record: bool
) -> None:
    """Delete one object, or all below a prefix."""
    where = parse_place(place)
    store = _store(ctx, where.bucket)
    if recursive:
        objects = list(store.keys(where.folder))
    else:
        if not where.key:
            raise SenderError(f"{where} is a whole bucket: `bucket delete` removes it, `rm -r` empties it")
        one = store.head(where.key)
        objects = [one] if one is not None else []
    if not objects:
        hint = "" if recursive else "with -r all below it is deleted"
        raise NotFound(f"there is nothing at {where}", hint=hint)
    if dry_run:
        for info in objects:
            click.echo(f"would delete  {info.key}")
        click.echo(show.amount(objects))
        return
    _confirm(ctx, where, objects, yes=yes or not recursive, even_the_record=even_the_record)
    _finish(_removing(ctx, store, objects), verb="deleted")


# --- what they share


def _settings(ctx: click.Context) -> S3Settings:
    if isinstance(ctx.obj, Clients):
        return ctx.obj.settings.s3
    return S3Settings.from_env(ctx.meta[ENVIRONMENT]())


def _our_place(ctx: click.Context) -> tuple[str, str]:
    settings = _settings(ctx)
    return settings.bucket, settings.bucket_prefix


def _store(ctx: click.Context, bucket: str) -> S3Store:
    from bridge.edges.s3 import open_store

    return open_store(_settings(ctx), bucket)


def _never(key: str) -> bool:
    return False


def _protects(ctx: click.Context, bucket: str) -> Callable[[str], bool]:
    our_bucket, our_prefix = _our_place(ctx)
    return lambda key: is_record(key, bucket, our_bucket, our_prefix)


def _confirm(
    ctx: click.Context,
    where: Place,
    objects: Sequence[ObjectInfo],
    *,
    yes: bool,
    even_the_record: bool,
) -> None:
    """Says what would go, and asks. The record goes only with a flag of its own."""
    protects = _protects(ctx, where.bucket)
    record = [info for info in objects if protects(info.key)]
    if record:
        click.echo(show.record_warning(record), err=True)
        if not even_the_record:
            fail(
                f"nothing was deleted: {len(record)} of {len(objects)} objects are the record. "
                "--even-the-record deletes them too, for good."
            )
    if yes:
        return
    question = f"Delete {show.amount(objects)} at {where} for good?"
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort:
        fail("nothing was deleted (--yes deletes without asking)")


def _removing(ctx: click.Context, store: S3Store, objects: Sequence[ObjectInfo]) -> Report:
    from bridge.edges import transfer

    with _progress() as bar:
        return transfer.remove(store, objects, progress=bar)


@contextmanager
def _progress(*, quiet: bool = False) -> Iterator[ProgressBar | None]:
    """A bar on standard error. Ctrl-C ends with a line that says how to go on."""
    bar = None if quiet else ProgressBar(sys.stderr)
    try:
        yield bar
    except KeyboardInterrupt:
        if bar:
            bar.close()
        click.echo("Stopped. Run the same command again: it goes on with what is missing.", err=True)
        raise SystemExit(130) from None
    finally:
        if bar:
            bar.close()


def _finish(report: Report, *, verb: str, as_json: bool = False) -> None:
    """The summary; exit code 1 when anything failed."""
    if as_json:
        print_json(show.report_json(report))
    else:
        for line in show.report_lines(report, verb):
            click.echo(line)
    if not report.ok:
        fail(
            f"{len(report.failed)} failed: {'run it again once that is mended' if verb != 'deleted' else 'see above'}"
        )


COMMANDS = (bucket, ls, upload, download, rm)
