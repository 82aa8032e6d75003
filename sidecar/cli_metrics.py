"""`python -m sidecar metrics PROJECT`: what people made of the predictions."""

from __future__ import annotations

import click

from sidecar import metrics_of_project, show_metrics
from sidecar.command import as_json, clients_of, print_json, says_errors


@click.command()
@click.argument("project")
@click.option("--refresh", is_flag=True, help="Have a worker make them anew first, and wait for it.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 86400),
    default=metrics_of_project.WAIT_S,
    show_default=True,
    help="How many seconds --refresh waits.",
)
@as_json
@click.pass_context
@says_errors
def metrics(ctx: click.Context, project: str, refresh: bool, wait_s: float, as_json: bool) -> None:
    """How good the predictions of PROJECT were: kept, moved, relabelled, removed, added; seconds with and without.

    PROJECT may be a project's uid too, such as 3.1795312966, for one whose Label Studio is gone. The numbers are made
    anew within a minute or so of each change; docs/metrics.md says what they mean.
    """
    clients = clients_of(ctx)
    uid = metrics_of_project.uid_of(clients, project)
    if refresh:
        metrics_of_project.wait(clients, uid, metrics_of_project.refresh(clients, uid), wait_s=wait_s)
    found = metrics_of_project.summary(clients, uid)
    if as_json:
        print_json(found)
        return
    for line in show_metrics.lines(found):
        click.echo(line)
