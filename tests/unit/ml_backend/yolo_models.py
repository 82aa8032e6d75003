"""Classes as people build them on Yolo."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from ml_backend.yolo_class import Yolo


class Large(Yolo):
    """Drops what is less than 30 % of the picture's height."""

    def predict(self, tasks: Any, context: Any = None, **options: Any) -> list[dict[str, Any]]:
        found = super().predict(tasks, context, **options)
        for one in found:
            one["result"] = [region for region in one["result"] if region["value"]["height"] >= 30]
        return found


class Named(Yolo):
    """Has a version of its own, and adds a region to tasks that have any."""

    model_version = "named-1"

    def predict(self, tasks: Any, context: Any = None, **options: Any) -> list[dict[str, Any]]:
        found = super().predict(tasks, context)
        for one in found:
            one["result"] += [{**region, "id": f"{region['id']}-again"} for region in one["result"]]
        return found


class OneByOne(Yolo):
    """Asks in its own way: task for task, twice, and fails for one of them."""

    def predict(self, tasks: Any, context: Any = None, **options: Any) -> list[dict[str, Any]]:
        found = [super(OneByOne, self).predict([task])[0] for task in tasks]
        found = [super(OneByOne, self).predict([task])[0] for task in tasks]
        if any(task["id"] == 2 for task in tasks):
            raise KeyError("two")
        return found


class Without(Yolo):
    """Never asks."""

    def predict(self, tasks: Any, context: Any = None, **options: Any) -> list[dict[str, Any]]:
        return [{"result": []} for _ in tasks]


class Elsewhere(Yolo):
    """Asks on a thread of its own making."""

    said: ClassVar[list[str]] = []

    def predict(self, tasks: Any, context: Any = None, **options: Any) -> list[dict[str, Any]]:
        def ask() -> None:
            try:
                Yolo.predict(self, tasks)
            except RuntimeError as error:
                self.said.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return super().predict(tasks)
