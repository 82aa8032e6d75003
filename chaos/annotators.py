"""People at work, each a thread: they create, update, skip and delete annotations as fast as Label Studio takes it.

One more, the curator, does what sends no webhook or not the right one: imports, bulk actions, edits of tasks. All of it
follows from the seed; what comes of it also from who was faster.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from chaos.label_studio import CHANGED_CONFIG, LABEL_CONFIG, Person, box
from chaos.ledger import Ledger

LABELS = ("fox", "owl", "deer")
CURATOR_REST_S = 0.4
RETRY_S = 0.3


class Shared:
    """What all of them know of one project: its tasks and annotations, roughly; Label Studio is asked to be sure."""

    def __init__(self, project: int, tasks: list[int]) -> None:
        self.project = project
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._tasks = list(tasks)
        self._annotations: list[int] = []

    def task(self, chance: random.Random) -> int:
        with self._lock:
            return chance.choice(self._tasks)

    def some_tasks(self, chance: random.Random, count: int) -> list[int]:
        with self._lock:
            return chance.sample(self._tasks, min(count, len(self._tasks)))

    def annotation(self, chance: random.Random) -> int | None:
        """One made by anybody, rather a newer one."""
        with self._lock:
            return chance.choice(self._annotations[-40:]) if self._annotations else None

    def made(self, annotation: int) -> None:
        with self._lock:
            self._annotations.append(annotation)

    def gone(self, *annotations: int) -> None:
        with self._lock:
            self._annotations = [one for one in self._annotations if one not in annotations]

    def made_tasks(self, tasks: list[int]) -> None:
        with self._lock:
            self._tasks += tasks

    def gone_tasks(self, tasks: list[int]) -> None:
        with self._lock:
            self._tasks = [one for one in self._tasks if one not in tasks]


class Worker(threading.Thread):
    """One person. Trouble that is Label Studio's own (a locked database) is met by doing something else."""

    def __init__(
        self, name: str, person: Person, shared: Shared, ledger: Ledger, chance: random.Random
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.person, self.shared, self.ledger, self.chance = person, shared, ledger, chance
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.shared.stop.is_set():
                self.act()
        except BaseException as error:
            self.failed = error

    def act(self) -> None:
        """One change."""
        raise NotImplementedError

    def change(self, deed: str, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Ask Label Studio for a change and write its reply into the ledger; None when it made none."""
        try:
            answer = self.person.ask(method, path, **options)
        except httpx.HTTPError as error:
            self.ledger.unclear(deed, f"{method} {path}: {type(error).__name__}")
            time.sleep(RETRY_S)
            return None
        if answer.status_code < 300:
            return answer
        if answer.status_code >= 500:
            self.ledger.unclear(deed, f"{method} {path}: {answer.status_code}")
            time.sleep(RETRY_S)
        return None

    def result(self) -> list[dict[str, Any]]:
        count = self.chance.randint(1, 3)
        return [
            box(self.chance.uniform(0, 1000), self.chance.choice(LABELS), f"r{self.chance.randrange(10**6)}")
            for _ in range(count)
        ]


class Annotator(Worker):
    """Labels pictures."""

    def act(self) -> None:
        dice = self.chance.random()
        annotation = self.shared.annotation(self.chance)
        if annotation is None or dice < 0.40:
            self.create(skip=False)
        elif dice < 0.50:
            self.create(skip=True)
        elif dice < 0.86:
            self.update(annotation)
        else:
            self.delete(annotation)

    def create(self, *, skip: bool) -> None:
        body: dict[str, Any] = {
            "result": [] if skip else self.result(),
            "lead_time": round(self.chance.uniform(1, 90), 3),
        }
        if skip:
            body["was_cancelled"] = True
        elif self.chance.random() < 0.1:
            body["ground_truth"] = True
        task = self.shared.task(self.chance)
        if answer := self.change("create", "POST", f"/api/tasks/{task}/annotations", json=body):
            self.ledger.saved("skip" if skip else "create", answer.json())
            self.shared.made(answer.json()["id"])

    def update(self, annotation: int) -> None:
        body = {"result": self.result(), "lead_time": round(self.chance.uniform(1, 90), 3)}
        if self.chance.random() < 0.05:
            body = {}  # an empty save: the page makes them too
        if answer := self.change("update", "PATCH", f"/api/annotations/{annotation}/", json=body):
            self.ledger.saved("update", answer.json())

    def delete(self, annotation: int) -> None:
        self.shared.gone(annotation)
        self.ledger.may_go(annotations=[annotation])
        if self.change("delete", "DELETE", f"/api/annotations/{annotation}/"):
            self.ledger.done("delete")


class Curator(Worker):
    """Does in turn each kind of change that no webhook tells, or not the right one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._number = 0
        self._deeds: list[Callable[[], None]] = []

    def act(self) -> None:
        if not self._deeds:
            self._deeds = [
                self.import_annotated,
                self.edit_a_task,
                self.convert_to_draft,
                self.delete_a_task,
                self.import_predictions,
                self.delete_annotations_of_tasks,
                self.make_duplicates_and_remove_them,
                self.predictions_to_annotations,
                self.change_the_project,
                self.draw_a_draft,
                self.delete_predictions,
            ]
            self.chance.shuffle(self._deeds)
        self._number += 1
        self._deeds.pop()()
        self.shared.stop.wait(self.chance.uniform(0, 2 * CURATOR_REST_S))

    def import_annotated(self) -> None:
        """TASKS_CREATED only; the annotations inside come silently."""
        tasks = [
            {
                "data": {"image": f"/static/none/{self._number}-{one}.png", "note": self._note()},
                "meta": {"from": "import", "number": self._number},
                "annotations": [{"result": self.result(), "ground_truth": False, "lead_time": 3.5}],
            }
            for one in range(2)
        ]
        path = f"/api/projects/{self.shared.project}/import"
        if answer := self.change("import", "POST", path, params={"return_task_ids": "true"}, json=tasks):
            ids = answer.json()["task_ids"]
            self.ledger.done("import")
            self.shared.made_tasks(ids)

    def edit_a_task(self) -> None:
        """No webhook at all."""
        task = self.shared.task(self.chance)
        body = {
            "data": {"image": f"/static/none/{task}.png", "note": self._note()},
            "meta": {"edited": self._number},
        }
        if self.ledger.keeps_data(task):
            body.pop("data")
        if self.change("edit a task", "PATCH", f"/api/tasks/{task}/", json=body):
            self.ledger.done("edit a task")

    def convert_to_draft(self) -> None:
        """The annotation is gone, and nothing says so."""
        annotation = self.shared.annotation(self.chance)
        if annotation is None:
            return
        self.shared.gone(annotation)
        self.ledger.may_go(annotations=[annotation])
        if self.change(
            "convert to draft", "POST", f"/api/annotations/{annotation}/convert-to-draft", json={}
        ):
            self.ledger.done("convert to draft")

    def delete_a_task(self) -> None:
        """TASKS_DELETED, never a word about its annotations."""
        task = self.shared.task(self.chance)
        if self.ledger.keeps_data(task):
            return
        self.shared.gone_tasks([task])
        self.ledger.may_go(tasks=[task])
        if self.change("delete a task", "DELETE", f"/api/tasks/{task}/"):
            self.ledger.done("delete a task")

    def import_predictions(self) -> None:
        tasks = self.shared.some_tasks(self.chance, 3)
        rows = [
            {"task": task, "result": self.result(), "score": 0.5, "model_version": f"m{self._number % 3}"}
            for task in tasks
        ]
        path = f"/api/projects/{self.shared.project}/import/predictions"
        if self.change("import predictions", "POST", path, json=rows):
            self.ledger.done("import predictions")

    def predictions_to_annotations(self) -> None:
        """One ANNOTATIONS_CREATED, with a list."""
        tasks = self.shared.some_tasks(self.chance, 2)
        self._bulk("predictions_to_annotations", tasks)

    def delete_predictions(self) -> None:
        self._bulk("delete_tasks_predictions", self.shared.some_tasks(self.chance, 2))

    def delete_annotations_of_tasks(self) -> None:
        """One ANNOTATIONS_DELETED with all ids."""
        tasks = self.shared.some_tasks(self.chance, 2)
        self.ledger.may_go(tasks=tasks)
        self._bulk("delete_tasks_annotations", tasks)

    def make_duplicates_and_remove_them(self) -> None:
        """Annotations move to another task without a word; TASKS_DELETED tells the rest."""
        same = {"image": f"/static/none/same-{self._number}.png"}
        tasks = [
            {"data": same, "annotations": [{"result": self.result(), "ground_truth": False}]}
            for _ in range(2)
        ]
        path = f"/api/projects/{self.shared.project}/import"
        answer = self.change("import", "POST", path, params={"return_task_ids": "true"}, json=tasks)
        if answer is None:
            return
        ids = answer.json()["task_ids"]
        self.ledger.done("import")
        self.shared.stop.wait(1.0)
        self.ledger.may_go(tasks=ids)
        self._bulk("remove_duplicates", ids)

    def change_the_project(self) -> None:
        config = CHANGED_CONFIG if self._number % 2 else LABEL_CONFIG
        body = {"description": f"changed {self._number} times: {self._note()}", "label_config": config}
        if self.change("change the project", "PATCH", f"/api/projects/{self.shared.project}/", json=body):
            self.ledger.done("change the project")

    def draw_a_draft(self) -> None:
        task = self.shared.task(self.chance)
        body = {"result": self.result(), "lead_time": 2.0}
        path = f"/api/tasks/{task}/drafts"
        if self.change("draw a draft", "POST", path, params={"project": self.shared.project}, json=body):
            self.ledger.done("draw a draft")

    def _bulk(self, action: str, tasks: list[int]) -> None:
        options = {"all": False, "included": tasks}
        answer = self.change(
            action,
            "POST",
            "/api/dm/actions",
            params={"id": action, "project": self.shared.project},
            json={"selectedItems": options, "project": str(self.shared.project)},
        )
        if answer is not None:
            self.ledger.done(action)

    def _note(self) -> str:
        return f"número {self.chance.randrange(10**6)} 🦊"
