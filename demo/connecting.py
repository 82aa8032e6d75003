"""Images in the bucket, a project, `connect`, the baseline, `sync`."""

from __future__ import annotations

from demo.steps import expect, wait_for
from demo.world import ANNOTATED, IN_BUCKET, SIZE, UPLOADED, World
from stack.machine import run_program
from stack.seed import LABEL_CONFIG


def put_images(world: World) -> None:
    with world.report.step("images put into the bucket") as detail:
        for number in IN_BUCKET:
            name = f"shapes-{number}.jpg"
            key = f"{world.setup.settings.storage_prefix}/{name}"
            world.store.put(key, world.draw(name, number), content_type="image/jpeg")
        detail.append(f"{len(IN_BUCKET)} pictures of {SIZE[0]}x{SIZE[1]} px")


def create_project(world: World) -> None:
    with world.report.step("project with uploads and annotations in it") as detail:
        body = {"title": "demo: main job", "label_config": LABEL_CONFIG, "show_collab_predictions": True}
        world.project = world.user.call("POST", "/api/projects", json=body)
        id = world.project["id"]
        files = [
            (f"upload-{n}.jpg", (f"upload-{n}.jpg", world.draw(f"upload-{n}.jpg", n), "image/jpeg"))
            for n in UPLOADED
        ]
        world.user.call("POST", f"/api/projects/{id}/import", files=files)
        tasks = []
        for number in ANNOTATED:
            name = f"annotated-{number}.jpg"
            key = f"references/{name}"
            world.store.put(key, world.draw(name, number), content_type="image/jpeg")
            annotation = {"result": world.result(name), "ground_truth": False, "lead_time": 4.2}
            skipped = {"result": [], "was_cancelled": True, "ground_truth": False}
            tasks.append(
                {
                    "data": {"image": f"s3://{world.setup.settings.bucket}/{key}"},
                    "annotations": [annotation, skipped] if number == ANNOTATED[0] else [annotation],
                    "predictions": [
                        {"result": world.result(name), "score": 0.5, "model_version": "imported"}
                    ],
                }
            )
        world.user.call("POST", f"/api/projects/{id}/import", json=tasks)
        count = sum(len(task["annotations"]) for task in world.user.tasks(id))
        expect(
            count == len(ANNOTATED) + 1,
            f"{count} annotations in Label Studio, expected {len(ANNOTATED) + 1}",
        )
        detail.append(
            f"project {id}: {len(UPLOADED)} uploads, {len(ANNOTATED)} tasks with {count} annotations"
        )


def connect(world: World) -> None:
    project = str(world.project["id"])
    with world.report.step("connect --dry-run changes nothing") as detail:
        planned = world.sidecar("connect", project, "--dry-run")
        hooks = world.user.call("GET", "/api/webhooks/", params={"project": project})
        expect(hooks == [], f"there are webhooks after a dry run: {hooks}")
        detail.append(f"{len(planned.splitlines())} lines of plan")
    with world.report.step("connect: webhook, ML backend, bucket, baseline") as detail:
        world.sidecar("connect", project)
        hooks = world.user.call("GET", "/api/webhooks/", params={"project": project})
        backends = world.user.call("GET", "/api/ml/", params={"project": project})
        storages = world.user.call("GET", "/api/storages/s3", params={"project": project})
        expect(
            [hook["url"] for hook in hooks] == [f"{world.setup.sidecar_url}/webhook"],
            f"webhooks: {hooks}",
        )
        expect(len(backends) == 1, f"{len(backends)} ML backends, expected 1")
        expect(len(storages) == 1 and storages[0]["presign"] is False, f"storages: {storages}")
        detail.append("1 webhook, 1 ML backend, 1 import storage (presign off)")
    with world.report.step("connect again: nothing to repair") as detail:
        world.sidecar("connect", project)
        again = world.user.call("GET", "/api/webhooks/", params={"project": project})
        expect([h["id"] for h in again] == [h["id"] for h in hooks], "the webhook was made again")
        detail.append("same webhook, backend and storage")

    with world.report.step("a personal access token does as well") as detail:
        token = world.user.call("POST", "/api/token/")["token"]
        world.personal_token = token.encode()
        done = run_program(
            world.setup, ["sidecar", "connect", project, "--dry-run"], LABEL_STUDIO_API_KEY=token
        )
        expect(done.returncode == 0, f"ended with {done.returncode}: {done.stdout}{done.stderr}")
        detail.append("legacy token above, personal access token here")


def check_baseline(world: World) -> None:
    id = world.project["id"]
    with world.report.step("baseline complete, old annotations in the log") as detail:
        wait_for("the baseline", lambda: world.status()["baseline"]["state"] == "complete", within_s=60)
        uid = world.status()["uid"]
        world.open_bucket(uid)
        tasks = world.user.tasks(id)
        world.tasks = {world.name(task): task for task in tasks}
        for task in tasks:
            expect(world.bucket.find("task", task["id"]) is not None, f"task {task['id']} is not in the log")
            for annotation in task["annotations"]:
                found = world.bucket.find("annotation", annotation["id"], result=annotation["result"])
                expect(found is not None, f"annotation {annotation['id']} is not in the log as it is")
            for prediction in task["predictions"]:
                found = world.bucket.find("prediction", prediction["id"], result=prediction["result"])
                expect(found is not None, f"prediction {prediction['id']} is not in the log")
        kinds = sorted({record["kind"] for record in world.bucket.records})
        expect({"project", "user", "storage"} <= set(kinds), f"kinds in the log: {kinds}")
        baseline = world.status()["baseline"]
        detail.append(f"baseline {baseline['done']} of {baseline['total']}; kinds: {', '.join(kinds)}")
    with world.report.step("uploaded files copied to media/") as detail:
        wait_for("media/", lambda: len(world.bucket.keys("media")) >= len(UPLOADED), within_s=30)
        stored = {world.store.get(key) for key in world.bucket.keys("media")}
        served = {
            world.user.fetch(task["data"]["image"]) for name, task in world.tasks.items() if "upload" in name
        }
        expect(served <= stored, "a file in media/ differs from what Label Studio serves")
        detail.append(f"{len(stored)} files, bytes equal")


def sync(world: World) -> None:
    id = world.project["id"]
    with world.report.step("tasks synced from the bucket into Label Studio") as detail:
        world.sidecar("sync", str(id))
        tasks = world.user.tasks(id)
        world.tasks = {world.name(task): task for task in tasks}
        expect(len(tasks) == len(world.drawn), f"{len(tasks)} tasks, expected {len(world.drawn)}")
        served = world.user.fetch(world.user.call("GET", f"/api/tasks/{synced_task(world)}")["data"]["image"])
        expect(served.startswith(b"\xff\xd8"), "Label Studio does not serve the picture's bytes")
        wait_for(
            "the new tasks in the log",
            lambda: all(world.bucket.find("task", task["id"]) for task in tasks),
            within_s=15,
        )
        detail.append(f"{len(IN_BUCKET)} new tasks, {len(tasks)} in all, each in the log")


def synced_task(world: World) -> int:
    return int(world.tasks[f"shapes-{IN_BUCKET[0]}.jpg"]["id"])


def disconnect(world: World) -> None:
    project = str(world.project["id"])
    with world.report.step("disconnect: no webhook, no ML backend, the record stays") as detail:
        world.sidecar("disconnect", project)
        for what in ("webhooks", "ml"):
            left = world.user.call("GET", f"/api/{what}/", params={"project": project})
            expect(left == [], f"left in {what}: {left}")
        detail.append(f"{len(world.bucket.keys('log'))} log objects stay")
