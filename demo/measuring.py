"""Model metrics against what was really done: one box moved, one relabelled, one removed, one added, the rest kept."""

from __future__ import annotations

import copy
import json
from typing import Any

from demo.looking import region
from demo.steps import expect
from demo.world import SIZE, World
from stack.seed import LABEL_CONFIG

PICTURES = (601, 602, 603, 604)
MOVED_PERCENT = 2.0
LABELS = ("circle", "square", "triangle")


def metrics(world: World) -> int:
    """Returns the id of a project in which three of four tasks have one annotation each."""
    with world.report.step("a project whose predictions a person corrects") as detail:
        project = _project(world)
        world.sidecar("connect", str(project))
        world.retrieve_predictions(project)
        tasks = world.user.tasks(project)
        predicted = {task["id"]: task["predictions"][0]["result"] for task in tasks}
        corrected = next((id for id, result in predicted.items() if len(result) >= 4), None)
        expect(
            corrected is not None, f"no picture has 4 predicted boxes: {[len(r) for r in predicted.values()]}"
        )
        untouched, unlabelled, without = [id for id in predicted if id != corrected][:3]
        _annotate(world, corrected, _corrected(predicted[corrected]), 12.0)
        _annotate(world, untouched, predicted[untouched], 4.0)
        _annotate(world, unlabelled, [], 6.0)
        detail.append(
            f"{len(predicted[corrected])} boxes: 1 moved, 1 relabelled, 1 removed, 1 added; "
            f"{len(predicted[untouched])} accepted; {len(predicted[unlabelled])} refused; task {without} left alone"
        )
    with world.report.step("metrics equal to what was done") as detail:
        world.settled(project)
        found = json.loads(world.sidecar("metrics", str(project), "--refresh", "--json"))
        expect(len(found["versions"]) == 1, f"{len(found['versions'])} model versions, expected 1")
        version: dict[str, Any] = found["versions"][0]
        boxes, accepted, refused = (len(predicted[id]) for id in (corrected, untouched, unlabelled))
        wanted = {
            "kept": boxes - 3 + accepted,
            "moved": 1,
            "relabelled": 1,
            "removed": 1 + refused,
            "added": 1,
            "annotations": 3,
            "predicted": boxes + accepted + refused,
        }
        seen = {name: version[name] for name in wanted}
        expect(seen == wanted, f"seen {seen}, done {wanted}")
        precision = (wanted["kept"] + 1) / wanted["predicted"]
        expect(
            abs(version["precision"] - precision) < 1e-3, f"precision {version['precision']}, is {precision}"
        )
        expect(version["human_seconds"]["median"] == 6.0, f"seconds: {version['human_seconds']}")
        same = world.api("GET", f"/api/projects/{project}/metrics").json()
        expect(same["versions"] == found["versions"], "the API says something else than the command line")
        detail.append(", ".join(f"{seen[name]} {name}" for name in wanted) + f"; precision {precision:.2f}")
    return project


def _project(world: World) -> int:
    """A project with four pictures of four shapes each."""
    project: dict[str, Any] = world.user.call(
        "POST", "/api/projects", json={"title": "demo: metrics", "label_config": LABEL_CONFIG}
    )
    tasks = []
    for number in PICTURES:
        name = f"metrics-{number}.jpg"
        key = f"references/{name}"
        world.store.put(key, world.draw(name, number, shapes=4), content_type="image/jpeg")
        tasks.append({"data": {"image": f"s3://{world.setup.settings.bucket}/{key}"}})
    world.user.call("POST", f"/api/projects/{project['id']}/import", json=tasks)
    return int(project["id"])


def _corrected(result: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As the page would send it: region ids stay."""
    kept = copy.deepcopy(result)
    kept[0]["value"]["x"] += MOVED_PERCENT if kept[0]["value"]["x"] < 50 else -MOVED_PERCENT
    label = kept[1]["value"]["rectanglelabels"][0]
    kept[1]["value"]["rectanglelabels"] = [next(other for other in LABELS if other != label)]
    del kept[2]
    return [*kept, region("circle", (2, 2, 14, 14), SIZE, "drawn-by-hand")]


def _annotate(world: World, task: int, result: list[dict[str, Any]], seconds: float) -> None:
    world.user.call("POST", f"/api/tasks/{task}/annotations", json={"result": result, "lead_time": seconds})
