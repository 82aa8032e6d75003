"""What the steps of the demo share: one stack, one person, one bucket, and how to ask them."""

from __future__ import annotations

import time
from typing import Any

import httpx

from demo.looking import Bucket, LabelStudioUser, jpeg, region
from demo.pictures import Picture, draw_picture, shipped_photos
from demo.steps import Report, StepFailed, expect, wait_for
from stack.machine import run_program, store_of
from stack.settings import Setup, program_environment
from stack.supervisor import Stack

IN_BUCKET = range(301, 317)
UPLOADED = range(401, 405)
ANNOTATED = range(501, 504)
SIZE = (640, 480)


class World:
    """One stack and what the demo knows of it. `drawn`: the pictures by name; `tasks`: the main project's by picture."""

    def __init__(self, setup: Setup, stack: Stack, report: Report) -> None:
        self.setup = setup
        self.stack = stack
        self.report = report
        self.secrets = program_environment(setup)
        self.user = LabelStudioUser(setup.label_studio_url, self.secrets["LABEL_STUDIO_API_KEY"])
        self.store = store_of(setup)
        self.drawn: dict[str, Picture] = {}
        self.project: dict[str, Any] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.latencies: list[float] = []
        self.personal_token = b""

    @property
    def bucket(self) -> Bucket:
        """The main project's part of the bucket, once it is connected."""
        return self._bucket

    def open_bucket(self, uid: str) -> None:
        self._bucket = Bucket(self.store, f"projects/{uid}/")

    def draw(self, name: str, seed: int, shapes: int | None = None) -> bytes:
        """A JPEG file of a picture whose shapes are known from now on."""
        picture = draw_picture(seed, SIZE, photos=shipped_photos(), shapes=shapes)
        self.drawn[name] = picture
        return jpeg(picture.image)

    def result(self, name: str) -> list[dict[str, Any]]:
        boxes = self.drawn[name].boxes
        return [region(label, box, SIZE, f"r{number}") for number, (label, box) in enumerate(boxes)]

    def name(self, task: dict[str, Any]) -> str:
        """Which drawn picture a task shows; Label Studio puts a random word before an upload's name."""
        stored: str = task["data"]["image"].rpartition("/")[2]
        return next(name for name in self.drawn if stored == name or stored.endswith(f"-{name}"))

    def post(self, body: bytes, secret: str | None = None) -> httpx.Response:
        return httpx.post(
            f"{self.setup.sidecar_url}/webhook",
            content=body,
            headers={
                "X-Webhook-Secret": secret or self.secrets["WEBHOOK_SECRET"],
                "Content-Type": "application/json",
            },
            timeout=10,
            trust_env=False,
        )

    def settled(self, project_id: int | None = None) -> None:
        """Nothing of the project (the main one) waits: what was accepted is in the log."""
        id = project_id or self.project["id"]
        wait_for("an empty stream", lambda: self.status_of(id)["waiting"] == 0, within_s=15, every_s=0.2)
        time.sleep(0.3)

    def retrieve_predictions(self, project_id: int) -> None:
        """What the button of Label Studio's data manager does, for all tasks."""
        self.user.call(
            "POST",
            "/api/dm/actions",
            params={"id": "retrieve_tasks_predictions", "project": project_id},
            json={"selectedItems": {"all": True, "excluded": []}, "project": str(project_id)},
        )

    def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A call of the sidecar's API with its token."""
        return httpx.request(
            method,
            f"{self.setup.sidecar_url}{path}",
            headers={"Authorization": f"Bearer {self.secrets['API_TOKEN']}"},
            timeout=60,
            trust_env=False,
            **options,
        )

    def sidecar(self, *words: str) -> str:
        done = run_program(self.setup, ["sidecar", *words])
        if done.returncode != 0:
            raise StepFailed(
                f"sidecar {' '.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def overall(self) -> dict[str, Any]:
        answer = self.api("GET", "/api/status")
        expect(
            answer.status_code == 200, f"GET /api/status answered {answer.status_code}: {answer.text[:300]}"
        )
        found: dict[str, Any] = answer.json()
        return found

    def status(self) -> dict[str, Any]:
        """This project's line of the API's status."""
        return self.status_of(self.project["id"])

    def status_of(self, id: int) -> dict[str, Any]:
        """One project's line of the API's status."""
        return next(project for project in self.overall()["projects"] if project["id"] == id)
