"""What the tests with a real Label Studio share: a person who uses it, and projects of a test's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from demo.looking import LabelStudioUser


class Studio(LabelStudioUser):
    """A person with a token, and where their Label Studio is."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url, token)
        self.url = url

    def close(self) -> None:
        self._client.close()


@dataclass(kw_only=True)
class Project:
    """A project of a test's own, with its tasks."""

    studio: Studio
    id: int
    backend_id: int = 0

    def call(self, method: str, path: str, **options: Any) -> Any:
        return self.studio.call(method, path, **options)

    def tasks(self) -> list[dict[str, Any]]:
        return sorted(self.studio.tasks(self.id), key=lambda task: task["id"])

    def retrieve(self) -> Any:
        """The button of the data manager, for all tasks."""
        return self.call(
            "POST",
            "/api/dm/actions",
            params={"id": "retrieve_tasks_predictions", "project": self.id},
            json={"selectedItems": {"all": True, "excluded": []}, "project": str(self.id)},
        )

    def backend(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/api/ml/{self.backend_id}")
        return found

    def version(self) -> str:
        return str(self.backend()["model_version"])


def a_project(studio: Studio, images: Iterable[str], config: str, **fields: Any) -> Project:
    body = {"title": "a test", "label_config": config, "show_collab_predictions": True} | fields
    id = studio.call("POST", "/api/projects", json=body)["id"]
    if tasks := [{"data": {"image": image}} for image in images]:
        studio.call("POST", f"/api/projects/{id}/import", json=tasks)
    return Project(studio=studio, id=id)
