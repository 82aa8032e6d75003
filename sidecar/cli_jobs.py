"""`python -m sidecar jobs …`: what waits, runs, has failed; try again, cancel."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from bridge.edges import job_list
from bridge.jobs import QUEUES
from sidecar import show_jobs
from sidecar.command import as_json, clients_of, print_json, says_errors


@click.group()
def jobs() -> None:
    """The background jobs: what waits, runs, or has failed. One that succeeded is not kept."""


@jobs.command("list")
@click.option("--queue", type=click.Choice(QUEUES), help="Only this queue.")
@click.option("--failed", is_flag=True, help="Only those that failed for good, or were stopped.")
@as_json
@click.pass_context
@says_errors
def list_jobs(ctx: click.Context, queue: str | None, failed: bool, as_json: bool) -> None:
    """Running, queued, waiting to be tried again, failed; each with why its last try failed."""
    with clients_of(ctx).redis_says() as connection:
        found = [job for job in job_list.listed(connection) if queue in (None, job.queue)]
    if failed:
        found = [job for job in found if job.state in (job_list.FAILED, job_list.STOPPED)]
    if as_json:
        print_json([job.to_json() for job in found])
        return
    for line in show_jobs.lines(found, datetime.now(UTC)):
        click.echo(line)


@jobs.command("show")
@click.argument("id")
@click.option("--traceback", is_flag=True, help="Show where in the code it failed.")
@as_json
@click.pass_context
@says_errors
def show_job(ctx: click.Context, id: str, traceback: bool, as_json: bool) -> None:
    """One job; ID may be the beginning of its id. Why it failed comes first."""
    with clients_of(ctx).redis_says() as connection:
        job = job_list.show(connection, id)
    if as_json:
        print_json(job.to_json() | ({"traceback": job.traceback} if traceback else {}))
        return
    for line in show_jobs.detail_lines(job, datetime.now(UTC), traceback=traceback):
        click.echo(line)


@jobs.command("retry")
@click.argument("id")
@click.pass_context
@says_errors
def retry_job(ctx: click.Context, id: str) -> None:
    """Run a failed, stopped or waiting job now, with all its tries."""
    with clients_of(ctx).redis_says() as connection:
        job = job_list.retry(connection, id)
    click.echo(f"{job.about}: queued again ({job.id})")


@jobs.command("cancel")
@click.argument("id")
@click.pass_context
@says_errors
def cancel_job(ctx: click.Context, id: str) -> None:
    """Take a job away; a running one is stopped and kept as stopped.

    Work that the record needs is found again by the scheduler: cancelling such a job postpones it.
    """
    with clients_of(ctx).redis_says() as connection:
        about = job_list.show(connection, id).about
        done = job_list.cancel(connection, id)
    click.echo(f"{about}: {done}")
