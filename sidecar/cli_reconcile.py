"""`python -m sidecar reconcile …`: compare the record with Label Studio now; see what was repaired."""

from __future__ import annotations

from typing import Any

import click

from bridge.errors import NotFound, SenderError, Unavailable
from bridge.progress import Progress
from bridge.reconcile import ACCEPT, DEPTHS, DRY_RUN, FULL, REPAIR
from sidecar import exports, reconciling, show_reconcile
from sidecar.command import as_json, clients_of, fail, print_json, says_errors


@click.command()
@click.argument("project", required=False)
@click.option("--all", "every", is_flag=True, help="All connected projects, one after the other.")
@click.option("--dry-run", is_flag=True, help="Show what would be repaired; change nothing.")
@click.option(
    "--accept-deletions",
    is_flag=True,
    help="Carry out deletions that were held because there are so many. Each is still confirmed with Label Studio.",
)
@click.option(
    "--depth",
    type=click.Choice(DEPTHS),
    default=FULL,
    show_default=True,
    help="Compare the tasks touched lately, all tasks by their counts, or everything.",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the result.")
@click.option(
    "--wait-seconds",
    "wait_s",
    type=click.FloatRange(0, 86400),
    default=reconciling.WAIT_S,
    show_default=True,
    help="How long to wait.",
)
@click.option(
    "--list", "only_list", is_flag=True, help="Compare nothing: show the newest repairs, and what is held."
)
@as_json
@click.pass_context
@says_errors
def reconcile(
    ctx: click.Context,
    project: str | None,
    every: bool,
    dry_run: bool,
    accept_deletions: bool,
    depth: str,
    wait: bool,
    wait_s: float,
    only_list: bool,
    as_json: bool,
) -> None:
    """Compare PROJECT in Label Studio with its record, and repair the record and the webhook.

    PROJECT is an id, a title, or a uid such as 3.1795312966 (also of a project that is gone). Exit code 1 when the
    comparison failed, or when deletions are held for a person to accept.
    """
    if dry_run and accept_deletions:
        raise SenderError("--dry-run and --accept-deletions exclude each other")
    clients = clients_of(ctx)
    if (project is None) != every and not only_list:
        raise click.UsageError("name a PROJECT, or --all")
    uids = [exports.uid_of(clients, project)] if project else reconciling.connected(clients)
    if only_list:
        found = reconciling.overview(clients, uids, count=100)
        if as_json:
            print_json(found)
        else:
            for line in show_reconcile.overview_lines(found):
                click.echo(line)
        return
    mode = DRY_RUN if dry_run else ACCEPT if accept_deletions else REPAIR
    bad: list[str] = []
    results: list[dict[str, Any]] = []
    for uid in uids:
        token, job_id = reconciling.ask(clients, uid, mode, depth)
        if not wait:
            results.append({"project": uid, "job": job_id, "state": "queued"})
            if not as_json:
                click.echo(f"{uid}: a worker compares it (job {job_id})")
            continue
        try:
            result = reconciling.wait(clients, token, job_id, wait_s=wait_s, say=_sayer(as_json))
        except (NotFound, Unavailable) as error:
            result = {"project": uid, "state": "failed", "message": str(error)}
        results.append(result)
        if not as_json:
            for line in show_reconcile.result_lines(result):
                click.echo(line)
        if result["state"] != "done":
            bad.append(f"{uid}: {result['message']}")
        elif result["held"]:
            bad.append(f"{uid}: deletions are held")
    if as_json:
        print_json(results[0] if project else results)
    if bad:
        fail("; ".join(bad))


def _sayer(quiet: bool) -> Any:
    said: list[str] = []

    def say(progress: Progress) -> None:
        line = show_reconcile.progress_words(progress)
        if not quiet and said[-1:] != [line]:
            said.append(line)
            click.echo(line, err=True)

    return say
