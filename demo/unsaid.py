"""What webhooks never say: tasks that bring their annotations with them, predictions deleted in bulk, annotations that move
or become drafts, an edited task. `reconcile` finds each; then the record of the whole project equals Label Studio."""

from __future__ import annotations

import json
from typing import Any

from demo.steps import expect
from demo.world import World
from stack.seed import LABEL_CONFIG

FOLDER = "task-files"
PICTURES = ("annotated-501.jpg", "annotated-502.jpg", "annotated-503.jpg")
OTHER_CONFIG = LABEL_CONFIG.replace(
    '<Label value="triangle"', '<Label value="hexagon" background="#f58231"/>\n    <Label value="triangle"'
).strip()
"""Label Studio keeps it without the line's end behind it."""


def what_webhooks_never_say(world: World) -> None:
    tasks = _sync_annotated_tasks(world)
    _change_silently(world, tasks)
    with world.report.step("the record equals Label Studio, field by field") as detail:
        said = world.sidecar("archive", "verify", str(world.project["id"]), "--deep", "--json")
        counts = json.loads(said)["counts"]
        detail.append(f"{counts['log_objects']} log objects read, {counts['compared']} things compared")


def _sync_annotated_tasks(world: World) -> list[dict[str, Any]]:
    with world.report.step("a storage sync that brings annotations, reconciled") as detail:
        tasks = _sync(world)
        # As a person does it, of the tasks that were touched lately; it waits for the result.
        world.sidecar("reconcile", str(world.project["id"]), "--depth", "incremental")
        sources = set()
        for task in tasks:
            expect(world.bucket.find("task", task["id"]) is not None, f"task {task['id']} is not in the log")
            for kind in ("annotation", "prediction"):
                for thing in task[f"{kind}s"]:
                    found = world.bucket.find(kind, thing["id"], result=thing["result"])
                    expect(found is not None, f"{kind} {thing['id']} is not in the log as it is")
                    sources.add("" if found is None else found["source"])
        expect(sources == {"reconcile"}, f"what the sync brought came into the log by {sources}")
        detail.append(f"{len(tasks)} task files, each with an annotation and a prediction")
    return tasks


def _sync(world: World) -> list[dict[str, Any]]:
    """JSON files in the bucket, each a task with an annotation and a prediction; the last one's data are the first one's.
    Returns the tasks that Label Studio made of them, in the order of the files."""
    project = world.project["id"]
    for number, name in enumerate((*PICTURES, PICTURES[0])):
        result = world.result(name)
        body = {
            "data": {"image": f"s3://{world.setup.settings.bucket}/references/{name}"},
            "annotations": [{"result": result[number % 2 :], "lead_time": 2.5 + number}],
            "predictions": [{"result": result, "score": 0.25, "model_version": "elsewhere"}],
        }
        world.store.put(f"{FOLDER}/{number}.json", json.dumps(body).encode(), content_type="application/json")
    before = {task["id"] for task in world.user.tasks(project)}
    storage = world.user.call(
        "POST",
        "/api/storages/s3",
        json={
            "project": project,
            "title": "tasks with their annotations",
            "bucket": world.setup.settings.bucket,
            "prefix": FOLDER,
            "regex_filter": ".*\\.json",
            "use_blob_urls": False,
            "presign": False,
            "s3_endpoint": world.setup.s3_url,
            "aws_access_key_id": world.secrets["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": world.secrets["AWS_SECRET_ACCESS_KEY"],
        },
    )
    world.user.call("POST", f"/api/storages/s3/{storage['id']}/sync", json={})
    tasks = sorted(
        (task for task in world.user.tasks(project) if task["id"] not in before),
        key=lambda task: int(task["id"]),
    )
    counts = [(len(task["annotations"]), len(task["predictions"])) for task in tasks]
    expect(counts == [(1, 1)] * 4, f"annotations and predictions of the synced tasks: {counts}")
    return tasks


def _change_silently(world: World, tasks: list[dict[str, Any]]) -> None:
    project, bucket = world.project["id"], world.bucket
    first, second, third, same_as_first = tasks
    with world.report.step("changes without a webhook, reconciled") as detail:
        gone = [task["predictions"][0]["id"] for task in (first, second)]
        _action(world, "delete_tasks_predictions", [first, second])
        draft_of, moved = third["annotations"][0]["id"], same_as_first["annotations"][0]["id"]
        world.user.call("POST", f"/api/annotations/{draft_of}/convert-to-draft", json={})
        _action(world, "remove_duplicates", tasks)
        world.user.call("PATCH", f"/api/tasks/{second['id']}/", json={"meta": {"checked": True}})
        world.user.call("PATCH", f"/api/projects/{project}/", json={"label_config": OTHER_CONFIG})
        now = {task["id"]: task for task in world.user.tasks(project)}
        there = [annotation["id"] for annotation in now[first["id"]]["annotations"]]
        expect(moved in there, f"annotation {moved} did not move to task {first['id']}: {there}")
        drafts = [draft["id"] for draft in now[third["id"]]["drafts"]]
        expect(len(drafts) == 1, f"drafts after convert-to-draft: {drafts}")

        world.sidecar("reconcile", str(project))

        wanted = {
            f"prediction {gone[0]} deleted": bucket.find("prediction", gone[0], op="delete"),
            f"prediction {gone[1]} deleted": bucket.find("prediction", gone[1], op="delete"),
            f"annotation {draft_of} deleted": bucket.find("annotation", draft_of, op="delete"),
            f"draft {drafts[0]}": bucket.find("draft", drafts[0]),
            f"annotation {moved} on another task": bucket.find("annotation", moved, task=first["id"]),
            f"task {second['id']} edited": bucket.find("task", second["id"], meta={"checked": True}),
            "the new label config": bucket.find("project", project, label_config=OTHER_CONFIG),
        }
        lacking = [what for what, found in wanted.items() if found is None]
        expect(not lacking, f"not in the log: {', '.join(lacking)}")
        detail.append("2 predictions deleted, 1 annotation moved, 1 made a draft; task, label config edited")


def _action(world: World, action: str, tasks: list[dict[str, Any]]) -> None:
    """What a button of Label Studio's data manager does to chosen tasks."""
    project = world.project["id"]
    world.user.call(
        "POST",
        "/api/dm/actions",
        params={"id": action, "project": project},
        json={
            "selectedItems": {"all": False, "included": [task["id"] for task in tasks]},
            "project": str(project),
        },
    )
