"""`python -m sidecar prelabel …`: have thousands of tasks predicted in the background."""

from __future__ import annotations

import sys

import click

from bridge.prelabel import COMPLETE, FAILED, FILTER_WORDS, STOPPED, View
from sidecar import prelabelling, show_prelabel
from sidecar.command import as_json, clients_of, fail, print_json, says_errors

INTERRUPTED = 130  # as a shell has it


class _BeginByDefault(click.Group):
    """`prelabel PROJECT …` means `prelabel begin PROJECT …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["begin", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_BeginByDefault)
def prelabel() -> None:
    """Predict many tasks with the ML backend, in the background.

    `prelabel PROJECT` begins a job for the tasks that nobody has annotated; those that have a prediction of the model's
    version are left alone. PROJECT is an id, a title, or a uid such as 3.1795312966.
    `prelabel begin --help` shows which tasks can be chosen.
    """


@prelabel.command("begin")
@click.argument("project")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    help=f"Which tasks: {FILTER_WORDS}; given several times, all must hold. Without it: unlabeled.",
)
@click.option("--view", type=int, help="Those of this tab of the data manager (the number in its address).")
@click.option("--model", default="", help="This model version, or the weights of one: `model list`.")
@click.option(
    "--replace", is_flag=True, help="Delete our older predictions of a task once the new one is there."
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the end.")
@click.option(
    "--wait-seconds",
    "wait_s",
    type=click.FloatRange(0, 30 * 86400),
    default=prelabelling.WAIT_S,
    show_default=True,
    help="How long to wait. The job goes on when nobody waits.",
)
@as_json
@click.pass_context
@says_errors
def begin(
    ctx: click.Context,
    project: str,
    filters: tuple[str, ...],
    view: int | None,
    model: str,
    replace: bool,
    wait: bool,
    wait_s: float,
    as_json: bool,
) -> None:
    """Begin a job. Exit code 1 when it failed or was stopped, or a task failed.

    Ctrl-C ends the waiting, not the job.
    """
    found = prelabelling.ask(
        clients_of(ctx),
        project,
        filters=filters,
        view=view,
        model=model,
        replace=replace,
        by="command line",
    )
    _follow(ctx, found, wait, wait_s, as_json)


@prelabel.command("resume")
@click.argument("id")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the end.")
@as_json
@click.pass_context
@says_errors
def resume(ctx: click.Context, id: str, wait: bool, as_json: bool) -> None:
    """Go on with a stopped or failed job; of a complete one, try the tasks that failed again."""
    _follow(ctx, prelabelling.resume(clients_of(ctx), id), wait, prelabelling.WAIT_S, as_json)


@prelabel.command("stop")
@click.argument("id")
@as_json
@click.pass_context
@says_errors
def stop(ctx: click.Context, id: str, as_json: bool) -> None:
    """Stop a job after the requests that are under way. What is predicted by then is written."""
    _show(prelabelling.stop(clients_of(ctx), id), as_json)


@prelabel.command("list")
@click.argument("project", required=False)
@as_json
@click.pass_context
@says_errors
def list_jobs(ctx: click.Context, project: str | None, as_json: bool) -> None:
    """The newest jobs, of PROJECT or of all."""
    views = prelabelling.listed(clients_of(ctx), project)
    if as_json:
        print_json([view.to_json() for view in views])
        return
    for line in show_prelabel.list_lines(views):
        click.echo(line)


@prelabel.command("show")
@click.argument("id")
@as_json
@click.pass_context
@says_errors
def show(ctx: click.Context, id: str, as_json: bool) -> None:
    """One job: how far it is, and which tasks failed, with the reasons."""
    _show(prelabelling.look(clients_of(ctx), id), as_json)


def _follow(ctx: click.Context, view: View, wait: bool, wait_s: float, as_json: bool) -> None:
    if wait:
        view = _wait(ctx, view.order.id, wait_s, quiet=as_json)
    _show(view, as_json)
    if wait and view.state in (FAILED, STOPPED):
        fail(view.message)
    if view.state == COMPLETE and view.account.failed:
        fail(f"not all is pre-labelled: {view.message}")


def _wait(ctx: click.Context, id: str, wait_s: float, *, quiet: bool) -> View:
    if not quiet:
        click.echo(f"job {id} (it goes on when nobody waits)", err=True)
    tell = show_prelabel.Teller(sys.stderr)
    try:
        return prelabelling.wait(clients_of(ctx), id, wait_s=wait_s, say=(lambda _: None) if quiet else tell)
    except KeyboardInterrupt:
        tell.close()
        click.echo(
            f"the job goes on: `prelabel show {id}` says how far it is, `prelabel stop {id}` ends it",
            err=True,
        )
        ctx.exit(INTERRUPTED)
    finally:
        tell.close()


def _show(view: View, as_json: bool) -> None:
    if as_json:
        print_json(view.to_json())
        return
    for line in show_prelabel.lines(view):
        click.echo(line)
