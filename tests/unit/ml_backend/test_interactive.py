"""What a person draws gets the detection that fits it. The drawn regions have the form of Label Studio 1.23.2's page."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.brush import decode, encode
from ml_backend.detectors import Found, FoundBox, FoundPoint, Mask
from ml_backend.interactive import read_context
from tests.unit.ml_backend.helpers import (
    PROJECT,
    FakeDetector,
    FakeImages,
    FakeInferences,
    a_box,
    a_client,
    problem,
)

# Pictures are 100x200 px (tests/unit/ml_backend/helpers.py), so that x in percent is px, and y half of it.
RECTANGLES = """<View><Image name="image" value="$image"/>
<RectangleLabels name="rect" toName="image" smart="true"><Label value="circle"/><Label value="square"/></RectangleLabels>
</View>"""
MASKS = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image"><Label value="circle"/><Label value="square"/></BrushLabels>
<KeyPointLabels name="point" toName="image" smart="true" model_skip="true">
<Label value="circle"/><Label value="square"/></KeyPointLabels>
<RectangleLabels name="rect" toName="image" smart="true" model_skip="true">
<Label value="circle"/><Label value="square"/></RectangleLabels></View>"""
POLYGONS = MASKS.replace("BrushLabels", "PolygonLabels")


def rectangle(
    x: float, y: float, width: float, height: float, label: str | None = "circle", **more: Any
) -> Any:
    """As the page sends what was drawn with `<RectangleLabels smart="true">`; with a `<Rectangle>`, there is no label."""
    kind = "rectanglelabels" if label else "rectangle"
    value: dict[str, Any] = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
    return {
        **{"original_width": 100, "original_height": 200, "image_rotation": 0},
        "value": value | ({kind: [label]} if label else {}),
        **{"id": "Drawn_0001", "from_name": "rect", "to_name": "image", "type": kind, "origin": "manual"},
        **more,
    }


def point(x: float, y: float, label: str | None = "circle", **more: Any) -> Any:
    kind = "keypointlabels" if label else "keypoint"
    value: dict[str, Any] = {"x": x, "y": y, "width": 0.3, "labels": [label] if label else []}
    return {
        **{"original_width": 100, "original_height": 200, "image_rotation": 0},
        "value": value | ({kind: [label]} if label else {}),
        **{"is_positive": True, "id": "Drawn_0002", "from_name": "point", "to_name": "image", "type": kind},
        **more,
    }


def asked(client: FlaskClient, context: Any, config: str = RECTANGLES) -> dict[str, Any]:
    """The prediction that Label Studio takes: that of the one task it sends."""
    params = {"login": None, "password": None, "context": context}
    body = {
        **{"tasks": [{"id": 1, "data": {"image": "s3://b/a.jpg"}, "drafts": [], "predictions": []}]},
        **{"project": PROJECT, "label_config": config, "params": params},
    }
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    (item,) = answer.get_json()["results"]
    found: dict[str, Any] = item
    return found


def drawing(*shapes: Any) -> dict[str, Any]:
    return {"result": list(shapes), "project_credentials_login": "", "project_credentials_password": ""}


def seeing(*boxes: FoundBox, task: str = "detect", **more: Any) -> FlaskClient:
    return a_client(FakeDetector(Found(boxes=boxes), task=task, **more))


def left_half() -> FoundBox:
    """A mask that fills the upper left triangle of its box."""
    pixels = np.tri(40, 20, k=-1, dtype=bool)[::-1]
    return FoundBox(
        name="circle",
        score=0.9,
        box=a_box(x0=10, y0=20, x1=30, y1=60).box,
        mask=Mask(left=10, top=20, pixels=pixels),
    )


def full(name: str, x0: int, y0: int, x1: int, y1: int, score: float = 0.9) -> FoundBox:
    mask = Mask(left=x0, top=y0, pixels=np.ones((y1 - y0, x1 - x0), dtype=bool))
    return FoundBox(name=name, score=score, box=a_box(x0=x0, y0=y0, x1=x1, y1=y1).box, mask=mask)


