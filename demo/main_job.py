"""The main job, end to end, as its users do it: through Label Studio's API, the bucket, HTTP and the command line."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import httpx

from demo.looking import Bucket, LabelStudioUser, best_ious, jpeg, region, shown_boxes
from demo.pictures import Picture, draw_picture, shipped_photos
from demo.steps import Report, StepFailed, expect, wait_for
from stack.machine import run_program, store_of
from stack.seed import LABEL_CONFIG
from stack.settings import Setup, program_environment
from stack.supervisor import Stack

IN_BUCKET = range(301, 317)
UPLOADED = range(401, 405)
ANNOTATED = range(501, 504)
SIZE = (640, 480)
SUBMITS = 20
GOOD_IOU = 0.7
SECRETS = ("WEBHOOK_SECRET", "API_TOKEN", "LABEL_STUDIO_API_KEY", "AWS_SECRET_ACCESS_KEY", "BASIC_AUTH_PASS")


class MainJob:
    """The demo of one stack. `run` goes through every step; the first that does not hold ends it."""

    def __init__(self, setup: Setup, stack: Stack, report: Report) -> None:
        self._setup = setup
        self._stack = stack
        self._report = report
        environment = program_environment(setup)
        self._secrets = environment
        self._user = LabelStudioUser(setup.label_studio_url, environment["LABEL_STUDIO_API_KEY"])
        self._store = store_of(setup)
        self._drawn: dict[str, Picture] = {}
        self._project: dict[str, Any] = {}
        self._tasks: dict[str, dict[str, Any]] = {}
        self._latencies: list[float] = []

    def run(self) -> None:
        self._put_images()
        self._create_project()
        self._connect()
        self._check_baseline()
        self._sync()
        self._predict()
        self._annotate()
        self._measure_submits()
        self._webhook_twice()
        self._wrong_secret()
        self._unreadable_body()
        self._redis_killed()
        self._no_secrets()
        self._disconnect()

    # -- steps ---------------------------------------------------------------------------------------------

    def _put_images(self) -> None:
        with self._report.step("images put into the bucket") as detail:
            for number in IN_BUCKET:
                name = f"shapes-{number}.jpg"
                key = f"{self._setup.settings.storage_prefix}/{name}"
                self._store.put(key, self._draw(name, number), content_type="image/jpeg")
            detail.append(f"{len(IN_BUCKET)} pictures of {SIZE[0]}x{SIZE[1]} px")

    def _draw(self, name: str, seed: int) -> bytes:
        picture = draw_picture(seed, SIZE, photos=shipped_photos())
        self._drawn[name] = picture
        return jpeg(picture.image)

    def _create_project(self) -> None:
        with self._report.step("project with uploads and annotations in it") as detail:
            body = {"title": "demo: main job", "label_config": LABEL_CONFIG, "show_collab_predictions": True}
            self._project = self._user.call("POST", "/api/projects", json=body)
            id = self._project["id"]
            files = [
                (f"upload-{n}.jpg", (f"upload-{n}.jpg", self._draw(f"upload-{n}.jpg", n), "image/jpeg"))
                for n in UPLOADED
            ]
            self._user.call("POST", f"/api/projects/{id}/import", files=files)
            tasks = []
            for number in ANNOTATED:
                name = f"annotated-{number}.jpg"
                key = f"references/{name}"
                self._store.put(key, self._draw(name, number), content_type="image/jpeg")
                annotation = {"result": self._result(name), "ground_truth": False, "lead_time": 4.2}
                skipped = {"result": [], "was_cancelled": True, "ground_truth": False}
                tasks.append(
                    {
                        "data": {"image": f"s3://{self._setup.settings.bucket}/{key}"},
                        "annotations": [annotation, skipped] if number == ANNOTATED[0] else [annotation],
                        "predictions": [
                            {"result": self._result(name), "score": 0.5, "model_version": "imported"}
                        ],
                    }
                )
            self._user.call("POST", f"/api/projects/{id}/import", json=tasks)
            count = sum(len(task["annotations"]) for task in self._user.tasks(id))
            expect(
                count == len(ANNOTATED) + 1,
                f"{count} annotations in Label Studio, expected {len(ANNOTATED) + 1}",
            )
            detail.append(
                f"project {id}: {len(UPLOADED)} uploads, {len(ANNOTATED)} tasks with {count} annotations"
            )

    def _result(self, name: str) -> list[dict[str, Any]]:
        boxes = self._drawn[name].boxes
        return [region(label, box, SIZE, f"r{number}") for number, (label, box) in enumerate(boxes)]

    def _connect(self) -> None:
        project = str(self._project["id"])
        with self._report.step("connect --dry-run changes nothing") as detail:
            planned = self._sidecar("connect", project, "--dry-run")
            hooks = self._user.call("GET", "/api/webhooks/", params={"project": project})
            expect(hooks == [], f"there are webhooks after a dry run: {hooks}")
            detail.append(f"{len(planned.splitlines())} lines of plan")
        with self._report.step("connect: webhook, ML backend, bucket, baseline") as detail:
            self._sidecar("connect", project)
            hooks = self._user.call("GET", "/api/webhooks/", params={"project": project})
            backends = self._user.call("GET", "/api/ml/", params={"project": project})
            storages = self._user.call("GET", "/api/storages/s3", params={"project": project})
            expect(
                [hook["url"] for hook in hooks] == [f"{self._setup.sidecar_url}/webhook"],
                f"webhooks: {hooks}",
            )
            expect(len(backends) == 1, f"{len(backends)} ML backends, expected 1")
            expect(len(storages) == 1 and storages[0]["presign"] is False, f"storages: {storages}")
            detail.append("1 webhook, 1 ML backend, 1 import storage (presign off)")
        with self._report.step("connect again: nothing to repair") as detail:
            self._sidecar("connect", project)
            again = self._user.call("GET", "/api/webhooks/", params={"project": project})
            expect([h["id"] for h in again] == [h["id"] for h in hooks], "the webhook was made again")
            detail.append("same webhook, backend and storage")

        with self._report.step("a personal access token does as well") as detail:
            token = self._user.call("POST", "/api/token/")["token"]
            self._personal_token = token.encode()
            done = run_program(
                self._setup, ["sidecar", "connect", project, "--dry-run"], LABEL_STUDIO_API_KEY=token
            )
            expect(done.returncode == 0, f"ended with {done.returncode}: {done.stdout}{done.stderr}")
            detail.append("legacy token above, personal access token here")

    def _check_baseline(self) -> None:
        id = self._project["id"]
        with self._report.step("baseline complete, old annotations in the log") as detail:
            wait_for("the baseline", lambda: self._status()["baseline"]["state"] == "complete", within_s=60)
            uid = self._status()["uid"]
            self._bucket = Bucket(self._store, f"projects/{uid}/")
            tasks = self._user.tasks(id)
            self._tasks = {self._name(task): task for task in tasks}
            for task in tasks:
                expect(
                    self._bucket.find("task", task["id"]) is not None, f"task {task['id']} is not in the log"
                )
                for annotation in task["annotations"]:
                    found = self._bucket.find("annotation", annotation["id"], result=annotation["result"])
                    expect(found is not None, f"annotation {annotation['id']} is not in the log as it is")
                for prediction in task["predictions"]:
                    found = self._bucket.find("prediction", prediction["id"], result=prediction["result"])
                    expect(found is not None, f"prediction {prediction['id']} is not in the log")
            kinds = sorted({record["kind"] for record in self._bucket.records})
            expect({"project", "user", "storage"} <= set(kinds), f"kinds in the log: {kinds}")
            baseline = self._status()["baseline"]
            detail.append(f"baseline {baseline['done']} of {baseline['total']}; kinds: {', '.join(kinds)}")
        with self._report.step("uploaded files copied to media/") as detail:
            wait_for("media/", lambda: len(self._bucket.keys("media")) >= len(UPLOADED), within_s=30)
            stored = {self._store.get(key) for key in self._bucket.keys("media")}
            served = {
                self._user.fetch(task["data"]["image"])
                for name, task in self._tasks.items()
                if "upload" in name
            }
            expect(served <= stored, "a file in media/ differs from what Label Studio serves")
            detail.append(f"{len(stored)} files, bytes equal")

    def _name(self, task: dict[str, Any]) -> str:
        """Which drawn picture a task shows; Label Studio puts a random word before an upload's name."""
        stored: str = task["data"]["image"].rpartition("/")[2]
        return next(name for name in self._drawn if stored == name or stored.endswith(f"-{name}"))

    def _sync(self) -> None:
        id = self._project["id"]
        with self._report.step("tasks synced from the bucket into Label Studio") as detail:
            self._sidecar("sync", str(id))
            tasks = self._user.tasks(id)
            self._tasks = {self._name(task): task for task in tasks}
            expect(len(tasks) == len(self._drawn), f"{len(tasks)} tasks, expected {len(self._drawn)}")
            served = self._user.fetch(
                self._user.call("GET", f"/api/tasks/{self._synced_task()}")["data"]["image"]
            )
            expect(served.startswith(b"\xff\xd8"), "Label Studio does not serve the picture's bytes")
            wait_for(
                "the new tasks in the log",
                lambda: all(self._bucket.find("task", task["id"]) for task in tasks),
                within_s=15,
            )
            detail.append(f"{len(IN_BUCKET)} new tasks, {len(tasks)} in all, each in the log")

    def _synced_task(self) -> int:
        return int(self._tasks[f"shapes-{IN_BUCKET[0]}.jpg"]["id"])

    def _predict(self) -> None:
        id = self._project["id"]
        with self._report.step("predictions shown on every task") as detail:
            began = time.monotonic()
            self._user.call(
                "POST",
                "/api/dm/actions",
                params={"id": "retrieve_tasks_predictions", "project": id},
                json={"selectedItems": {"all": True, "excluded": []}, "project": str(id)},
            )
            seconds = time.monotonic() - began
            ours = {
                self._name(task): [p for p in task["predictions"] if p["model_version"] != "imported"]
                for task in self._user.tasks(id)
            }
            missing = [name for name, predictions in ours.items() if not predictions]
            expect(not missing, f"no prediction for {missing}")
            versions = {p["model_version"] for predictions in ours.values() for p in predictions}
            expect(len(versions) == 1, f"several model versions in one run: {versions}")
            rate = len(ours) / seconds
            self._report.figures["predictions_per_second"] = round(rate, 1)
            detail.append(
                f"{len(ours)} tasks in {seconds:.1f} s ({rate:.1f} a second), version {versions.pop()}"
            )
        with self._report.step("predictions on the right pixels (IoU)") as detail:
            ious: list[float] = []
            extra = 0
            for name, predictions in ours.items():
                drawn = self._drawn[name].boxes
                shown = shown_boxes(predictions[0]["result"])
                expect(
                    all(r["original_width"] == SIZE[0] for r in predictions[0]["result"]),
                    f"{name}: wrong image size",
                )
                ious += best_ious(drawn, shown)
                extra += max(0, len(shown) - len(drawn))
            found = sum(value >= GOOD_IOU for value in ious) / len(ious)
            self._report.figures["shapes_drawn"] = len(ious)
            self._report.figures["shapes_found"] = round(found, 3)
            self._report.figures["median_iou"] = round(statistics.median(ious), 3)
            detail.append(
                f"{found:.0%} of {len(ious)} shapes, median IoU {statistics.median(ious):.2f}, {extra} extra"
            )
            expect(found >= 0.85, f"only {found:.0%} of the shapes have a box of IoU {GOOD_IOU} or more")
            expect(extra <= len(ious) // 5, f"{extra} boxes where nothing was drawn")
        with self._report.step("predicting again repeats nothing"):
            self._user.call(
                "POST",
                "/api/dm/actions",
                params={"id": "retrieve_tasks_predictions", "project": id},
                json={"selectedItems": {"all": True, "excluded": []}, "project": str(id)},
            )
            counts = {
                len([p for p in task["predictions"] if p["model_version"] != "imported"])
                for task in self._user.tasks(id)
            }
            expect(counts == {1}, f"predictions a task: {counts}, expected 1")
        with self._report.step("what the model did is in the log") as detail:
            wait_for(
                "inference records",
                lambda: sum(r["kind"] == "inference" for r in self._bucket.look()) >= len(ours),
                within_s=15,
            )
            detail.append(f"{sum(r['kind'] == 'inference' for r in self._bucket.records)} inference records")

    def _annotate(self) -> None:
        names = [f"shapes-{number}.jpg" for number in IN_BUCKET]
        task = self._tasks[names[0]]["id"]
        created = self._submit(
            "an annotation created",
            "POST",
            f"/api/tasks/{task}/annotations",
            result=self._result(names[0]),
            lead_time=3.5,
        )
        path = f"/api/annotations/{created['id']}/"
        for number in (1, 2):
            moved = self._result(names[0])
            moved[0]["value"]["x"] = float(number)
            self._submit(f"updated, time {number}", "PATCH", path, result=moved)
        with self._report.step("newest revision in current/") as detail:
            wait_for("current/", lambda: self._current_x(created["id"]) == 2.0, within_s=10)
            revisions = [
                r for r in self._bucket.look() if r["kind"] == "annotation" and r["id"] == str(created["id"])
            ]
            expect(len(revisions) == 3, f"{len(revisions)} revisions in the log, expected 3")
            detail.append(f"3 revisions in the log, the newest in current/annotations/{created['id']}.json")
        self._submit(
            "skipped",
            "POST",
            f"/api/tasks/{self._tasks[names[1]]['id']}/annotations",
            result=[],
            was_cancelled=True,
        )
        with self._report.step("an annotation deleted") as detail:
            began = time.monotonic()
            self._user.call("DELETE", path)
            wait_for(
                "the delete in the log",
                lambda: self._bucket.find("annotation", created["id"], op="delete"),
                within_s=10,
            )
            seconds = time.monotonic() - began
            self._latencies.append(seconds)
            wait_for("gone from current/", lambda: self._bucket.current(created["id"]) is None, within_s=10)
            detail.append(
                f"in the log after {seconds:.2f} s, gone from current/, every revision still in the log"
            )

    def _current_x(self, annotation_id: int) -> float | None:
        found = self._bucket.current(annotation_id)
        return None if found is None else float(found["result"][0]["value"]["x"])

    def _submit(self, name: str, method: str, path: str, **body: Any) -> dict[str, Any]:
        """One change by a person, and the seconds until the bucket has it."""
        with self._report.step(f"{name}: in the log within 2 s") as detail:
            began = time.monotonic()
            annotation: dict[str, Any] = self._user.call(method, path, json=body)
            wanted = {key: value for key, value in body.items() if key != "lead_time"}
            wait_for(
                "the revision in the log",
                lambda: self._bucket.find("annotation", annotation["id"], **wanted),
                within_s=10,
                every_s=0.02,
            )
            seconds = time.monotonic() - began
            self._latencies.append(seconds)
            detail.append(f"{seconds:.2f} s")
            expect(seconds < 2, f"took {seconds:.2f} s")
        return annotation

    def _measure_submits(self) -> None:
        with self._report.step("seconds from submit to bucket") as detail:
            names = [f"shapes-{number}.jpg" for number in IN_BUCKET]
            for number in range(SUBMITS):
                name = names[number % len(names)]
                path = f"/api/tasks/{self._tasks[name]['id']}/annotations"
                began = time.monotonic()
                annotation = self._user.call("POST", path, json={"result": self._result(name)})
                wait_for(
                    "the annotation in the log",
                    lambda id=annotation["id"]: self._bucket.find("annotation", id),
                    within_s=10,
                    every_s=0.02,
                )
                self._latencies.append(time.monotonic() - began)
            median, worst = statistics.median(self._latencies), max(self._latencies)
            self._report.figures["submit_to_bucket_seconds_median"] = round(median, 3)
            self._report.figures["submit_to_bucket_seconds_worst"] = round(worst, 3)
            self._report.figures["submits_measured"] = len(self._latencies)
            detail.append(f"median {median:.2f} s, worst {worst:.2f} s of {len(self._latencies)}")
            expect(worst < 2, f"the worst took {worst:.2f} s")

    def _body_of_a_webhook(self) -> dict[str, Any]:
        task = next(task for task in self._user.tasks(self._project["id"]) if task["annotations"])
        project = self._user.call("GET", f"/api/projects/{self._project['id']}/")
        return {
            "action": "ANNOTATION_UPDATED",
            "annotation": task["annotations"][0],
            "task": {
                name: value for name, value in task.items() if name not in ("annotations", "predictions")
            },
            "project": project | {"updated_at": project["created_at"], "token": "an-invite-token"},
        }

    def _post(self, body: bytes, secret: str | None = None) -> httpx.Response:
        return httpx.post(
            f"{self._setup.sidecar_url}/webhook",
            content=body,
            headers={
                "X-Webhook-Secret": secret or self._secrets["WEBHOOK_SECRET"],
                "Content-Type": "application/json",
            },
            timeout=10,
            trust_env=False,
        )

    def _settled(self) -> None:
        """Nothing waits: what was accepted is in the log."""
        wait_for("an empty stream", lambda: self._status()["waiting"] == 0, within_s=15, every_s=0.2)
        time.sleep(0.3)

    def _webhook_twice(self) -> None:
        with self._report.step("the same webhook twice changes nothing") as detail:
            body = json.dumps(self._body_of_a_webhook()).encode()
            expect(self._post(body).status_code == 202, "the webhook was not accepted")
            self._settled()
            objects = self._bucket.keys("log")
            answers = [self._post(body).status_code for _ in range(2)]
            self._settled()
            expect(answers == [202, 202], f"answers: {answers}")
            expect(self._bucket.keys("log") == objects, "a repeated delivery wrote to the log")
            detail.append(f"{len(objects)} log objects before and after")

    def _wrong_secret(self) -> None:
        with self._report.step("a wrong webhook secret gets 401, leaves no trace") as detail:
            before = (self._bucket.keys("log"), self._overall()["quarantine"])
            forged = self._body_of_a_webhook()
            forged["annotation"] |= {"result": [], "updated_at": "2099-01-01T00:00:00Z"}
            answer = self._post(json.dumps(forged).encode(), "not-the-secret")
            expect(answer.status_code == 401, f"answered {answer.status_code}")
            self._settled()
            after = (self._bucket.keys("log"), self._overall()["quarantine"])
            expect(before == after, "the forged webhook left a trace")
            detail.append(answer.json()["error"][:60])

    def _unreadable_body(self) -> None:
        with self._report.step("an unreadable body is quarantined, the next arrives") as detail:
            before = self._overall()["quarantine"]
            expect(
                self._post(b'{"action": "ANNOTATION_CREATED", "annotation": {').status_code == 202,
                "not accepted",
            )
            after = self._overall()["quarantine"]
            expect(after == before + 1, f"quarantine {before} -> {after}")
            name = f"shapes-{IN_BUCKET[2]}.jpg"
            path = f"/api/tasks/{self._tasks[name]['id']}/annotations"
            annotation = self._user.call("POST", path, json={"result": self._result(name)})
            wait_for("the next one", lambda: self._bucket.find("annotation", annotation["id"]), within_s=5)
            detail.append(f"quarantine {before} -> {after}")

    def _redis_killed(self) -> None:
        """Beyond the main job: the promise is kept when a part dies while a person works."""
        if self._setup.settings.redis_url is not None:
            return
        with self._report.step("Redis killed while annotating: nothing is lost") as detail:
            self._stack.kill_part("redis")
            name = f"shapes-{IN_BUCKET[3]}.jpg"
            path = f"/api/tasks/{self._tasks[name]['id']}/annotations"
            began = time.monotonic()
            annotation = self._user.call("POST", path, json={"result": self._result(name)})
            answered = time.monotonic() - began
            self._stack.start_part("redis")
            wait_for(
                "the annotation in the log",
                lambda: self._bucket.find("annotation", annotation["id"]),
                within_s=60,
            )
            seconds = time.monotonic() - began
            detail.append(f"Label Studio answered in {answered:.2f} s, in the log {seconds:.1f} s later")

    def _no_secrets(self) -> None:
        with self._report.step("no secret in the bucket or in a log file") as detail:
            secrets = {name: self._secrets[name].encode() for name in SECRETS}
            secrets["the invite token"] = b"an-invite-token"
            secrets["the personal access token"] = self._personal_token
            looked_at = 0
            for info in self._store.keys("projects/"):
                body = self._store.get(info.key)
                looked_at += 1
                for name, value in secrets.items():
                    expect(value not in body, f"{name} is in {info.key}")
            for path in (self._setup.folder / "logs").glob("*.log"):
                body = path.read_bytes()
                for name, value in secrets.items():
                    expect(value not in body, f"{name} is in the log file {path.name}")
            detail.append(f"{looked_at} objects and all log files searched")

    def _disconnect(self) -> None:
        project = str(self._project["id"])
        with self._report.step("disconnect: no webhook, no ML backend, the record stays") as detail:
            self._sidecar("disconnect", project)
            for what in ("webhooks", "ml"):
                left = self._user.call("GET", f"/api/{what}/", params={"project": project})
                expect(left == [], f"left in {what}: {left}")
            detail.append(f"{len(self._bucket.keys('log'))} log objects stay")

    # -- asking ---------------------------------------------------------------------------------------------

    def _sidecar(self, *words: str) -> str:
        done = run_program(self._setup, ["sidecar", *words])
        if done.returncode != 0:
            raise StepFailed(
                f"sidecar {' '.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def _overall(self) -> dict[str, Any]:
        answer = httpx.get(
            f"{self._setup.sidecar_url}/api/status",
            headers={"Authorization": f"Bearer {self._secrets['API_TOKEN']}"},
            timeout=30,
            trust_env=False,
        )
        expect(
            answer.status_code == 200, f"GET /api/status answered {answer.status_code}: {answer.text[:300]}"
        )
        found: dict[str, Any] = answer.json()
        return found

    def _status(self) -> dict[str, Any]:
        """This project's line of the API's status."""
        id = self._project["id"]
        return next(project for project in self._overall()["projects"] if project["id"] == id)
