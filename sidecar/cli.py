"""The operators' commands. Reads the environment; everything else is handed what it needs.

Exit codes: 0 all well, 1 something failed (one line on standard error says what to do), 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import click

from bridge.edges.environment import read_environment, set_up_logging
from bridge.errors import NotFound, OutsideError
from bridge.settings import SidecarSettings
from sidecar import show
from sidecar.apply import Outcome, carry_out, failed
from sidecar.cli_archive import archive
from sidecar.cli_bucket import COMMANDS as BUCKET_COMMANDS
from sidecar.cli_bucket import ENVIRONMENT
from sidecar.cli_doctor import doctor
from sidecar.cli_export import export
from sidecar.cli_jobs import jobs
from sidecar.cli_metrics import metrics
from sidecar.cli_model import model
from sidecar.cli_prelabel import prelabel
from sidecar.cli_quarantine import quarantine
from sidecar.cli_reconcile import reconcile
from sidecar.cli_restore import restore
from sidecar.clients import Clients, open_clients
from sidecar.command import as_json, clients_of, fail, print_json, says_errors
from sidecar.connect import connect_steps, disconnect_steps
from sidecar.gather import find_project, gather
from sidecar.plan import Project, Step, wanted
from sidecar.status import status
from sidecar.sync import sync as sync_project

dry_run = click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")


def _settings() -> SidecarSettings:
    return SidecarSettings.from_env(read_environment(os.environ))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Connect Label Studio projects to the bucket, and see how they are.

    Settings come from the environment and an optional .env file; README has the table. PROJECT is the id or the exact
    title of a project.
    """
    ctx.meta[ENVIRONMENT] = lambda: read_environment(os.environ)
    if ctx.obj is None:
        ctx.obj = lambda: open_clients(_settings())


cli.add_command(archive)
cli.add_command(metrics)
cli.add_command(model)
cli.add_command(restore)
cli.add_command(jobs)
cli.add_command(export)
cli.add_command(prelabel)
cli.add_command(doctor)
cli.add_command(reconcile)
cli.add_command(quarantine)
for command in BUCKET_COMMANDS:
    cli.add_command(command)


@cli.command()
@says_errors
def serve() -> None:
    """Hear Label Studio's webhooks, and serve the API."""
    settings = _settings()
    set_up_logging(settings.log_level)
    from sidecar.server import serve as serve_forever

    serve_forever(settings)


@cli.command()
@click.argument("project")
@dry_run
@click.option(
    "--baseline/--no-baseline",
    default=None,
    help="Read everything in the project into the bucket now, or do not. By default it is read when that has not been "
    "done yet, or when events may have been missed.",
)
@as_json
@click.pass_context
@says_errors
def connect(ctx: click.Context, project: str, dry_run: bool, baseline: bool | None, as_json: bool) -> None:
    """Register webhook, ML backend and pictures of PROJECT, repair what has drifted, read what is in it.

    Doing it again changes nothing when all is well.
    """
    clients = clients_of(ctx)
    found_project = find_project(clients.label_studio, project)
    want = wanted(clients.settings, found_project.id)
    found = gather(clients, found_project, want, check=True, dry_run=dry_run)
    steps = connect_steps(want, found, found_project, baseline=baseline)
    _carry_out(clients, found_project, steps, dry_run=dry_run, as_json=as_json)


@cli.command()
@click.argument("project")
@dry_run
@click.option(
    "--remove-storage",
    is_flag=True,
    help="Remove the import storage though tasks came from it: their pictures then stop loading, and connecting and "
    "syncing again makes every task a second time.",
)
@as_json
@click.pass_context
@says_errors
def disconnect(ctx: click.Context, project: str, dry_run: bool, remove_storage: bool, as_json: bool) -> None:
    """Take our webhook, ML backend and unused pictures out of PROJECT, and stop its baseline.

    Tasks, annotations and predictions stay in Label Studio, and the record stays in the bucket.
    """
    clients = clients_of(ctx)
    found_project = find_project(clients.label_studio, project)
    want = wanted(clients.settings, found_project.id)
    found = gather(clients, found_project, want, check=False)
    steps = disconnect_steps(want, found, remove_storage=remove_storage)
    _carry_out(clients, found_project, steps, dry_run=dry_run, as_json=as_json)
    if not as_json:
        click.echo(
            f"The record stays: s3://{clients.settings.s3.bucket}/{want.record_root}{found_project.uid}/"
        )


def _carry_out(
    clients: Clients, project: Project, steps: Sequence[Step], *, dry_run: bool, as_json: bool
) -> None:
    """Do the steps, showing each as it is done; ends with exit code 1 when one failed."""
    outcomes: list[Outcome] = []
    if not as_json:
        click.echo(show.project_line(project))
    for outcome in carry_out(steps, clients, project, dry_run=dry_run):
        outcomes.append(outcome)
        if not as_json:
            click.echo(show.outcome_lines(outcome))
    bad = failed(outcomes)
    if as_json:
        print_json(
            {
                "ok": not bad,
                "dry_run": dry_run,
                "project": dataclasses.asdict(project),
                "steps": [dataclasses.asdict(outcome) for outcome in outcomes],
            }
        )
    if bad:
        parts = ", ".join(dict.fromkeys(outcome.part for outcome in bad))
        fail(f"{len(bad)} of {len(outcomes)} steps failed: {parts}. Mend that and run it again.")


@cli.command()
@click.argument("project")
@as_json
@click.pass_context
@says_errors
def sync(ctx: click.Context, project: str, as_json: bool) -> None:
    """Have Label Studio make tasks of the new pictures in the bucket, and wait until it has."""
    clients = clients_of(ctx)
    found_project = find_project(clients.label_studio, project)
    done = sync_project(clients, found_project)
    if as_json:
        print_json(dataclasses.asdict(done))
    else:
        click.echo(f"{done.new} new tasks; project {found_project.id} has {done.tasks} tasks now")


@cli.command("status")
@click.argument("project", required=False)
@as_json
@click.pass_context
@says_errors
def show_status(ctx: click.Context, project: str | None, as_json: bool) -> None:
    """How each project is: connected, baseline, events waiting and their lag; quarantine and spool.

    Exit code 1 when Label Studio, Redis or the bucket is down.
    """
    clients = clients_of(ctx)
    found = status(clients, _asked_for(clients, project))
    if as_json:
        print_json(found.to_json())
    else:
        for line in show.status_lines(found):
            click.echo(line)
    if not found.ok:
        down = ", ".join(neighbour.name for neighbour in found.neighbours if not neighbour.ok)
        fail(f"down: {down}")


def _asked_for(clients: Clients, project: str | None) -> Project | int | None:
    """The project, or its mere id when Label Studio is away: what Redis knows is still shown then."""
    if project is None:
        return None
    try:
        return find_project(clients.label_studio, project)
    except OutsideError as error:
        if isinstance(error, NotFound) or not project.isdecimal():
            raise
        return int(project)