TWO = (a_box("circle", 0.9, 10, 20, 30, 60), a_box("square", 0.8, 50, 100, 90, 180))


def test_a_rectangle_gets_the_box_it_overlaps_most() -> None:
    item = asked(seeing(*TWO), drawing(rectangle(12, 8, 16, 24)))
    (region,) = item["result"]
    assert (region["from_name"], region["to_name"], region["type"]) == ("rect", "image", "rectanglelabels")
    assert region["value"] == {
        "x": 10,
        "y": 10,
        "width": 20,
        "height": 20,
        "rotation": 0,
        "rectanglelabels": ["circle"],
    }
    assert (region["original_width"], region["original_height"], region["score"]) == (100, 200, 0.9)
    assert item["score"] == 0.9


def test_the_label_asked_for_goes_before_a_better_fit() -> None:
    boxes = (a_box("circle", 0.9, 10, 20, 30, 60), a_box("square", 0.9, 10, 20, 30, 50))
    (region,) = asked(seeing(*boxes), drawing(rectangle(10, 10, 20, 15, "circle")))["result"]
    assert (region["value"]["rectanglelabels"], region["value"]["height"]) == (["circle"], 20)


def test_where_only_another_class_is_seen_the_box_is_the_models_and_the_label_the_persons() -> None:
    (region,) = asked(seeing(*TWO), drawing(rectangle(50, 50, 40, 40, "circle")))["result"]
    assert region["value"]["rectanglelabels"] == ["circle"]
    assert (region["value"]["x"], region["value"]["width"]) == (50, 40)


def test_a_tool_without_labels_gets_the_models_label() -> None:
    (region,) = asked(seeing(*TWO), drawing(rectangle(50, 50, 40, 40, None)))["result"]
    assert region["value"]["rectanglelabels"] == ["square"]


def test_a_label_of_a_separate_control_belongs_to_the_shape_of_its_id() -> None:
    """`<Rectangle smart="true">` beside `<Labels>`: the page sends one item for each."""
    shape = rectangle(10, 10, 20, 15, None)
    label = shape | {
        "type": "labels",
        "from_name": "labels",
        "value": shape["value"] | {"labels": ["circle"]},
    }
    boxes = (a_box("circle", 0.9, 10, 20, 30, 60), a_box("square", 0.9, 10, 20, 30, 50))
    (region,) = asked(seeing(*boxes), drawing(shape, label))["result"]
    assert region["value"]["rectanglelabels"] == ["circle"]


def test_a_turned_rectangle_is_compared_as_it_lies() -> None:
    # 20x40 px about its corner at (30, 20), a quarter clockwise: it covers x -10…30, y 20…40.
    turned = rectangle(30, 10, 20, 20, value={"x": 30, "y": 10, "width": 20, "height": 20, "rotation": 90})
    lying = a_box("square", 0.9, 0, 20, 30, 40)
    (region,) = asked(seeing(a_box("circle", 0.9, 30, 20, 50, 60), lying), drawing(turned))["result"]
    assert region["value"]["rectanglelabels"] == ["square"]


@pytest.mark.parametrize(
    "shape", [rectangle(40, 0, 5, 5), point(1, 1), rectangle(12, 8, 16, 24, to_name="other")]
)
def test_where_nothing_fits_there_is_no_region(shape: Any) -> None:
    item = asked(seeing(*TWO), drawing(shape))
    assert (item["result"], item["score"]) == ([], 0)


def test_a_person_who_points_at_it_needs_a_less_sure_model() -> None:
    client = seeing(a_box("circle", 0.2, 10, 20, 30, 60))
    assert asked(client, None)["result"] == []
    assert len(asked(client, drawing(rectangle(10, 10, 20, 20)))["result"]) == 1


