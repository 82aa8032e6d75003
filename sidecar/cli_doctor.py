"""`python -m sidecar doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bridge.settings import SidecarSettings
from sidecar.cli_bucket import ENVIRONMENT
from sidecar.clients import open_clients
from sidecar.command import as_json, fail, print_json, says_errors
from sidecar.doctor.checks import Check, Report
from sidecar.doctor.examine import examine

if TYPE_CHECKING:
    from bridge.edges.s3_probe import Probe

_COLOURS = {"ok": "green", "info": None, "warn": "yellow", "fail": "red"}


@click.command()
@click.option("--thorough", is_flag=True, help="Also send 6 MiB in two parts.")
@as_json
@click.pass_context
@says_errors
def doctor(ctx: click.Context, thorough: bool, as_json: bool) -> None:
    """Look at settings, Redis, Label Studio, each connected project and the bucket; say what to do.

    Nothing is changed; what it writes below {BUCKET_PREFIX}/doctor/ is deleted again. Exit code 1 when anything needed
    fails.
    """
    found, area = [], ""
    for check in examine(ctx.meta[ENVIRONMENT](), open_clients, _probe, thorough=thorough):
        found.append(check)
        if as_json:
            continue
        if check.area != area:
            area = check.area
            click.secho(f"{area}", bold=True)
        click.echo(check_lines(check))
    report = Report(checks=found)
    if as_json:
        print_json(report.to_json())
    if not report.ok:
        fail(f"{len(report.failed)} of {len(found)} checks failed; each says what to do")
    if not as_json:
        warned = sum(check.result == "warn" for check in found)
        warnings = f"; {warned} warning{'s' if warned > 1 else ''}" if warned else ""
        click.echo(f"All that is needed is well{warnings}.")


def _probe(settings: SidecarSettings) -> Probe:
    from bridge.edges.s3_probe import Probe

    return Probe(settings.s3)


def check_lines(check: Check) -> str:
    """One line, and one more with the remedy."""
    word = click.style(f"{check.result:<4}", fg=_COLOURS[check.result])
    line = f"  {word}  {check.name:<18}  {check.text}"
    return f"{line}\n{'':28}→ {check.remedy}" if check.remedy else line
