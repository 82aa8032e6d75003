"""`python -m sidecar archive snapshot|snapshots`: have a snapshot of a project's record made, and list those there are."""

from __future__ import annotations

import time

import click

from bridge import jobs
from bridge.edges import job_list, queue, snapshots
from bridge.edges import redis as names
from bridge.errors import NotFound, Unavailable
from bridge.keys import Layout
from bridge.records import format_time
from bridge.snapshots import Manifest, summary
from sidecar.clients import Clients
from sidecar.command import as_json, clients_of, print_json, says_errors
from sidecar.metrics_of_project import uid_of

WAIT_S = 600.0


@click.command("snapshot")
@click.argument("project")
@click.option("--wait", is_flag=True, help="Wait until it is there.")
@click.option(
    "--wait-s",
    type=click.FloatRange(0, 86400),
    default=WAIT_S,
    show_default=True,
    help="Seconds to wait at most; the job goes on after that.",
)
@click.pass_context
@says_errors
def snapshot(ctx: click.Context, project: str, wait: bool, wait_s: float) -> None:
    """Have a worker fold the log of PROJECT into tables under snapshots/ (docs/tables.md).

    PROJECT is an id, a title or a uid such as 3.1795312966. Snapshots are made by themselves too; asking for one when the
    newest has everything in it makes none.
    """
    clients = clients_of(ctx)
    uid = uid_of(clients, project)
    with clients.redis_says() as connection:
        job_id = clients.enqueue(connection, jobs.snapshot(uid))
    if not wait:
        click.echo(
            f"asked for a snapshot of {uid}: `python -m sidecar archive snapshots {uid}` lists it when it is there"
        )
        return
    _wait(clients, uid, job_id, wait_s)
    newest = next(snapshots.manifests(clients.store, _layout(clients, uid)), None)
    if newest is None:
        raise NotFound(f"the log of {uid} is empty: there is nothing to make a snapshot of")
    click.echo(_line(newest))


@click.command("snapshots")
@click.argument("project")
@as_json
@click.pass_context
@says_errors
def snapshots_list(ctx: click.Context, project: str, as_json: bool) -> None:
    """List the snapshots of PROJECT (id, title or uid), the newest first."""
    clients = clients_of(ctx)
    uid = uid_of(clients, project)
    found = snapshots.manifests(clients.store, _layout(clients, uid))
    if as_json:
        print_json([summary(one) for one in found])
        return
    lines = [_line(one) for one in found]
    click.echo("\n".join(lines) if lines else f"there is no snapshot of {uid} yet")


def _layout(clients: Clients, uid: str) -> Layout:
    return Layout(uid, clients.settings.s3.bucket_prefix)


def _line(one: Manifest) -> str:
    size = sum(file.size_bytes for file in one.files) / 2**20
    rows = ", ".join(f"{count} {table}" for table, count in sorted(one.rows().items()) if count)
    bad = f", {one.unreadable} unreadable" if one.unreadable else ""
    return (
        f"{one.position:013d}  {format_time(one.created_at)[:19]}Z  {one.log_objects} log objects{bad}  "
        f"{size:.1f} MiB  {rows}"
    )


def _wait(clients: Clients, uid: str, job_id: str, wait_s: float) -> None:
    """Until the job is done. Raises Unavailable when it fails, or when `wait_s` have passed."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        with clients.redis_says() as connection:
            if not queue.is_under_way(connection, job_id) and not connection.exists(names.snapshot_lock(uid)):
                break
        time.sleep(0.2)
    with clients.redis_says() as connection:
        try:
            job = job_list.show(connection, job_id)
        except NotFound:
            return  # RQ keeps none that succeeded
    why = f": {job.reason}" if job.reason else ""
    raise Unavailable(
        f"the snapshot is not there after {wait_s:.0f} s (job {job_id} {job.state}{why})",
        hint="is a worker of the queue `snapshots` running? `python -m sidecar jobs list` shows what waits",
    )
