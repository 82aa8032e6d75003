"""What must do no harm: repeated, forged and broken webhooks, Redis killed; and no secret anywhere."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from typing import Any

import httpx

from demo.steps import expect, wait_for
from demo.world import IN_BUCKET, World

SECRETS = ("WEBHOOK_SECRET", "API_TOKEN", "LABEL_STUDIO_API_KEY", "AWS_SECRET_ACCESS_KEY", "BASIC_AUTH_PASS")


def body_of_a_webhook(world: World) -> dict[str, Any]:
    task = next(task for task in world.user.tasks(world.project["id"]) if task["annotations"])
    project = world.user.call("GET", f"/api/projects/{world.project['id']}/")
    return {
        "action": "ANNOTATION_UPDATED",
        "annotation": task["annotations"][0],
        "task": {name: value for name, value in task.items() if name not in ("annotations", "predictions")},
        "project": project | {"updated_at": project["created_at"], "token": "an-invite-token"},
    }


def webhook_twice(world: World) -> None:
    with world.report.step("the same webhook twice changes nothing") as detail:
        body = json.dumps(body_of_a_webhook(world)).encode()
        expect(world.post(body).status_code == 202, "the webhook was not accepted")
        world.settled()
        objects = world.bucket.keys("log")
        answers = [world.post(body).status_code for _ in range(2)]
        world.settled()
        expect(answers == [202, 202], f"answers: {answers}")
        expect(world.bucket.keys("log") == objects, "a repeated delivery wrote to the log")
        detail.append(f"{len(objects)} log objects before and after")


def wrong_secret(world: World) -> None:
    with world.report.step("a wrong webhook secret gets 401, leaves no trace") as detail:
        before = (world.bucket.keys("log"), world.overall()["quarantine"])
        forged = body_of_a_webhook(world)
        forged["annotation"] |= {"result": [], "updated_at": "2099-01-01T00:00:00Z"}
        answer = world.post(json.dumps(forged).encode(), "not-the-secret")
        expect(answer.status_code == 401, f"answered {answer.status_code}")
        world.settled()
        after = (world.bucket.keys("log"), world.overall()["quarantine"])
        expect(before == after, "the forged webhook left a trace")
        detail.append(answer.json()["error"][:60])


def unreadable_body(world: World) -> None:
    with world.report.step("an unreadable body is quarantined, the next arrives") as detail:
        before = world.overall()["quarantine"]
        expect(
            world.post(b'{"action": "ANNOTATION_CREATED", "annotation": {').status_code == 202,
            "not accepted",
        )
        after = world.overall()["quarantine"]
        expect(after == before + 1, f"quarantine {before} -> {after}")
        name = f"shapes-{IN_BUCKET[2]}.jpg"
        path = f"/api/tasks/{world.tasks[name]['id']}/annotations"
        annotation = world.user.call("POST", path, json={"result": world.result(name)})
        wait_for("the next one", lambda: world.bucket.find("annotation", annotation["id"]), within_s=5)
        detail.append(f"quarantine {before} -> {after}")


def redis_killed(world: World) -> None:
    """Beyond the main job: the promise is kept when a part dies while a person works."""
    if world.setup.settings.redis_url is not None:
        return
    with world.report.step("Redis killed while annotating: nothing is lost") as detail:
        world.stack.kill_part("redis")
        name = f"shapes-{IN_BUCKET[3]}.jpg"
        path = f"/api/tasks/{world.tasks[name]['id']}/annotations"
        began = time.monotonic()
        annotation = world.user.call("POST", path, json={"result": world.result(name)})
        answered = time.monotonic() - began
        world.stack.start_part("redis")
        wait_for(
            "the annotation in the log",
            lambda: world.bucket.find("annotation", annotation["id"]),
            within_s=60,
        )
        seconds = time.monotonic() - began
        detail.append(f"Label Studio answered in {answered:.2f} s, in the log {seconds:.1f} s later")


def within_cortx(world: World) -> None:
    with world.report.step("no call that CORTX refuses or would misread") as detail:
        answer = httpx.get(f"{world.setup.s3_url}/_emulation/tripped", trust_env=False)
        expect(answer.json() == [], f"it would misread {answer.text}")
        log = (world.setup.folder / "logs" / "s3.log").read_text()
        statuses = Counter(re.findall(r'" (\d{3}) \S+$', log, re.MULTILINE))
        refused = {status for status in statuses if status >= "400" and status not in ("404", "409")}
        expect(not refused, f"refused: {', '.join(f'{statuses[one]} x {one}' for one in sorted(refused))}")
        detail.append(f"{statuses.total()} calls, Label Studio's own among them")


def no_secrets(world: World) -> None:
    with world.report.step("no secret in the bucket or in a log file") as detail:
        secrets = {name: world.secrets[name].encode() for name in SECRETS}
        secrets["the invite token"] = b"an-invite-token"
        secrets["the personal access token"] = world.personal_token
        looked_at = 0
        for info in world.store.keys("projects/"):
            body = world.store.get(info.key)
            looked_at += 1
            for name, value in secrets.items():
                expect(value not in body, f"{name} is in {info.key}")
        for path in (world.setup.folder / "logs").glob("*.log"):
            body = path.read_bytes()
            for name, value in secrets.items():
                expect(value not in body, f"{name} is in the log file {path.name}")
        detail.append(f"{looked_at} objects and all log files searched")