def test_an_interactive_answer_has_the_version_of_all_others() -> None:
    client = seeing(*TWO)
    usual, drawn = asked(client, None), asked(client, drawing(rectangle(10, 10, 20, 20)))
    assert usual["model_version"] == drawn["model_version"]


@pytest.mark.parametrize("context", [None, {}, {"result": []}, {"result": None}, "text", [], 7])
def test_without_anything_drawn_it_is_an_ordinary_prediction(context: Any) -> None:
    assert len(asked(seeing(*TWO), context)["result"]) == 2


@pytest.mark.parametrize(
    "shape",
    [
        None,
        "text",
        {},
        {"type": "rectanglelabels"},
        {"type": "rectanglelabels", "value": {"x": "a", "y": None}},
        {"type": "brushlabels", "value": {"format": "rle", "rle": [1], "brushlabels": ["circle"]}},
        rectangle(10, 10, 20, 20) | {"value": {"x": 1, "y": 1, "width": [], "height": {}}},
    ],
)
def test_what_cannot_be_read_costs_only_itself(shape: Any) -> None:
    assert asked(seeing(*TWO), drawing(shape))["result"] == []
    assert len(asked(seeing(*TWO), drawing(shape, rectangle(10, 10, 20, 20)))["result"]) == 1


def test_each_rectangle_gets_its_own() -> None:
    shapes = drawing(
        rectangle(10, 10, 20, 20), rectangle(50, 50, 40, 40, "square"), rectangle(11, 11, 20, 20)
    )
    found = asked(seeing(*TWO), shapes)["result"]
    assert [region["value"]["rectanglelabels"] for region in found] == [["circle"], ["square"]]


def test_a_point_gets_the_smallest_box_round_it() -> None:
    boxes = (a_box("circle", 0.9, 0, 0, 90, 180), a_box("circle", 0.6, 10, 20, 30, 60))
    (region,) = asked(seeing(*boxes), drawing(point(20, 20)))["result"]
    assert region["value"]["width"] == 20


@pytest.mark.parametrize("config", [MASKS, POLYGONS])
def test_a_point_gets_the_mask_it_lies_on_not_the_box(config: str) -> None:
    client = seeing(left_half(), full("square", 0, 0, 100, 200), task="segment")
    (inside,) = asked(client, drawing(point(12, 13, "circle")), config)["result"]
    assert inside["value"][inside["type"]] == ["circle"]
    (beside,) = asked(client, drawing(point(28, 29, "square")), config)["result"]
    assert (beside["from_name"], beside["value"][beside["type"]]) == ("brush", ["square"])


def test_a_minus_point_keeps_what_holds_it_out() -> None:
    client = seeing(full("circle", 10, 20, 30, 60), full("circle", 0, 0, 60, 120), task="segment")
    both = drawing(point(20, 20), point(50, 50, is_positive=False))
    small, without = (
        asked(client, both, MASKS)["result"],
        drawing(point(20, 20), point(21, 21, is_positive=0)),
    )
    assert decode(small[0]["value"]["rle"], width=100).area_px == 20 * 40
    assert asked(client, without, MASKS)["result"] == []


def test_a_rectangle_of_a_control_that_is_skipped_gets_a_mask() -> None:
    client = seeing(full("circle", 10, 20, 30, 60), full("square", 50, 100, 90, 180), task="segment")
    (region,) = asked(client, drawing(rectangle(48, 48, 44, 44, "square")), MASKS)["result"]
    assert (region["from_name"], region["type"], region["value"]["brushlabels"]) == (
        "brush",
        "brushlabels",
        ["square"],
    )


def test_the_control_drawn_with_is_the_one_filled() -> None:
    client = seeing(full("circle", 10, 20, 30, 60), task="segment")
    config = MASKS.replace(
        'smart="true" model_skip="true">\n<Label value="circle"/><Label value="square"/></Rect',
        'smart="true"><Label value="circle"/></Rect',
    )
    (region,) = asked(client, drawing(rectangle(10, 10, 20, 20)), config)["result"]
    assert region["type"] == "rectanglelabels"


