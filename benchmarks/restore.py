"""Seconds to bring 2,000 annotated tasks back into a real Label Studio: our restore beside what one would script by hand.

Keeping the `unique_id`s takes a request for each annotation: beside it stands a script that sends them one after the
other. In bulk they get new ones: beside it stands an import of Label Studio's own JSON, which compares nothing at the end.
Both ways of ours read everything back and compare each field, and that is in their figures."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.row import Row, less_is_better
from bridge.edges import restore as kept
from bridge.edges.label_studio import LabelStudio
from bridge.records import Record, Stamp, format_time, put
from bridge.restore import Order, restore_id
from bridge.settings import WorkersSettings
from bridge.state import BASELINE_COMPLETED
from stack.machine import started, temporary_setup
from stack.settings import program_environment
from workers import context
from workers.restore import Restore

TASKS = 2000
BY_HAND = 200  # so many are sent one after the other, and the time is taken as many times as they go into all
CHUNK = 250
UID = "1.1795312801"
BORN = datetime(2026, 11, 22, 2, 0, 1, tzinfo=UTC)
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Cat"/></RectangleLabels></View>'
)


def measure() -> list[Row]:
    """Seconds for all of it, one run each. Starts a Label Studio of its own, which takes a minute or two."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        setup = temporary_setup(Path(folder), os.environ)
        with started(setup, only={"redis", "s3", "label-studio"}):
            here = context.Context(WorkersSettings.from_env(program_environment(setup)))
            user = here.label_studio.users()[0]
            here.log_writer(UID).append(list(_records(str(user["email"]))))
            moment = datetime.now(UTC)
            order = Order(
                id=restore_id(UID, moment, "kept"),
                uid=UID,
                at=moment,
                to=here.settings.label_studio.url,
                title="kept",
                asked_at=moment,
            )
            by_hand = _one_after_the_other(here.label_studio)
            ours = _restore(here, order)
            imported = _import(here.label_studio, str(user["email"]))
            bulk = replace(order, id=restore_id(UID, moment, "bulk"), title="bulk", bulk=True)
            ours_in_bulk = _restore(here, bulk)
    return [
        less_is_better(
            f"restore of {TASKS:,} tasks",
            "s",
            ours,
            by_hand,
            f"annotations one by one (of {BY_HAND}, times {TASKS // BY_HAND})",
        ),
        less_is_better(
            f"restore of {TASKS:,} tasks, in bulk",
            "s",
            ours_in_bulk,
            imported,
            "Label Studio's JSON imported, unchecked",
        ),
    ]


def _restore(here: context.Context, order: Order) -> float:
    began = time.perf_counter()
    Restore(here, order, beat=lambda: None).run()
    took = time.perf_counter() - began
    uid = kept.made_uid(here.store, here.layout(UID), order.id)
    report = kept.read_json(here.store, here.layout(uid or "").restore_report)
    assert report is not None, "no report"
    assert report["ok"], report["differences"][:3]
    assert report["counts"]["annotations"] == TASKS
    return took


def _records(email: str) -> Iterator[Record]:
    stamp = Stamp(
        event_id="bench", received_at=datetime.now(UTC), source="baseline", event="BASELINE", observed_at=BORN
    )
    yield put("user", {"id": 7, "email": email, "date_joined": format_time(BORN)}, stamp)
    for task, annotation in _things():
        yield put("task", task, stamp)
        yield put("annotation", annotation, stamp, task_created_at=task["created_at"])
    project = {"id": 1, "title": "Animals", "label_config": CONFIG, "created_at": format_time(BORN)}
    yield put("project", project, replace(stamp, event=BASELINE_COMPLETED))


def _things() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for id in range(1, TASKS + 1):
        times = dict.fromkeys(("created_at", "updated_at"), format_time(BORN + timedelta(seconds=id)))
        task = {"id": id, "inner_id": id, "data": {"image": f"s3://pictures/{id}.png"}, "meta": {}} | times
        annotation = {"id": id, "task": id, "completed_by": 7, "lead_time": 2.5, "result": _result()} | times
        annotation |= {"was_cancelled": False, "ground_truth": False, "unique_id": str(uuid.uuid4())}
        yield task, annotation


def _result() -> list[dict[str, Any]]:
    size = {"original_width": 640, "original_height": 480, "image_rotation": 0}
    box = {"x": 1, "y": 10, "width": 20, "height": 30, "rotation": 0, "rectanglelabels": ["Cat"]}
    kind = {"from_name": "label", "to_name": "image", "type": "rectanglelabels"}
    return [{"id": f"r{number}", **kind, **size, "value": box} for number in range(3)]


def _project(label_studio: LabelStudio, title: str) -> int:
    return int(label_studio.post("/api/projects", {"title": title, "label_config": CONFIG})["id"])


def _import(label_studio: LabelStudio, email: str) -> float:
    began = time.perf_counter()
    id = _project(label_studio, "imported")
    tasks = [
        {
            "data": task["data"],
            "annotations": [
                {name: annotation[name] for name in ("result", "lead_time", "was_cancelled", "ground_truth")}
                | {"completed_by": {"email": email}}
            ],
        }
        for task, annotation in _things()
    ]
    for start in range(0, TASKS, CHUNK):
        label_studio.post(f"/api/projects/{id}/import", tasks[start : start + CHUNK], timeout_s=600)
    return time.perf_counter() - began


def _one_after_the_other(label_studio: LabelStudio) -> float:
    began = time.perf_counter()
    id = _project(label_studio, "one by one")
    some = [pair for pair, _ in zip(_things(), range(BY_HAND), strict=False)]
    answer = label_studio.post(
        f"/api/projects/{id}/import", [{"data": task["data"]} for task, _ in some], return_task_ids="true"
    )
    for new, (_, annotation) in zip(answer["task_ids"], some, strict=True):
        body = {name: annotation[name] for name in ("result", "lead_time", "ground_truth", "unique_id")}
        label_studio.post(f"/api/tasks/{new}/annotations", body)
    return (time.perf_counter() - began) * TASKS / BY_HAND
