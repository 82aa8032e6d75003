"""Webhook bodies to send: the ones recorded from Label Studio, with ids of their own so that none repeats another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parents[1] / "tests" / "samples"
UID = "1.1795312801"  # the project of the recorded bodies
_ID = 987654321
_SUFFIX = "abcdefabcdef"


class AnnotationBodies:
    """ANNOTATION_CREATED as recorded (3.7 kB), each of another annotation on another task of the project."""

    def __init__(self) -> None:
        payload = _sample("ANNOTATION_CREATED")
        payload["task"] |= {"id": _ID, "inner_id": _ID}
        payload["annotation"] |= {"id": _ID, "task": _ID, "unique_id": f"00000000-0000-4000-8000-{_SUFFIX}"}
        self._template = json.dumps(payload).encode()

    def body(self, id: int) -> bytes:
        made = self._template.replace(str(_ID).encode(), str(id).encode())
        return made.replace(_SUFFIX.encode(), f"{id:012d}".encode())


def import_body(tasks: int, first_id: int = 1) -> bytes:
    """TASKS_CREATED as recorded, with so many tasks: what an import sends, 5,000 at most a body."""
    payload = _sample("TASKS_CREATED")
    one = payload["tasks"][0]
    payload["tasks"] = [one | {"id": id, "inner_id": id} for id in range(first_id, first_id + tasks)]
    return json.dumps(payload).encode()


def _sample(name: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_bytes())
    return payload
