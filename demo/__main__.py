"""`python -m demo`: the main job on a stack of its own, in a temporary folder. Exit status 0 only if every step holds."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import click

from bridge.errors import BridgeError
from demo import main_job
from demo.exporting import EXPORT_EVERY
from demo.steps import Report
from demo.world import World
from stack.machine import started, temporary_setup


@click.command()
@click.option(
    "--report", "report_path", default="demo-report.json", show_default=True, help="Where the report goes."
)
@click.option(
    "--folder", default=None, help="Keep the stack's data and logs in this folder (default: a temporary one)."
)
def main(report_path: str, folder: str | None) -> None:
    """Start every part on free ports, do the main job through the public interfaces, check each step, stop everything."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    report = Report(say=click.echo)
    with tempfile.TemporaryDirectory(prefix="demo-") as temporary:
        where = Path(folder or temporary)
        try:
            _run(where, report)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
        except Exception as error:  # every step's own failure is in the report already
            for line in getattr(error, "lines", ()):
                click.echo(f"    | {line}", err=True)
            kind = "" if isinstance(error, BridgeError) else f"{type(error).__name__}: "
            click.echo(f"demo: {kind}{error}", err=True)
            if folder is None and (where / "logs").exists():
                click.echo("run it again with --folder FOLDER to keep the logs", err=True)
    Path(report_path).write_text(json.dumps(report.to_json(), indent=1) + "\n")
    for name, value in report.figures.items():
        click.echo(f"{name} = {value}")
    failed = [step.name for step in report.steps if not step.ok]
    click.echo(
        f"{len(report.steps) - len(failed)} of {len(report.steps)} steps hold; report in {report_path}"
    )
    sys.exit(0 if report.ok and "submit_to_bucket_seconds_median" in report.figures else 1)


def _run(folder: Path, report: Report) -> None:
    began = time.monotonic()
    setup = temporary_setup(folder, os.environ, DEMO_PROJECT="no", EXPORT_EVERY_ANNOTATIONS=str(EXPORT_EVERY))
    with ExitStack() as running:
        with report.step("every part started and well") as detail:
            stack = running.enter_context(started(setup))
            detail.append("Redis, S3, Label Studio, ML backend, sidecar, workers, scheduler")
        report.figures["start_seconds"] = round(time.monotonic() - began, 1)
        try:
            main_job.run(World(setup, stack, report))
        finally:
            with report.step("every part stopped"):
                running.close()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
