"""What our command line says of a project's record. The only way by which the oracle looks at us."""

from __future__ import annotations

import json
from typing import Any

from chaos.world import Failed, World

Json = dict[str, Any]
META = "restored_from"
"""Where in a task's meta a restore notes what Label Studio does not take back (`sidecar restore --help`)."""


def uid_of(world: World, project: int) -> str:
    """The uid of a project that Label Studio has."""
    for line in json.loads(world.must("status", str(project), "--json"))["projects"]:
        if line["id"] == project:
            return str(line["uid"])
    raise Failed(f"status knows no project {project}")


def reconcile(world: World, project: str) -> Json:
    """Compare all of a project with Label Studio and repair the record; the report. What is held for a person is
    accepted: the annotators did delete it. Raises Failed when the comparison was not done."""
    code, printed, errors = world.command("reconcile", project, "--json")
    report = _object(printed)
    if code and report.get("state") == "done" and report.get("held"):
        world.say("chaos", f"held for a person, and accepted: {report['held']}")
        code, printed, errors = world.command("reconcile", project, "--json", "--accept-deletions")
        report = _object(printed)
    if code or report.get("state") != "done":
        raise Failed(f"reconcile ended with {code}: {report or printed[-500:]} {errors[-1500:]}")
    return report


def repaired(report: Json) -> str:
    """A report of `reconcile` in a line."""
    counts = ", ".join(f"{number} {name}" for name, number in sorted(report["counts"].items()))
    return f"{report['repaired']} repaired ({counts or 'nothing'}), {report['requests']} requests"


def snapshots(world: World, project: str) -> int:
    """Have one made of all that is in the log now, for `archive verify` to compare with it; how many there are."""
    world.must("archive", "snapshot", project, "--wait", "--wait-s", "180")
    found = json.loads(world.must("archive", "snapshots", project, "--json"))
    return len(found)


def verify(world: World, project: str) -> list[str]:
    """What `archive verify --deep` finds, one line each; its exit code is held to what it says."""
    code, printed, errors = world.command("archive", "verify", project, "--deep", "--json")
    report = _object(printed)
    if not report:
        return [f"archive verify ended with {code} and says: {errors[-500:]}"]
    found = [f"archive verify: {json.dumps(one, ensure_ascii=False)[:400]}" for one in report["differences"]]
    found += [f"archive verify did not look at {part}: {why}" for part, why in report["skipped"].items()]
    if code and not found:
        found.append(f"archive verify ended with {code}: {errors[-500:]}")
    return found


def state(world: World, project: str) -> dict[str, list[Json]]:
    """By kind, what is alive, each as the record keeps it: Label Studio's own JSON."""
    found: dict[str, list[Json]] = {}
    for line in world.must("archive", "dump", project).splitlines():
        thing = json.loads(line)
        found.setdefault(thing["kind"], []).append(thing["data"] | {"id": _id(thing["id"])})
    return found


def log(world: World, project: str) -> list[Json]:
    """Every record of the log, in the order it was written."""
    return [json.loads(line) for line in world.must("archive", "log", project).splitlines()]


def restore(world: World, project: str) -> tuple[int, list[str]]:
    """Bring a project back; the new project's id, and what the command itself says went wrong."""
    code, printed, errors = world.command("restore", project, "--yes", "--json")
    report = _object(printed)
    if "report" not in report:
        raise Failed(f"restore ended with {code}: {printed[-500:]} {errors[-1500:]}")
    said = report["report"]
    found = [] if code == 0 else [f"restore ended with {code}: {errors[-1000:]} {json.dumps(said)[:1500]}"]
    return int(said["project"]["id"]), found


def _id(id: str) -> int | str:
    return int(id) if id.isdecimal() else id


def _object(printed: str) -> Json:
    """The JSON object that a command printed, or {} when it is none."""
    try:
        found = json.loads(printed)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
