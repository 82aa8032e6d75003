"""What the demo sees from outside: Label Studio's REST API and the bucket's objects, with none of our own readers."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx

from bridge.errors import NotFound
from bridge.shapes import PixelBox, iou
from bridge.store import ObjectStore
from demo.pictures import BoxPx, LabelledBox
from demo.steps import StepFailed


class LabelStudioUser:
    """A person with a token: every call through the REST API."""

    def __init__(self, url: str, token: str) -> None:
        self.token = token
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Token {token}"},
            timeout=120,
            trust_env=False,
            follow_redirects=True,
        )

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The answer's JSON (None when empty). Raises StepFailed for 400 and above."""
        answer = self._client.request(method, path, **options)
        if answer.status_code >= 400:
            raise StepFailed(
                f"Label Studio answered {answer.status_code} to {method} {path}: {answer.text[:300]}"
            )
        return answer.json() if answer.content else None

    def fetch(self, path: str) -> bytes:
        """A file as Label Studio serves it to the browser."""
        answer = self._client.get(path)
        if answer.status_code >= 400:
            raise StepFailed(f"Label Studio answered {answer.status_code} to GET {path}")
        return answer.content

    def tasks(self, project: int) -> list[dict[str, Any]]:
        """All tasks with annotations and predictions, data as stored."""
        params = {"project": project, "fields": "all", "page_size": 1000, "resolve_uri": "false"}
        tasks: list[dict[str, Any]] = self.call("GET", "/api/tasks", params=params)["tasks"]
        return tasks


class Bucket:
    """The bucket as any S3 tool sees it; remembers which log objects it has read."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self.store = store
        self._prefix = prefix
        self._last_key = ""
        self.records: list[dict[str, Any]] = []

    def keys(self, part: str) -> list[str]:
        """Keys under one part of the project: log, current, media …"""
        return [info.key for info in self.store.keys(f"{self._prefix}{part}/")]

    def look(self) -> list[dict[str, Any]]:
        """Read the log objects that are new, and return all records so far."""
        for info in self.store.keys(f"{self._prefix}log/", start_after=self._last_key):
            self.records += [json.loads(text) for text in self.store.get(info.key).splitlines()]
            self._last_key = info.key
        return self.records

    def current(self, annotation_id: int) -> dict[str, Any] | None:
        """The annotation in current/, or None."""
        key = f"{self._prefix}current/annotations/{annotation_id}.json"
        try:
            found: dict[str, Any] = json.loads(self.store.get(key))["annotation"]
        except NotFound:
            return None
        return found

    def find(self, kind: str, id: int | str, **wanted: Any) -> dict[str, Any] | None:
        """A record of this thing whose op and data hold what is wanted."""
        op = wanted.pop("op", "put")
        for record in self.look():
            same = record["kind"] == kind and record["id"] == str(id) and record["op"] == op
            if same and all(record["data"].get(name) == value for name, value in wanted.items()):
                return record
        return None


def region(
    label: str, box_px: tuple[float, float, float, float], size: tuple[int, int], id: str
) -> dict[str, Any]:
    """A rectangle as Label Studio's page would make it. `box_px`: x0, y0, x1, y1; `size`: width, height in px."""
    width, height = size
    x0, y0, x1, y1 = box_px
    return {
        "id": id,
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "x": 100 * x0 / width,
            "y": 100 * y0 / height,
            "width": 100 * (x1 - x0) / width,
            "height": 100 * (y1 - y0) / height,
            "rotation": 0,
            "rectanglelabels": [label],
        },
    }


def shown_boxes(result: list[dict[str, Any]]) -> list[LabelledBox]:
    """The boxes of a result in px, from each region's own percent and original size."""
    found = []
    for item in result:
        value, width, height = item["value"], item["original_width"], item["original_height"]
        x0, y0 = value["x"] * width / 100, value["y"] * height / 100
        x1, y1 = x0 + value["width"] * width / 100, y0 + value["height"] * height / 100
        found.append((value["rectanglelabels"][0], (x0, y0, x1, y1)))
    return found


def best_ious(drawn: tuple[LabelledBox, ...], shown: list[LabelledBox]) -> list[float]:
    """For each drawn shape the IoU of the best box of the same label; 0 where there is none."""
    return [
        max((iou(corners(box), corners(other)) for name, other in shown if name == label), default=0.0)
        for label, box in drawn
    ]


def corners(box: BoxPx) -> PixelBox:
    return PixelBox(x0=box[0], y0=box[1], x1=box[2], y1=box[3])


def jpeg(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()
