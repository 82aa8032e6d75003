"""`archive`: look at a project's record in the bucket, and check it. Needs neither Redis nor a worker to look."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta

import click

from bridge.records import parse_time
from bridge.state import State
from sidecar import cli_snapshot, record_lines, recorded
from sidecar.command import as_json, clients_of, fail, print_json, says_errors

# How far our clock and that of whoever asks, and a record's time at the door and its place in the log, may be apart.
_SLACK = timedelta(days=1)


def moment(value: str) -> datetime:
    """A time with its zone, as an aware UTC datetime."""
    try:
        found = parse_time(value)
    except ValueError:
        found = None
    if found is None:
        raise click.BadParameter(f"{value!r} is no time with a zone, such as 2026-11-22T06:00:00Z")
    return found


@click.group()
def archive() -> None:
    """The record of a project in the bucket: check it, look at it.

    PROJECT is a uid such as 3.1795312966, an id, or the exact title.
    """


archive.add_command(cli_snapshot.snapshot)
archive.add_command(cli_snapshot.snapshots_list)


@archive.command()
@click.argument("project")
@click.option("--deep", is_flag=True, help="Read every file that is derived from the log, too.")
@click.option("--offline", is_flag=True, help="Do not ask Label Studio.")
@click.option(
    "--repair", is_flag=True, help="Have what is derived from the log made again. Never touches the log."
)
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(0, 600),
    default=5.0,
    show_default=True,
    help="Seconds to wait before what differs is looked at again.",
)
@as_json
@click.pass_context
@says_errors
def verify(
    ctx: click.Context,
    project: str,
    deep: bool,
    offline: bool,
    repair: bool,
    settle_s: float,
    as_json: bool,
) -> None:
    """Check the record of PROJECT: the log, what is derived from it, and Label Studio's content field by field.

    Exit code 1 and a list when anything differs. What only changed meanwhile is looked at again first.
    """
    from bridge.edges.verify import Verification
    from sidecar.repair import repair as carry_out
    from sidecar.show_verify import report_lines

    clients = clients_of(ctx)
    uid = recorded.find_uid(clients, project)
    progress = Progress()
    report = Verification(
        store=clients.store,
        layout=recorded.layout_of(clients, uid),
        label_studio=None if offline else clients.label_studio,
        deep=deep,
        say=progress,
        settle_s=settle_s,
    ).run()
    progress.clear()
    if not as_json:
        for line in report_lines(report):
            click.echo(line)
    done = []
    if repair and not report.ok:
        for words in carry_out(clients, report):
            done.append(words)
            click.echo(f"repair: {words}", err=as_json)
    if as_json:
        click.echo(record_lines.line(report.to_json() | {"repairs": done}, indent=2))
    if not report.ok:
        many = "1 difference" if len(report.problems) == 1 else f"{len(report.problems)} differences"
        then = "run it again when the workers are done" if done else "--repair makes derived parts again"
        fail(f"{many}; {then}")


@archive.command()
@click.argument("project")
@click.option("--at", "at", type=moment, help="As it was then, such as 2026-11-22T06:00:00Z. Default: now.")
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Only things of this kind; can be repeated."
)
@click.option("--all", "all_things", is_flag=True, help="Deleted and hidden things, too.")
@click.pass_context
@says_errors
def dump(
    ctx: click.Context, project: str, at: datetime | None, kinds: tuple[str, ...], all_things: bool
) -> None:
    """The state of PROJECT as JSON lines: what is in Label Studio, as far as the record knows."""
    clients = clients_of(ctx)
    uid = recorded.find_uid(clients, project)
    state = State()
    trouble = 0
    for key, record in record_lines.records(clients, uid):
        if isinstance(record, str):
            trouble += 1
            click.echo(f"{key} {record}", err=True)
        elif at is None or record.received_at <= at:
            state.add(record)
    for line in record_lines.dumped(state, kinds, all_things=all_things):
        click.echo(line)
    if state.passed_over:
        from bridge.edges.verify_log import newer_words

        click.echo(newer_words(state.passed_over), err=True)
    _say_trouble(trouble, project)


@archive.command("log")
@click.argument("project")
@click.option("--since", type=moment, help="Only records that we received at this time or later.")
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Only records of this kind; can be repeated."
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only records of this id; can be repeated.")
@click.pass_context
@says_errors
def show_log(
    ctx: click.Context, project: str, since: datetime | None, kinds: tuple[str, ...], ids: tuple[str, ...]
) -> None:
    """Every record of PROJECT's log as JSON lines, in the order of the log, each with the key of its object."""
    clients = clients_of(ctx)
    uid = recorded.find_uid(clients, project)
    trouble = 0
    for key, record in record_lines.records(clients, uid, since=since):
        if isinstance(record, str):
            trouble += 1
            click.echo(f"{key} {record}", err=True)
            continue
        wanted = (not kinds or record.kind in kinds) and (not ids or record.id in ids)
        if wanted and (since is None or record.received_at >= since):
            click.echo(record_lines.line({"key": key} | json.loads(record.to_json()) | {"key": key}))
    _say_trouble(trouble, project)


@archive.command()
@as_json
@click.pass_context
@says_errors
def projects(ctx: click.Context, as_json: bool) -> None:
    """The projects that the bucket has a record of, whether or not Label Studio still has them."""
    from sidecar.show_verify import projects_lines

    clients = clients_of(ctx)
    found = (recorded.look(clients, uid) for uid in recorded.uids(clients))
    if as_json:
        print_json([one.to_json() for one in found])
        return
    for line in projects_lines(found):
        click.echo(line)


def _say_trouble(count: int, project: str) -> None:
    if count:
        fail(
            f"the log has damage in {count} places, named above; what can be read of it is shown. "
            f"`python -m sidecar archive verify {project}` says more"
        )


class Progress:
    """How far the work is: one line on standard error, drawn over and over, when that is a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __call__(self, words: str) -> None:
        if self._shown:
            click.echo(f"\r\x1b[K{words} …", err=True, nl=False)

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
