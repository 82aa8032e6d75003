"""An annotation made from a prediction survives every export: its regions are in the output, or listed with the reason.

The regions are those the ML backend makes, of every kind; the exports are the real ones.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from bridge.exports import FORMATS
from bridge.records import Stamp, put
from bridge.shapes import PixelBox
from ml_backend.detectors import Found, FoundBox, FoundPoint, Mask
from tests.integration.test_export import NOW, PROJECT, Workplace, empty, failing  # noqa: F401
from tests.unit.ml_backend.helpers import FakeDetector, a_client, predict, task
from tests.unit.ml_backend.test_videos import CLASSES, Seeing, classifier, moving, write_video

pytestmark = pytest.mark.filterwarnings("ignore")
IMAGE = '<Image name="i" value="$image"/>'
VIDEO = '<Video name="v" value="$video" framerate="25"/>'
LABELS = '<Label value="circle"/>'
CONTROLS = {
    "rectangle": f'<RectangleLabels name="box" toName="i">{LABELS}</RectangleLabels>',
    "oriented": f'<RectangleLabels name="turned" toName="i" model_obb="true">{LABELS}</RectangleLabels>',
    "polygon": f'<PolygonLabels name="outline" toName="i">{LABELS}</PolygonLabels>',
    "brush": f'<BrushLabels name="brush" toName="i">{LABELS}</BrushLabels>',
    "points": f'<RectangleLabels name="kp_bbox" toName="i">{LABELS}</RectangleLabels>'
    '<KeyPointLabels name="kp" toName="i"><Label value="tip" model_index="0"/></KeyPointLabels>',
    "choices": '<Choices name="whole" toName="i"><Choice value="circle"/></Choices>',
    "taxonomy": '<Taxonomy name="tree" toName="i"><Choice value="round"><Choice value="circle"/></Choice></Taxonomy>',
    "track": '<VideoRectangle name="track" toName="v"/><Labels name="what" toName="v"><Label value="car"/></Labels>',
    "stretch": '<TimelineLabels name="time" toName="v"><Label value="run"/></TimelineLabels>',
}
MODELS = {
    "oriented": "obb", "polygon": "segment", "brush": "segment", "points": "pose", "choices": "classify", "taxonomy": "classify",
}  # fmt: skip
OBJECT = FoundBox(
    name="circle",
    score=0.9,
    box=PixelBox(x0=20, y0=40, x1=60, y1=120),
    corners=((20, 80), (40, 40), (60, 80), (40, 120)),
    mask=Mask(left=20, top=40, pixels=np.ones((80, 40), dtype=bool)),
    points=(FoundPoint(x=30, y=50, score=0.8),),
)
IN_COCO = {"rectangle": 1, "oriented": 1, "polygon": 1, "points": 1}
IN_VOC = {"rectangle": 1, "oriented": 1, "points": 1}


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What the backend predicts, by the kind of control."""
    video = str(write_video(tmp_path_factory.mktemp("videos") / "a.avi", 20))
    return {kind: predicted(kind, config, video) for kind, config in CONTROLS.items()}


def predicted(kind: str, config: str, video: str) -> list[dict[str, Any]]:
    if kind == "track":
        detector: FakeDetector = Seeing(lambda index: Found(boxes=(moving("car", index),)), **CLASSES)
    elif kind == "stretch":
        detector = classifier()
    else:
        detector = FakeDetector(
            Found(boxes=(OBJECT,), class_scores=(("circle", 0.9),)),
            task=MODELS.get(kind, "detect"),
            class_names=("circle",),
            point_names=("tip",),
        )
    [item] = predict(a_client(detector), [task(1, video=video)], f"<View>{IMAGE}{VIDEO}{config}</View>")
    found: list[dict[str, Any]] = item["result"]
    assert found, item
    return found


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_predicted_region_is_in_the_export_or_listed_with_a_reason(
    empty: Workplace,  # noqa: F811
    regions: dict[str, list[dict[str, Any]]],
    format: str,
) -> None:
    config = f"<View>{IMAGE}{VIDEO}{''.join(CONTROLS.values())}</View>"
    stamp = Stamp(event_id="e", received_at=NOW, source="webhook", event="TEST")
    born = {"created_at": "2026-11-22T07:00:00Z", "updated_at": "2026-11-22T07:00:00Z"}
    empty.append(put("project", PROJECT.data | {"label_config": config}, stamp))
    result = [region for found in regions.values() for region in found]
    data = {"image": "s3://bucket/a.jpg", "video": "s3://bucket/a.mp4"}
    empty.append(put("task", {"id": 900, "data": data, **born}, stamp))
    annotation = {"id": 901, "task": 900, "result": result, "was_cancelled": False, "completed_by": 1, **born}
    empty.append(put("annotation", annotation, stamp, task_created_at=born["created_at"]))

    manifest = empty.made(format)
    counts = manifest.counts
    assert counts.regions == len(result)
    assert counts.regions == counts.regions_in_output + sum(counts.regions_left_out.values())
    listed = empty.file(manifest, "left_out.jsonl") if manifest.file("left_out.jsonl") else b""
    told = [json.loads(line) for line in listed.splitlines()]
    left = {line["region"] for line in told}
    assert len(left) == sum(counts.regions_left_out.values())
    assert all(line["reason"] for line in told)
    if format == "JSON":
        [exported] = json.loads(empty.file(manifest, "result.json"))
        assert exported["annotations"][0]["result"] == result
    if format in ("COCO", "VOC"):
        want = IN_COCO if format == "COCO" else IN_VOC
        inside = {kind: sum(region["id"] not in left for region in found) for kind, found in regions.items()}
        assert {kind: count for kind, count in inside.items() if count} == want


@pytest.mark.parametrize("kind", CONTROLS)
def test_label_studios_own_check_finds_nothing_wrong(
    kind: str, regions: dict[str, list[dict[str, Any]]]
) -> None:
    config = f"<View>{IMAGE}{VIDEO}{CONTROLS[kind]}</View>"
    prediction = {"result": regions[kind], "score": 0.5, "model_version": "v"}
    assert LabelInterface(config).validate_prediction(prediction, return_errors=True) == []
