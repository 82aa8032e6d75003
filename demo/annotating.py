"""People at work: each change in the log within two seconds, the newest in current/."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

from demo.steps import expect, wait_for
from demo.world import IN_BUCKET, World

SUBMITS = 20


def annotate(world: World) -> None:
    names = [f"shapes-{number}.jpg" for number in IN_BUCKET]
    task = world.tasks[names[0]]["id"]
    created = submit(
        world,
        "an annotation created",
        "POST",
        f"/api/tasks/{task}/annotations",
        result=world.result(names[0]),
        lead_time=3.5,
    )
    path = f"/api/annotations/{created['id']}/"
    for number in (1, 2):
        moved = world.result(names[0])
        moved[0]["value"]["x"] = float(number)
        submit(world, f"updated, time {number}", "PATCH", path, result=moved)
    with world.report.step("newest revision in current/") as detail:
        wait_for("current/", lambda: current_x(world, created["id"]) == 2.0, within_s=10)
        revisions = [
            r for r in world.bucket.look() if r["kind"] == "annotation" and r["id"] == str(created["id"])
        ]
        expect(len(revisions) == 3, f"{len(revisions)} revisions in the log, expected 3")
        detail.append(f"3 revisions in the log, the newest in current/annotations/{created['id']}.json")
    submit(
        world,
        "skipped",
        "POST",
        f"/api/tasks/{world.tasks[names[1]]['id']}/annotations",
        result=[],
        was_cancelled=True,
    )
    with world.report.step("an annotation deleted") as detail:
        began = time.monotonic()
        world.user.call("DELETE", path)
        wait_for(
            "the delete in the log",
            lambda: world.bucket.find("annotation", created["id"], op="delete"),
            within_s=10,
        )
        seconds = time.monotonic() - began
        world.latencies.append(seconds)
        wait_for("gone from current/", lambda: world.bucket.current(created["id"]) is None, within_s=10)
        detail.append(
            f"in the log after {seconds:.2f} s, gone from current/, every revision still in the log"
        )


def current_x(world: World, annotation_id: int) -> float | None:
    found = world.bucket.current(annotation_id)
    return None if found is None else float(found["result"][0]["value"]["x"])


def submit(world: World, name: str, method: str, path: str, **body: Any) -> dict[str, Any]:
    """One change by a person, and the seconds until the bucket has it."""
    with world.report.step(f"{name}: in the log within 2 s") as detail:
        began = time.monotonic()
        annotation: dict[str, Any] = world.user.call(method, path, json=body)
        wanted = {key: value for key, value in body.items() if key != "lead_time"}
        wait_for(
            "the revision in the log",
            lambda: world.bucket.find("annotation", annotation["id"], **wanted),
            within_s=10,
            every_s=0.02,
        )
        seconds = time.monotonic() - began
        world.latencies.append(seconds)
        detail.append(f"{seconds:.2f} s")
        expect(seconds < 2, f"took {seconds:.2f} s")
    return annotation


def measure_submits(world: World) -> None:
    with world.report.step("seconds from submit to bucket") as detail:
        names = [f"shapes-{number}.jpg" for number in IN_BUCKET]
        for number in range(SUBMITS):
            name = names[number % len(names)]
            path = f"/api/tasks/{world.tasks[name]['id']}/annotations"
            began = time.monotonic()
            annotation = world.user.call("POST", path, json={"result": world.result(name)})
            wait_for(
                "the annotation in the log",
                partial(world.bucket.find, "annotation", annotation["id"]),
                within_s=10,
                every_s=0.02,
            )
            world.latencies.append(time.monotonic() - began)
        median, worst = statistics.median(world.latencies), max(world.latencies)
        world.report.figures["submit_to_bucket_seconds_median"] = round(median, 3)
        world.report.figures["submit_to_bucket_seconds_worst"] = round(worst, 3)
        world.report.figures["submits_measured"] = len(world.latencies)
        detail.append(f"median {median:.2f} s, worst {worst:.2f} s of {len(world.latencies)}")
        expect(worst < 2, f"the worst took {worst:.2f} s")
