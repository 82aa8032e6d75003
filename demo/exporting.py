"""Exports in four formats, opened and counted against what was drawn and annotated; and one that came by itself."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

from bridge.shapes import iou
from demo.looking import corners, shown_boxes
from demo.steps import expect, wait_for
from demo.world import SIZE, World

EXPORT_EVERY = 3
FORMATS = ("JSON", "CSV", "COCO", "VOC")
ON_THE_SHAPE = 0.9


def export_by_itself(world: World, project: int) -> None:
    """The one that the annotations just made have set off. Looked for before anybody asks for the same content: whoever
    asks first is named, and on a busy machine that might be us."""
    with world.report.step(f"an export by itself after {EXPORT_EVERY} annotations") as detail:
        found: dict[str, Any] = wait_for(
            "an export nobody asked for", lambda: _by_count(world, project), within_s=120
        )
        answer = world.api("GET", f"/api/exports/{found['id']}").json()
        expect(answer["state"] == "complete", f"the API says {answer['state']}")
        name = next(file["name"] for file in answer["files"] if file["name"].endswith(".json"))
        body = world.api("GET", f"/api/exports/{found['id']}/files/{name}").json()
        detail.append(f"{found['format']} ({found['asked_by']}), {len(body)} tasks, fetched through the API")


def exports(world: World, project: int) -> None:
    """Export a project of which every task has at most one annotation, by boxes."""
    tasks = [task for task in world.user.tasks(project) if task["annotations"]]
    submitted = {world.name(task): shown_boxes(task["annotations"][0]["result"]) for task in tasks}
    boxes = sum(len(found) for found in submitted.values())
    with (
        world.report.step("exports in four formats, opened and counted") as detail,
        tempfile.TemporaryDirectory(prefix="demo-exports-") as folder,
    ):
        for format in FORMATS:
            view = json.loads(world.sidecar("export", str(project), "--format", format, "--wait", "--json"))
            expect(view["state"] == "complete", f"{format} is {view['state']}: {view['message']}")
            world.sidecar("export", "download", view["id"], "--to", folder)
            files = {path.name: path for path in (Path(folder) / view["id"]).iterdir()}
            count = COUNTERS[format](files, submitted)
            wanted = len(tasks) if format in ("JSON", "CSV") else boxes
            expect(count == wanted, f"{format} has {count}, expected {wanted}")
            again = json.loads(world.sidecar("export", str(project), "--format", format, "--json"))
            expect(again["id"] == view["id"], f"{format}: the same content asked for twice gave two exports")
        detail.append(
            f"{', '.join(FORMATS)}: {len(tasks)} annotations, {boxes} boxes, asked for twice: the same export"
        )


def _by_count(world: World, project: int) -> dict[str, Any] | None:
    views = world.api("GET", "/api/exports", params={"project": project}).json()["exports"]
    by_count = [one for one in views if "annotations" in one["asked_by"] and one["state"] == "complete"]
    return by_count[0] if by_count else None


def _json(files: dict[str, Path], submitted: dict[str, Any]) -> int:
    tasks = json.loads(files["result.json"].read_bytes())
    for task in tasks:
        name = task["data"]["image"].rpartition("/")[2]
        shown = shown_boxes(task["annotations"][0]["result"])
        expect(shown == submitted[name], f"JSON: the boxes of {name} differ from what was submitted")
    return len(tasks)


def _csv(files: dict[str, Path], submitted: dict[str, Any]) -> int:
    return len(list(csv.DictReader(io.StringIO(files["result.csv"].read_text()))))


def _coco(files: dict[str, Path], submitted: dict[str, Any]) -> int:
    with zipfile.ZipFile(files["coco.zip"]) as archive:
        found = json.loads(archive.read("result.json"))
    labels = {category["id"]: category["name"] for category in found["categories"]}
    expect(sorted(labels.values()) == ["circle", "square", "triangle"], f"COCO categories: {labels}")
    images = {image["id"]: image for image in found["images"]}
    for one in found["annotations"]:
        image = images[one["image_id"]]
        expect((image["width"], image["height"]) == SIZE, f"COCO: {image['file_name']} is of another size")
        x, y, width, height = one["bbox"]
        _expect_submitted("COCO", images[one["image_id"]]["file_name"], labels[one["category_id"]],
                          (x, y, x + width, y + height), submitted)  # fmt: skip
    return len(found["annotations"])


def _voc(files: dict[str, Path], submitted: dict[str, Any]) -> int:
    count = 0
    with zipfile.ZipFile(files["voc.zip"]) as archive:
        for entry in archive.namelist():
            if not entry.endswith(".xml"):
                continue
            page = ElementTree.fromstring(archive.read(entry))
            for one in page.iter("object"):
                box = tuple(
                    float(one.findtext(f"bndbox/{edge}") or "nan")
                    for edge in ("xmin", "ymin", "xmax", "ymax")
                )
                _expect_submitted(
                    "VOC", page.findtext("filename") or "", one.findtext("name") or "", box, submitted
                )
                count += 1
    return count


def _expect_submitted(format: str, file: str, label: str, box: Any, submitted: dict[str, Any]) -> None:
    """A box of the export is one that a person submitted for that picture."""
    name = next((name for name in submitted if Path(name).stem in file), None)
    expect(name is not None, f"{format} names a picture {file!r} that nobody annotated")
    best = max(
        (iou(corners(box), corners(other)) for word, other in submitted[str(name)] if word == label),
        default=0.0,
    )
    expect(best > ON_THE_SHAPE, f"{format}: no submitted {label} of {file} is at {box} (best IoU {best:.2f})")


COUNTERS = {"JSON": _json, "CSV": _csv, "COCO": _coco, "VOC": _voc}
