"""What a model finds becomes complete regions: every control on pictures, with a model that says what it is told."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle

from bridge.shapes import PixelBox, RotatedBox, corners_of, rotated_from_corners
from demo.plain_pictures import outline_of as drawn_outline
from ml_backend.brush import encode
from ml_backend.config import parse_config
from ml_backend.controls import CONTROLS
from ml_backend.decode import LoadedImage
from ml_backend.detectors import Found, FoundBox, FoundPoint, Mask
from ml_backend.fit import fit
from ml_backend.outlines import is_valid, outline_of
from ml_backend.plan import make_plan
from tests.unit.ml_backend.helpers import (
    CONFIG,
    FakeDetector,
    FakeImages,
    a_box,
    a_client,
    a_picture,
    predict,
    task,
    weights,
)

Json = dict[str, Any]


def made(
    config: str,
    found: Found,
    *,
    model: str = "detect",
    classes: tuple[str, ...] = ("circle", "square"),
    points: tuple[str, ...] = (),
    loaded: LoadedImage | None = None,
) -> list[Json]:
    """The regions that the backend gives for one picture."""
    detector = FakeDetector(found, task=model, class_names=classes, point_names=points)
    images = FakeImages({"picture": loaded or a_picture(100, 200)})
    [item] = predict(a_client(detector, images=images), [task(1, "picture")], config)
    assert "error" not in item, item
    json.dumps(item, allow_nan=False)
    regions: list[Json] = item["result"]
    for region in regions:
        complete(region)
    assert len({region["id"] for region in regions}) == len(regions)
    return regions


def complete(region: Json) -> None:
    """What Label Studio, its exports and its data manager need of every region."""
    assert {
        "id",
        "from_name",
        "to_name",
        "type",
        "original_width",
        "original_height",
        "image_rotation",
    } <= set(region)
    assert 0 <= region["score"] <= 1
    value = region["value"]
    numbers = [value[name] for name in ("x", "y", "width", "height") if name in value]
    numbers += [number for point in value.get("points", []) for number in point]
    assert all(0 <= number <= 100 for number in numbers)


def on_image(inside: str) -> str:
    return f'<View><Image name="image" value="$image"/>{inside}</View>'


def control(tag: str, attributes: str = "", labels: str = '<Label value="circle"/>') -> str:
    return on_image(f'<{tag} name="c" toName="image" {attributes}>{labels}</{tag}>')


def mask_of(rows: list[str], left: int = 0, top: int = 0) -> Mask:
    return Mask(left=left, top=top, pixels=np.array([[letter == "#" for letter in row] for row in rows]))


def drawn(name: str, centre: tuple[float, float], length: float, turn: float, size: tuple[int, int]) -> Mask:
    """The pixels whose middle lies in a drawn shape."""
    import cv2

    corners = np.array(drawn_outline(name, centre, length, turn), dtype=np.float32)
    pixels = [
        [cv2.pointPolygonTest(corners, (x + 0.5, y + 0.5), False) >= 0 for x in range(size[0])]
        for y in range(size[1])
    ]
    return Mask(left=0, top=0, pixels=np.array(pixels))


def with_mask(mask: Mask | None) -> Found:
    return Found(
        boxes=(FoundBox(name="circle", score=0.8, box=PixelBox(x0=0, y0=0, x1=50, y1=50), mask=mask),)
    )


def whole(mask: Mask, size: tuple[int, int]) -> np.ndarray:
    pixels = np.zeros((size[1], size[0]), dtype=bool)
    height, width = mask.pixels.shape
    pixels[mask.top : mask.top + height, mask.left : mask.left + width] = mask.pixels
    return pixels


# Rectangles


def test_a_rectangle_is_complete() -> None:
    [region] = made(CONFIG, Found(boxes=(a_box(x0=10, y0=20, x1=30, y1=60, score=0.75),)))
    assert region.pop("id")
    assert region == {
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": 100,
        "original_height": 200,
        "image_rotation": 0,
        "value": {
            "x": 10,
            "y": 10,
            "width": 20,
            "height": 20,
            "rotation": 0,
            "rectanglelabels": ["Circle"],
        },
        "score": 0.75,
    }


def test_percent_are_of_the_reduced_image_and_the_size_is_the_displayed_one() -> None:
    loaded = LoadedImage(image=a_picture(100, 200).image, width=5000, height=10000)
    [region] = made(CONFIG, Found(boxes=(a_box(x0=10, y0=20, x1=30, y1=60),)), loaded=loaded)
    assert region["value"]["x"] == 10
    assert (region["original_width"], region["original_height"]) == (5000, 10000)


def test_boxes_are_cut_at_the_edge_and_dropped_outside() -> None:
    boxes = (a_box(x0=-10, y0=150, x1=50, y1=250), a_box(x0=120, y0=0, x1=130, y1=10))
    found = made(CONFIG, Found(boxes=boxes))
    assert [[region["value"][name] for name in ("x", "width", "y", "height")] for region in found] == [
        [0, 50, 75, 25]
    ]


@pytest.mark.parametrize(
    ("score", "kept"),
    [
        (0.5, True),
        (0.499, False),
        (math.nan, False),
    ],  # the threshold itself counts; NaN would poison the database
)
def test_scores_below_the_threshold_are_dropped(score: float, kept: bool) -> None:
    assert bool(made(CONFIG, Found(boxes=(a_box(score=score),)))) is kept


def test_classes_without_a_label_are_dropped_and_the_best_come_first() -> None:
    found = made(CONFIG, Found(boxes=(a_box("triangle"), a_box("square", 0.6), a_box("circle", 0.8))))
    assert [region["value"]["rectanglelabels"] for region in found] == [["Circle"], ["Box"]]


SIZES = [(200, 100), (100, 200), (640, 480)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("turn", [0, 10, 45, 89.5, 90, 137, 180, 200, 270, 300, 359.9])
def test_an_oriented_box_has_its_corners_where_they_were(size: tuple[int, int], turn: float) -> None:
    corners = drawn_outline("bar", (size[0] / 2, size[1] / 2), min(size) * 0.8, math.radians(turn))
    upright = PixelBox(x0=0, y0=0, x1=1, y1=1)
    [region] = made(
        control("RectangleLabels", 'model_obb="true"'),
        Found(boxes=(FoundBox(name="circle", score=0.9, box=upright, corners=corners),)),
        model="obb",
        loaded=a_picture(*size),
    )
    value = region["value"]
    back = corners_of(
        RotatedBox(**{name: value[name] for name in ("x", "y", "width", "height", "rotation")}), size
    )
    for corner in corners:
        assert min(math.dist(corner, other) for other in back) < 0.01
    assert 0 <= value["rotation"] < 360


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("way", [1, -1])
def test_the_order_of_the_corners_does_not_matter(start: int, way: int) -> None:
    corners = list(drawn_outline("bar", (50, 50), 60, 0.4))[::way]
    box = rotated_from_corners(corners[start:] + corners[:start], (100, 100))
    assert box is not None
    assert (box.rotation, box.width) == (pytest.approx(math.degrees(0.4)), pytest.approx(60))


@pytest.mark.parametrize(
    ("centre", "turn"),
    [((5, 50), 0.3), ((95, 95), 0.8), ((50, 2), 1.2), ((0, 0), 2.5), ((100, 50), 0.0), ((50, 50), 0.78)],
)
def test_an_oriented_box_over_the_edge_keeps_what_is_on_the_image(
    centre: tuple[float, float], turn: float
) -> None:
    corners = drawn_outline("bar", centre, 150, turn)
    box = rotated_from_corners(corners, (100, 100))
    assert box is not None
    assert all(0 <= number <= 100 for number in (box.x, box.y, box.width, box.height))


def test_an_oriented_box_beside_the_image_is_none() -> None:
    assert rotated_from_corners(drawn_outline("bar", (-90, 50), 60, 0.3), (100, 100)) is None
    assert rotated_from_corners([(math.nan, 0), (1, 0), (1, 1), (0, 1)], (100, 100)) is None
    assert rotated_from_corners([(5, 5), (5, 5), (5, 5), (5, 5)], (100, 100)) is None


def test_an_oriented_model_also_fills_upright_rectangles() -> None:
    corners = drawn_outline("bar", (50, 100), 60, 0.5)
    box = PixelBox(x0=20, y0=70, x1=80, y1=130)
    found = Found(boxes=(FoundBox(name="circle", score=0.9, box=box, corners=corners),))
    [region] = made(control("RectangleLabels"), found, model="obb")
    assert (region["value"]["x"], region["value"]["rotation"]) == (20, 0)


# Masks


@pytest.mark.parametrize("tag", ["PolygonLabels", "BrushLabels"])
@pytest.mark.parametrize("found", [Found(), with_mask(None), with_mask(mask_of(["...", "..."]))])
def test_nothing_found_is_an_empty_result(tag: str, found: Found) -> None:
    assert made(control(tag), found, model="segment") == []


SHAPES = [("disc", 0.0), ("bar", 0.4), ("bar", 1.5708), ("arrow", 2.0)]


@pytest.mark.parametrize(("name", "turn"), SHAPES)
@pytest.mark.parametrize("tolerance", [0, 0.5, 1, 3])
def test_a_polygon_lies_on_the_edge_of_its_mask(name: str, turn: float, tolerance: float) -> None:
    size = (120, 90)
    mask = drawn(name, (60, 45), 60, turn, size)
    attribute = f'model_polygon_tolerance="{tolerance}"'
    [region] = made(
        control("PolygonLabels", attribute), with_mask(mask), model="segment", loaded=a_picture(*size)
    )
    value = region["value"]
    assert (value["closed"], value["polygonlabels"]) == (True, ["circle"])
    points = np.array(value["points"]) * size / 100
    assert is_valid(points)
    # Drawn again at eight times the size: it covers the mask but for a strip along the edge.
    import cv2

    fine = np.zeros((size[1] * 8, size[0] * 8), np.uint8)
    cv2.fillPoly(fine, [np.round(points * 8 - 0.5).astype(np.int32)], 1)
    want = whole(mask, size).repeat(8, 0).repeat(8, 1)
    outside_strip = cv2.distanceTransform(want.astype(np.uint8), cv2.DIST_L2, 5) > (tolerance + 0.8) * 8
    beyond_strip = cv2.distanceTransform((~want).astype(np.uint8), cv2.DIST_L2, 5) > (tolerance + 0.8) * 8
    assert fine[outside_strip].all()
    assert not fine[beyond_strip].any()


def test_a_larger_tolerance_has_fewer_corners() -> None:
    mask = drawn("disc", (60, 45), 60, 0, (120, 90))
    counts = [len(outline_of(mask, tolerance_px=tolerance)) for tolerance in (0, 0.5, 1, 4)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < 12 < counts[0]


@pytest.mark.parametrize(
    "rows",
    [
        ["#"],  # one pixel
        ["####"],  # a line
        ["#..", ".#.", "..#"],  # pixels that touch at corners
        ["##..", "##..", "..##", "..##"],
        ["#####", "#...#", "#.#.#", "#...#", "#####"],  # a hole with an island
        ["##...###", "##...###"],  # two pieces: the larger counts
        ["#.#.#", "#####", "#.#.#"],  # a comb
    ],
)
@pytest.mark.parametrize("tolerance", [0, 1, 50])
def test_every_mask_has_a_valid_outline(rows: list[str], tolerance: float) -> None:
    outline = np.array(outline_of(mask_of(rows, 10, 20), tolerance_px=tolerance))
    assert len(outline) >= 3
    assert is_valid(outline)
    assert outline.min(axis=0)[0] >= 10
    assert outline.min(axis=0)[1] >= 20


def test_noise_has_a_valid_outline() -> None:
    rng = np.random.default_rng(5)
    for share in (0.3, 0.6, 0.9):
        mask = Mask(left=0, top=0, pixels=rng.random((40, 40)) < share)
        for tolerance in (0.0, 1.0):
            assert is_valid(np.array(outline_of(mask, tolerance_px=tolerance)))


@pytest.mark.parametrize(
    ("corners", "valid"),
    [
        ([(0, 0), (4, 0), (4, 4), (0, 4)], True),
        ([(0, 0), (4, 4), (4, 0), (0, 4)], False),  # a bow tie
        ([(0, 0), (4, 0)], False),
        ([(0, 0), (2, 0), (4, 0)], False),  # no area
        ([(0, 0), (4, 0), (4, 4), (2, 0), (0, 4)], False),  # a corner on another edge
        ([(0, 0), (4, 0), (4, 4), (4, 0), (0, 4)], False),  # there and back
    ],
)
def test_outlines_that_meet_themselves_are_not_valid(corners: list[tuple[int, int]], valid: bool) -> None:
    assert is_valid(np.array(corners)) is valid


@pytest.mark.parametrize(("name", "turn"), SHAPES)
def test_a_brush_decodes_to_its_mask(name: str, turn: float) -> None:
    size = (120, 90)
    mask = drawn(name, (60, 45), 60, turn, size)
    [region] = made(control("BrushLabels"), with_mask(mask), model="segment", loaded=a_picture(*size))
    assert (region["value"]["format"], region["value"]["brushlabels"]) == ("rle", ["circle"])
    assert all(isinstance(byte, int) and 0 <= byte <= 255 for byte in region["value"]["rle"])
    decoded = decode_rle(region["value"]["rle"]).reshape(size[1], size[0], 4)
    assert (decoded == np.where(whole(mask, size), 255, 0)[..., None]).all()


def test_a_brush_has_the_size_the_image_is_displayed_in() -> None:
    mask = mask_of(["##", ".#"], left=3, top=1)
    loaded = LoadedImage(image=a_picture(10, 5).image, width=30, height=15)
    [region] = made(control("BrushLabels"), with_mask(mask), model="segment", loaded=loaded)
    decoded = decode_rle(region["value"]["rle"]).reshape(15, 30, 4)[..., 3] > 0
    assert (decoded == whole(mask, (10, 5)).repeat(3, 0).repeat(3, 1)).all()


@pytest.mark.parametrize("side", [1, 2, 7, 300])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_any_mask_survives_the_run_lengths(side: int, share: float) -> None:
    pixels = np.random.default_rng(side).random((side, side + 1)) < share
    if side == 300 and share == 0.5:
        pixels[50:] = True  # runs longer than one code holds
    decoded = decode_rle(encode(pixels)).reshape(side, side + 1, 4)
    assert (decoded == np.where(pixels, 255, 0)[..., None]).all()


# Key points

POSE = """<RectangleLabels name="c_bbox" toName="image" model_skip="true"><Label value="Person" predicted_values="man"/>
</RectangleLabels><KeyPointLabels name="c" toName="image" {}><Label value="Nose" predicted_values="man" model_index="0"/>
<Label value="tail" model_index="2"/><Label value="Ear"/></KeyPointLabels>"""


def person(*points: tuple[float, float, float], name: str = "man") -> FoundBox:
    return FoundBox(
        name=name,
        score=0.9,
        box=PixelBox(x0=10, y0=20, x1=60, y1=120),
        points=tuple(FoundPoint(x=x, y=y, score=score) for x, y, score in points),
    )


def points_of(inside: str, *boxes: FoundBox) -> list[Json]:
    return made(
        on_image(inside), Found(boxes=boxes), model="pose", classes=("man", "cat"), points=("nose", "ear", "")
    )


def test_key_points_come_with_the_rectangle_that_holds_them() -> None:
    parent, *points = points_of(POSE.format(""), person((20, 40, 0.9), (30, 50, 0.4), (50, 100, 0.7)))
    assert (parent["from_name"], parent["type"], parent["value"]["rectanglelabels"]) == (
        "c_bbox",
        "rectanglelabels",
        ["Person"],
    )
    assert [
        (point["value"]["keypointlabels"], point["value"]["x"], point["value"]["y"]) for point in points
    ] == [
        (["Nose"], 20, 20),
        (["Ear"], 30, 25),
        (["tail"], 50, 50),
    ]
    assert {point["parentID"] for point in points} == {parent["id"]}
    assert [point["score"] for point in points] == [0.9, 0.4, 0.7]
    assert {point["value"]["width"] for point in points} == {1.0}


def test_objects_do_not_share_their_rectangles() -> None:
    one, other = person((20, 40, 0.9)), person((70, 80, 0.9))
    regions = points_of(POSE.format(""), one, other)
    parents = [region["id"] for region in regions if "parentID" not in region]
    assert [region["parentID"] for region in regions if "parentID" in region] == parents
    assert len(set(parents)) == 2


def test_points_below_their_threshold_or_off_the_image_are_left_out() -> None:
    attributes = 'model_point_threshold="0.5" model_point_size="2.5"'
    regions = points_of(
        POSE.format(attributes), person((20, 40, 0.6), (30, 50, 0.4), (-5, 100, 0.9)), person((1, 1, 0.1))
    )
    assert [region["value"].get("keypointlabels") for region in regions] == [None, ["Nose"]]
    assert regions[1]["value"]["width"] == 2.5


def test_points_come_alone_where_it_is_wanted() -> None:
    regions = points_of(POSE.format('model_add_bboxes="false"'), person((20, 40, 0.9)))
    assert [region["type"] for region in regions] == ["keypointlabels"]
    assert "parentID" not in regions[0]


def test_a_rectangle_is_never_sent_to_a_control_that_is_not_there() -> None:
    config = on_image(POSE.format("").replace("c_bbox", "other").replace('model_skip="true"', ""))
    found = Found(boxes=(person((20, 40, 0.9)),))
    regions = made(config, found, model="pose", classes=("man",), points=("nose", "ear", ""))
    names = [(region["from_name"], "parentID" in region) for region in regions]
    assert names == [("other", False), ("c", False)]
    [rectangles, points] = make_plan(
        config, default=weights(), threshold=0.5, named=lambda _: weights()
    ).planned
    _, problems = fit(
        points, FakeDetector(task="pose", class_names=("man",), point_names=("nose", "ear", ""))
    )
    assert (
        '<RectangleLabels name="c_bbox" toName="image" model_skip="true"><Label value="man"/>' in problems[-1]
    )
    assert rectangles.control.name == "other"


def test_labels_without_a_point_show_what_the_model_has() -> None:
    config = control("KeyPointLabels", labels='<Label value="Knee"/><Label value="Toe" model_index="7"/>')
    [item] = make_plan(config, default=weights(), threshold=0.5, named=lambda _: weights()).planned
    ready, problems = fit(item, FakeDetector(task="pose", class_names=("man",), point_names=("nose", "ear")))
    assert ready is None
    assert "Labels: Knee, Toe. Classes: man. Points: 0 nose, 1 ear." in problems[-1]
    assert '<Label value="Knee" predicted_values="man" model_index="0"/>' in problems[-1]
    assert "label 'Toe' has model_index=7" in problems[1]


def test_two_labels_for_one_point_are_reported() -> None:
    labels = '<Label value="A" model_index="0"/><Label value="B" model_index="0"/>'
    config = control("KeyPointLabels", 'model_add_bboxes="no"', labels)
    [item] = make_plan(config, default=weights(), threshold=0.5, named=lambda _: weights()).planned
    _, [problem] = fit(item, FakeDetector(task="pose", class_names=("man",), point_names=("nose",)))
    assert "labels 'A' and 'B' both claim point 0 of 'man': 'A' gets it" in problem


# Whole pictures

SCORES = (("cat", 0.2), ("bird", 0.9), ("dog", 0.6), ("kitten", 0.25), ("broken", math.nan))
CHOICES = '<Choice value="Cat" predicted_values="cat,kitten"/><Choice value="Dog"/>'


def whole_picture(tag: str, attributes: str, labels: str) -> list[Json]:
    classes = tuple(name for name, _ in SCORES)
    found = Found(class_scores=SCORES)
    return made(control(tag, attributes, labels), found, model="classify", classes=classes)


@pytest.mark.parametrize(
    ("choice", "threshold", "expected"),
    [
        ("single", 0.5, ["Dog"]),
        ("single-radio", 0.1, ["Dog"]),
        ("multiple", 0.2, ["Dog", "Cat"]),  # best first; two classes of one choice are one
        ("multiple", 0.7, []),
        ("single", 0.7, []),
    ],
)
def test_choices(choice: str, threshold: float, expected: list[str]) -> None:
    found = whole_picture("Choices", f'choice="{choice}" model_score_threshold="{threshold}"', CHOICES)
    assert [region["value"]["choices"] for region in found] == ([expected] if expected else [])
    assert {region["type"] for region in found} <= {"choices"}


def test_the_score_of_choices_is_the_mean_of_those_chosen() -> None:
    [region] = whole_picture("Choices", 'choice="multiple" model_score_threshold="0.2"', CHOICES)
    assert region["score"] == pytest.approx((0.6 + 0.25) / 2)


TREE = """<Choice value="Animal" alias="animal"><Choice value="Pet"><Choice value="Cat" predicted_values="cat,kitten"/>
<Choice value="Dog"/></Choice><Choice value="bird" alias="b"/></Choice>"""


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("", [["animal", "b"]]),
        ('choice="multiple" model_score_threshold="0.1"', [["animal", "b"], ["animal", "Pet", "Dog"], ["animal", "Pet", "Cat"]]),
        ('choice="multiple" maxUsages="2" model_score_threshold="0.1"', [["animal", "b"], ["animal", "Pet", "Dog"]]),
    ],
)  # fmt: skip
def test_a_taxonomy_holds_the_way_to_each_choice(attributes: str, expected: list[list[str]]) -> None:
    [region] = whole_picture("Taxonomy", attributes, TREE)
    assert region["type"] == "taxonomy"
    assert region["value"] == {"taxonomy": expected}


@pytest.mark.parametrize(
    ("tag", "attributes", "expected"),
    [
        # Label Studio shows no choice below another one without allowNested, and writes ways with it.
        ("Choices", 'choice="multiple"', ["animal"]),
        ("Choices", 'choice="multiple" allowNested="true"', [["animal", "b"], ["animal", "Pet", "Dog"]]),
        ("Taxonomy", 'choice="multiple"', [["animal"], ["animal", "b"], ["animal", "Pet", "Dog"]]),
        ("Taxonomy", 'choice="multiple" leafsOnly="true"', [["animal", "b"], ["animal", "Pet", "Dog"]]),
    ],
)
def test_only_what_a_person_could_choose_is_chosen(tag: str, attributes: str, expected: list[Any]) -> None:
    found = Found(class_scores=(("animal", 0.95), ("bird", 0.9), ("dog", 0.6)))
    classes = ("animal", "bird", "dog")
    [region] = made(control(tag, attributes, TREE), found, model="classify", classes=classes)
    assert region["value"][tag.lower()] == expected


def test_choices_that_may_be_nested_are_written_with_their_way() -> None:
    [region] = whole_picture("Choices", 'allowNested="true"', CHOICES)
    assert region["value"]["choices"] == [["Dog"]]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [("", [(None, ["dog"])]), ('perItem="true"', [(0, ["cat"]), (1, ["dog"])])],
)
def test_pages_are_one_thing_unless_each_is_classified(
    attributes: str, expected: list[tuple[int | None, list[str]]]
) -> None:
    config = (
        f'<View><Image name="image" valueList="$pages"/><Choices name="c" toName="image" {attributes}>'
        '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
    )
    per_width = {
        10: Found(class_scores=(("cat", 0.7), ("dog", 0.3))),
        20: Found(class_scores=(("cat", 0.1), ("dog", 0.9))),
    }
    detector = FakeDetector(per_width=per_width, task="classify", class_names=("cat", "dog"))
    images = FakeImages({"a": a_picture(10, 10), "b": a_picture(20, 20)})
    [item] = predict(a_client(detector, images=images), [{"id": 1, "data": {"pages": ["a", "b"]}}], config)
    found = [(region.get("item_index"), region["value"]["choices"]) for region in item["result"]]
    assert found == expected


def test_choices_of_regions_are_left_to_people() -> None:
    config = control("Choices", 'perRegion="true"', CHOICES)
    plan = make_plan(config, default=weights(), threshold=0.5, named=lambda _: weights())
    assert plan.planned == ()
    assert "left to people" in plan.problems[0]


# Several


def test_every_control_on_a_picture_reads_one_pass_of_the_model() -> None:
    detector = FakeDetector(
        Found(
            boxes=(
                FoundBox(
                    name="circle",
                    score=0.8,
                    box=PixelBox(x0=10, y0=10, x1=20, y1=20),
                    mask=mask_of(["###", "###", "###"], 12, 12),
                ),
                a_box("square", 0.3),
            )
        ),
        task="segment",
    )
    config = on_image(
        "".join(
            f'<{tag} name="{tag}" toName="image" {more}><Label value="circle"/><Label value="square"/></{tag}>'
            for tag, more in (
                ("RectangleLabels", 'model_score_threshold="0.2"'),
                ("PolygonLabels", 'model_classes="0"'),
                ("BrushLabels", 'model_max_det="1"'),
            )
        )
    )
    [item] = predict(a_client(detector), [task()], config)
    assert [region["from_name"] for region in item["result"]] == [
        "RectangleLabels",
        "RectangleLabels",
        "PolygonLabels",
        "BrushLabels",
    ]
    [look] = detector.looks
    assert (look.conf, look.max_det, look.classes) == (0.2, 300, None)


def test_what_changes_the_pass_itself_has_one_of_its_own() -> None:
    config = on_image(
        '<RectangleLabels name="a" toName="image" model_imgsz="320" model_iou="0.4"><Label value="circle"/>'
        '</RectangleLabels><RectangleLabels name="b" toName="image" model_classes="SQUARE, 0" model_max_det="7"'
        ' model_conf="0.1" model_device="cpu"><Label value="circle"/></RectangleLabels>'
    )
    detector = FakeDetector()
    predict(a_client(detector), [task(1), task(2, "s3://b/2")], config)
    assert detector.batches == [2, 2]
    first, second = detector.looks
    assert (first.imgsz, first.iou, first.conf, first.classes, first.device) == (320, 0.4, 0.5, None, None)
    assert (second.imgsz, second.conf, second.classes, second.max_det, second.device) == (
        None,
        0.1,
        ("square", "circle"),
        7,
        "cpu",
    )


def test_a_control_on_two_pictures_fills_both() -> None:
    config = (
        '<View><Image name="a" value="$left"/><Image name="b" value="$right"/>'
        '<RectangleLabels name="r" toName="a,b"><Label value="circle"/></RectangleLabels></View>'
    )
    detector = FakeDetector(per_width={10: Found(boxes=(a_box(x0=1, y0=1, x1=5, y1=5),)), 20: Found()})
    images = FakeImages({"l": a_picture(10, 10), "r": a_picture(20, 20)})
    client = a_client(detector, images=images)
    [item] = predict(client, [{"id": 1, "data": {"left": "l", "right": "r"}}], config)
    assert [region["to_name"] for region in item["result"]] == ["a"]
    [item] = predict(client, [{"id": 1, "data": {"left": "r", "right": "l"}}], config)
    assert [region["to_name"] for region in item["result"]] == ["b"]
    assert sum(detector.batches) == 4


def test_pages_of_one_image_tag_are_told_apart() -> None:
    config = (
        '<View><Image name="image" valueList="$pages"/>'
        '<RectangleLabels name="r" toName="image"><Label value="circle"/></RectangleLabels></View>'
    )
    images = FakeImages({"p1": a_picture(10, 10), "p2": a_picture(40, 40)})
    [item] = predict(a_client(images=images), [{"id": 1, "data": {"pages": ["p1", "p2"]}}], config)
    assert [(region["item_index"], region["original_width"]) for region in item["result"]] == [(1, 40)]
    [item] = predict(a_client(images=images), [{"id": 1, "data": {"pages": []}}], config)
    assert "is no list of addresses" in item["error"]


def test_every_control_says_what_it_is() -> None:
    assert {kind.tag for kind in CONTROLS.values()} == {
        "RectangleLabels",
        "PolygonLabels",
        "BrushLabels",
        "KeyPointLabels",
        "Choices",
        "Taxonomy",
        "VideoRectangle",
        "TimelineLabels",
    }
    assert all((kind.to_regions is None) != (kind.follow is None) for kind in CONTROLS.values())


def test_skipped_controls_are_marked() -> None:
    [one] = parse_config(control("RectangleLabels", 'model_skip="True"'))
    assert one.skip