def test_an_object_with_key_points_comes_with_all_of_them() -> None:
    config = """<View><Image name="image" value="$image"/>
    <RectangleLabels name="kp_bbox" toName="image" model_skip="true"><Label value="circle"/></RectangleLabels>
    <KeyPointLabels name="kp" toName="image" smart="true"><Label value="nose" model_index="0"/></KeyPointLabels></View>"""
    points = (FoundPoint(x=20, y=30, score=0.8),)
    far = FoundBox(
        name="circle",
        score=0.9,
        box=a_box(x0=60, y0=100, x1=90, y1=180).box,
        points=(FoundPoint(x=70, y=120, score=0.7),),
    )
    near = FoundBox(name="circle", score=0.9, box=a_box().box, points=points)
    client = seeing(near, far, task="pose", point_names=("nose",))
    found = asked(client, drawing(point(15, 15, "nose", from_name="kp")), config)["result"]
    assert [region["type"] for region in found] == ["rectanglelabels", "keypointlabels"]
    assert found[1]["parentID"] == found[0]["id"]
    assert (found[1]["value"]["x"], found[1]["value"]["y"]) == (20, 15)


def test_an_ellipse_counts_as_the_rectangle_round_it() -> None:
    value = {"x": 20, "y": 20, "radiusX": 10, "radiusY": 10, "ellipselabels": ["circle"]}
    shape = rectangle(0, 0, 0, 0) | {"type": "ellipselabels", "value": value}
    (region,) = asked(seeing(*TWO), drawing(shape))["result"]
    assert (region["value"]["x"], region["value"]["y"]) == (10, 10)


def test_a_picture_that_cannot_be_had_is_told_as_ever() -> None:
    client = a_client(images=FakeImages({"s3://b/a.jpg": problem("unreachable", passing=True)}))
    assert "result" not in asked(client, drawing(rectangle(10, 10, 20, 20)))


def test_an_interactive_answer_is_not_recorded_as_what_the_person_had_before_them() -> None:
    kept: list[Any] = []
    client = a_client(FakeDetector(Found(boxes=TWO)), inferences=FakeInferences(kept))
    asked(client, drawing(rectangle(10, 10, 20, 20)))
    asked(client, None)
    drawn, usual = (records[0] for _, records in kept)
    assert drawn["interactive"] is True
    assert "interactive" not in usual


@given(st.integers(1, 30), st.integers(1, 30), st.randoms(use_true_random=False))
def test_a_mask_reads_back_as_it_was_written(width: int, height: int, random: Any) -> None:
    pixels = np.array([[random.random() < 0.4 for _ in range(width)] for _ in range(height)])
    read = decode(encode(pixels), width=width)
    assert [[read.holds(x, y) for x in range(width)] for y in range(height)] == pixels.tolist()
    assert read.area_px == pixels.sum()
    if pixels.any():
        down, across = np.nonzero(pixels)
        assert read.box() == (across.min(), down.min(), across.max() + 1, down.max() + 1)


def test_a_photographs_masks_take_no_memory_to_speak_of() -> None:
    pixels = np.zeros((3000, 4000), dtype=bool)
    pixels[1000:2000, 1000:3000] = True
    rle = encode(pixels)
    tracemalloc.start()
    read = [decode(rle, width=4000) for _ in range(10)]
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1_000_000
    assert {one.box() for one in read} == {(1000, 1000, 3000, 2000)}


@pytest.mark.parametrize("at", [(-5, 15), (25, 1e9), (float("nan"), 15), (float("inf"), 15)])
def test_a_point_beside_the_picture_is_on_nothing(at: tuple[float, float]) -> None:
    masks = (full("circle", 0, 0, 100, 200),)
    assert asked(seeing(*masks, task="segment"), drawing(point(*at)), MASKS)["result"] == []


def test_read_context_knows_drawn_from_not_drawn() -> None:
    assert read_context({"result": []}) is None
    assert read_context({"result": [{"type": "brush"}]}) == ()
