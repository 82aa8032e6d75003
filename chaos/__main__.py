"""`python -m chaos --seed 7`: a storm, an account, a report. Exit code 0 only if nothing is missing, doubled, different."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click

from bridge.errors import BridgeError
from chaos import rebuild, storm
from chaos.label_studio import Said
from chaos.processes import NotUp
from chaos.world import Failed, running

SHOWN = 20


@click.command()
@click.option(
    "--seed", type=int, help="Of what people do and which faults come when (default: another each time)."
)
@click.option("--events", default=2000, show_default=True, type=click.IntRange(1), help="Changes by people.")
@click.option(
    "--faults", "fault_count", default=30, show_default=True, type=click.IntRange(0), help="With effect."
)
@click.option("--annotators", default=4, show_default=True, type=click.IntRange(1, 50))
@click.option("--rebuild/--no-rebuild", "rebuilds", default=True, help="Also: Label Studio lost and rebuilt.")
@click.option("--report", "report_path", default="chaos-report.json", show_default=True)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Of all data and logs; kept (default: a temporary one)."
)
@click.option(
    "--prepared",
    type=click.Path(path_type=Path),
    help="Keeps a fresh Label Studio for later runs, whose start then takes seconds.",
)
def main(
    seed: int | None,
    events: int,
    fault_count: int,
    annotators: int,
    rebuilds: bool,
    report_path: str,
    folder: Path | None,
    prepared: Path | None,
) -> None:
    """People at work on a real Label Studio while our parts are killed; then an account of every revision."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"{folder} is not empty: a run begins with nothing")
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    where = folder or Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    report: dict[str, Any] = {
        "ok": False,
        "seed": seed,
        "events": 0,
        "faults": 0,
        "missing": 0,
        "duplicated": 0,
        "differences": 0,
    }
    say(
        "chaos",
        f"seed {seed}: {events} events, {fault_count} faults, {annotators} annotators; logs in {where}/logs",
    )
    try:
        with running(where, os.environ, annotators=annotators, say=say, prepared=prepared) as world:
            happened = storm.run(world, seed=seed, events=events, fault_count=fault_count)
            account = happened.account
            report |= {
                "events": happened.ledger.events,
                "faults": len(happened.faults),
                "missing": len(account.missing),
                "duplicated": len(account.duplicated),
                "differences": len(account.differences),
                "faults_by_kind": dict(Counter(fault.kind for fault in happened.faults)),
                "events_by_kind": dict(happened.ledger.deeds),
                "effects": [f"{fault.kind}: {fault.effect}" for fault in happened.faults],
                "without_effect": happened.without_effect,
                "figures": happened.figures,
                "details": {
                    "missing": account.missing,
                    "duplicated": account.duplicated,
                    "differences": account.differences,
                },
                "ended_by_themselves": world.processes.died,
                "unclear_replies": happened.ledger.unclear_replies,
            }
            report["ok"] = account.ok
            if rebuilds:
                found = rebuild.run(world, happened)
                report["rebuild"] = found
                report["ok"] = report["ok"] and found["ok"]
    except (Failed, NotUp, Said, BridgeError) as error:
        report["error"] = str(error)
    except KeyboardInterrupt:
        report["error"] = "stopped"
    except (
        Exception
    ) as error:  # a bug of the test, or an answer of ours that it cannot read: no success either way
        traceback.print_exc()
        report["error"] = f"{type(error).__name__}: {error}"
    Path(report_path).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    _tell(report)
    if report["ok"] and folder is None:
        shutil.rmtree(where, ignore_errors=True)
    else:
        click.echo(f"logs and data: {where}   (again: make chaos SEED={seed})")
    click.echo(f"report: {report_path}")
    sys.exit(0 if report["ok"] else 1)


def say(name: str, line: str) -> None:
    click.echo(f"{datetime.now().astimezone():%H:%M:%S} {line}")


def _tell(report: dict[str, Any]) -> None:
    if words := report.get("error"):
        click.echo(f"could not be done: {words}")
    for part in ("missing", "duplicated", "differences"):
        for line in report.get("details", {}).get(part, [])[:SHOWN]:
            click.echo(f"  {part}: {line}")
    for line in report.get("rebuild", {}).get("findings", [])[:SHOWN]:
        click.echo(f"  rebuild: {line}")
    words = "all well" if report["ok"] else "NOT WELL"
    counts = ", ".join(
        f"{report[name]} {name}" for name in ("events", "faults", "missing", "duplicated", "differences")
    )
    click.echo(f"{words}: {counts}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
