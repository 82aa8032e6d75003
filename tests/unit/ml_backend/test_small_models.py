"""The small models, with torch: masks, oriented boxes, key points and classes of shapes whose outline is known.

They were trained for minutes: not every shape is found. What is found lies where it was drawn; and what a control
makes of it lies where the model found it, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from label_studio_sdk.converter.brush import decode_rle
from PIL import Image

from bridge.shapes import PixelBox, RotatedBox, corners_of, iou
from demo.plain_pictures import POINTS, PlainPicture, Shape, draw_plain
from demo.train_small import NAMES, SIDE
from ml_backend.decode import LoadedImage, decode
from ml_backend.detectors import Found, Look
from ml_backend.outlines import is_valid
from ml_backend.yolo import YoloDetector, keep_ultralytics_to_itself
from tests.unit.ml_backend.helpers import FakeImages, a_client, image_bytes, predict, task

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore"),
]  # torch's and ultralytics' own warnings
FILES = {"segment": "demo-seg.pt", "obb": "demo-obb.pt", "pose": "demo-pose.pt", "classify": "demo-cls.pt"}
SEEDS = range(30_000_000, 30_000_016)  # never trained on
Json = dict[str, Any]
MODELS = Path(__file__).parents[3] / "models"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], YoloDetector]]:
    with pytest.MonkeyPatch.context() as patch:
        environ: dict[str, str] = {}
        keep_ultralytics_to_itself(environ, tmp_path_factory.mktemp("ultralytics"))
        for name, value in environ.items():
            patch.setenv(name, value)
        yield cache(lambda kind: YoloDetector(MODELS / FILES[kind], threads=1))


def pictures(kind: str) -> list[PlainPicture]:
    return [draw_plain(seed, SIDE, names=NAMES[kind], most=1) for seed in SEEDS]


def regions(detector: YoloDetector, drawn: list[PlainPicture], inside: str) -> list[list[Json]]:
    """What the backend predicts for the pictures, each a task."""
    images = {
        str(number): LoadedImage(image=picture.image, width=SIDE, height=SIDE)
        for number, picture in enumerate(drawn)
    }
    config = f'<View><Image name="i" value="$image"/>{inside}</View>'
    items = predict(
        a_client(detector, images=FakeImages(images)),
        [task(number, str(number)) for number in range(len(drawn))],
        config,
    )
    assert not any("error" in item for item in items)
    return [item["result"] for item in items]


def labels(kind: str) -> str:
    return "".join(f'<Label value="{name}"/>' for name in NAMES[kind])


def drawn_mask(shape: Shape, finer: int = 1) -> np.ndarray:
    """The shape's pixels."""
    whole = np.zeros((SIDE * finer, SIDE * finer), np.uint8)
    corners = np.round(np.array(shape.outline) * finer - 0.5).astype(np.int32)
    cv2.fillPoly(whole, [corners], 1)
    return whole > 0


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def share_found(
    found: list[list[Json]], drawn: list[PlainPicture], fits: Callable[[Json, Shape], bool]
) -> float:
    hits = [
        any(fits(region, picture.shapes[0]) for region in of_one)
        for of_one, picture in zip(found, drawn, strict=True)
    ]
    return sum(hits) / len(hits)


def test_masks_lie_on_what_was_drawn(model: Callable[[str], YoloDetector]) -> None:
    drawn = pictures("segment")
    found = regions(
        model("segment"),
        drawn,
        f'<BrushLabels name="b" toName="i" model_conf="0.25">{labels("segment")}</BrushLabels>',
    )

    def fits(region: Json, shape: Shape) -> bool:
        mask = decode_rle(region["value"]["rle"]).reshape(SIDE, SIDE, 4)[..., 3] > 0
        return region["value"]["brushlabels"] == [shape.name] and overlap(mask, drawn_mask(shape)) > 0.75

    assert share_found(found, drawn, fits) >= 0.6


def test_a_polygon_is_the_brush_of_the_same_object(model: Callable[[str], YoloDetector]) -> None:
    drawn = pictures("segment")
    both = "".join(
        f'<{tag} name="{tag}" toName="i" model_conf="0.25">{labels("segment")}</{tag}>'
        for tag in ("BrushLabels", "PolygonLabels")
    )
    compared = 0
    for of_one in regions(model("segment"), drawn, both):
        brushes = [region for region in of_one if region["type"] == "brushlabels"]
        polygons = [region for region in of_one if region["type"] == "polygonlabels"]
        assert len(brushes) == len(polygons)
        for brush, polygon in zip(brushes, polygons, strict=True):
            points = np.array(polygon["value"]["points"]) * SIDE / 100
            assert is_valid(points)
            mask = (decode_rle(brush["value"]["rle"]).reshape(SIDE, SIDE, 4)[..., 3] > 0).astype(np.uint8)
            filled = np.zeros((SIDE, SIDE), np.uint8)
            cv2.fillPoly(filled, [np.floor(points).astype(np.int32)], 1)
            parts, _ = cv2.connectedComponents(mask)
            if parts == 2:  # one piece, beside the background
                assert overlap(filled > 0, mask > 0) > 0.8
                compared += 1
    assert compared >= 5


def test_oriented_boxes_lie_on_what_was_drawn(model: Callable[[str], YoloDetector]) -> None:
    drawn = pictures("obb")
    found = regions(
        model("obb"),
        drawn,
        f'<RectangleLabels name="r" toName="i" model_obb="true" model_conf="0.25">{labels("obb")}</RectangleLabels>',
    )

    def fits(region: Json, shape: Shape) -> bool:
        value = region["value"]
        box = RotatedBox(**{name: value[name] for name in ("x", "y", "width", "height", "rotation")})
        corners = corners_of(box, (SIDE, SIDE))
        filled = drawn_mask(Shape(name="", outline=corners), 4)
        return overlap(filled, drawn_mask(shape, 4)) > 0.6

    assert share_found(found, drawn, fits) >= 0.5


def test_oriented_corners_are_the_models_own(model: Callable[[str], YoloDetector]) -> None:
    """Within a hundredth of a pixel, for every box that lies on the picture."""
    compared = 0
    inside = f'<RectangleLabels name="r" toName="i" model_obb="true" model_conf="0.25">{labels("obb")}</RectangleLabels>'
    drawn = pictures("obb")
    seen = model("obb").predict([picture.image for picture in drawn], look=Look(conf=0.25))
    for of_one, found in zip(regions(model("obb"), drawn, inside), seen, strict=True):
        for region in of_one:
            value = region["value"]
            box = RotatedBox(**{name: value[name] for name in ("x", "y", "width", "height", "rotation")})
            corners = corners_of(box, (SIDE, SIDE))
            if any(same_corners(corners, other.corners) for other in found.boxes):
                compared += 1
            else:
                near_the_edge = [
                    other
                    for other in found.boxes
                    if any(not 0 <= number <= SIDE for corner in other.corners for number in corner)
                ]
                assert near_the_edge
    assert compared >= 5


def same_corners(a: tuple[tuple[float, float], ...], b: tuple[tuple[float, float], ...]) -> bool:
    return all(min(math.dist(one, other) for other in b) < 0.01 for one in a)


def test_key_points_are_the_models_own_and_their_rectangles_lie_on_what_was_drawn(
    model: Callable[[str], YoloDetector],
) -> None:
    """So little training teaches the model where arrows are, not yet where their tips are: points are compared with its own."""
    assert model("pose").point_names == POINTS
    drawn = pictures("pose")
    found = regions(
        model("pose"),
        drawn,
        '<RectangleLabels name="k_bbox" toName="i"><Label value="Arrow"/></RectangleLabels>'
        '<KeyPointLabels name="k" toName="i" model_conf="0.25">'
        + "".join(f'<Label value="{name}"/>' for name in POINTS)
        + "</KeyPointLabels>",
    )
    seen = model("pose").predict([picture.image for picture in drawn], look=Look(conf=0.25))
    for of_one, told in zip(found, seen, strict=True):
        parents = {region["id"] for region in of_one if region["from_name"] == "k_bbox"}
        points = [region for region in of_one if region["type"] == "keypointlabels"]
        assert {region["parentID"] for region in points} == parents
        places = {
            (POINTS[index], round(point.x, 3), round(point.y, 3))
            for box in told.boxes
            for index, point in enumerate(box.points)
        }
        for point in points:
            x, y = (round(point["value"][axis] * SIDE / 100, 3) for axis in ("x", "y"))
            assert (point["value"]["keypointlabels"][0], x, y) in places

    def fits(region: Json, shape: Shape) -> bool:
        if region["type"] != "rectanglelabels":
            return False
        x, y, width, height = (region["value"][name] * SIDE / 100 for name in ("x", "y", "width", "height"))
        x0, y0, x1, y1 = shape.box
        return (
            iou(PixelBox(x0=x, y0=y, x1=x + width, y1=y + height), PixelBox(x0=x0, y0=y0, x1=x1, y1=y1)) > 0.6
        )

    assert share_found(found, drawn, fits) >= 0.5


def test_classes_of_whole_pictures_are_right_mostly(model: Callable[[str], YoloDetector]) -> None:
    drawn = pictures("classify")
    options = "".join(f'<Choice value="{name.upper()}"/>' for name in NAMES["classify"])
    found = regions(
        model("classify"),
        drawn,
        f'<Choices name="c" toName="i" model_conf="0.1">{options}</Choices>'
        f'<Taxonomy name="t" toName="i" model_conf="0.1"><Choice value="shape">{options}</Choice></Taxonomy>',
    )
    right = 0
    for of_one, picture in zip(found, drawn, strict=True):
        choice, tree = of_one
        assert tree["value"]["taxonomy"] == [["shape", *choice["value"]["choices"]]]
        right += choice["value"]["choices"] == [picture.shapes[0].name.upper()]
    assert right / len(drawn) > 0.4  # 0.33 by chance


def test_pictures_of_every_proportion_have_their_masks_in_place(model: Callable[[str], YoloDetector]) -> None:
    """The network sees pictures with bars beside them: the masks must not move with the bars."""
    compared = 0
    for seed in SEEDS:
        picture = draw_plain(seed, SIDE, names=("disc",), most=1)
        [alone] = model("segment").predict([picture.image], look=Look(conf=0.25))
        for size, at in (((SIDE * 2, SIDE), (40, 0)), ((SIDE, SIDE * 2), (0, 50)), ((250, 170), (100, 60))):
            large = Image.new("RGB", size, picture.image.getpixel((0, 0)))
            large.paste(picture.image, at)
            [found] = model("segment").predict([large], look=Look(conf=0.25, imgsz=256))
            compared += same_masks(alone, found, at)
    assert compared >= 10


def same_masks(alone: Found, found: Found, at: tuple[int, int]) -> int:
    """How many objects are seen in both; raises AssertionError where their masks do not lie on one another."""
    count = 0
    for one in alone.boxes:
        moved = PixelBox(
            x0=one.box.x0 + at[0], y0=one.box.y0 + at[1], x1=one.box.x1 + at[0], y1=one.box.y1 + at[1]
        )
        for other in found.boxes:
            if iou(moved, other.box) > 0.8 and one.mask is not None and other.mask is not None:
                first, second = middle(one.mask), middle(other.mask)
                assert math.dist((first[0] + at[0], first[1] + at[1]), second) < 3
                count += 1
    return count


def middle(mask: Any) -> tuple[float, float]:
    rows, columns = np.nonzero(mask.pixels)
    return mask.left + float(columns.mean()), mask.top + float(rows.mean())


@pytest.mark.parametrize("kind", FILES)
def test_the_files_are_small_and_name_no_machine(kind: str) -> None:
    body = (MODELS / FILES[kind]).read_bytes()
    assert len(body) < 2_000_000
    for folder in (b"/tmp/", b"/home/", b"/work/"):
        assert folder not in body


def test_options_reach_the_model(model: Callable[[str], YoloDetector]) -> None:
    detector = model("pose")
    picture = [draw_plain(SEEDS[0], SIDE, names=("arrow",)).image]
    [many] = detector.predict(picture, look=Look(conf=0.001))
    [few] = detector.predict(picture, look=Look(conf=0.001, max_det=2))
    [none] = detector.predict(picture, look=Look(conf=0.001, classes=()))
    [strict] = detector.predict(picture, look=Look(conf=0.001, iou=0.1))
    [other] = detector.predict(picture, look=Look(conf=0.001, imgsz=160, device="cpu"))
    assert len(few.boxes) == 2 < len(many.boxes)
    assert none.boxes == ()
    assert len(strict.boxes) < len(many.boxes)
    assert other.boxes != many.boxes
    assert "cpu" in detector.devices


def test_features_of_a_picture_are_the_same_every_time(model: Callable[[str], YoloDetector]) -> None:
    """W7: the first time alone would not do."""
    detector = model("classify")
    seen = [picture.image for picture in pictures("classify")[:2]]
    first, again = (detector.features(seen, imgsz=None, device=None) for _ in range(2))
    assert first.shape[0] == 2
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])


def test_the_orientation_of_a_photo_is_the_browsers(model: Callable[[str], YoloDetector]) -> None:
    """EXIF orientation 6: stored lying on its side. Boxes are those of the picture as shown."""
    picture = draw_plain(SEEDS[3], SIDE, names=("disc",), most=1).image
    wide = Image.new("RGB", (SIDE * 2, SIDE), picture.getpixel((0, 0)))
    wide.paste(picture, (SIDE, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = image_bytes(wide.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    loaded = decode(stored, max_pixels=10**6, what="a photo")
    assert (loaded.width, loaded.height) == (SIDE * 2, SIDE)
    assert np.array_equal(np.asarray(loaded.image), np.asarray(wide))
    images = FakeImages({"photo": loaded})
    config = f'<View><Image name="i" value="$image"/><PolygonLabels name="p" toName="i">{labels("segment")}</PolygonLabels></View>'
    [item] = predict(a_client(model("segment"), images=images), [task(1, "photo")], config)
    assert {(region["original_width"], region["original_height"]) for region in item["result"]} <= {
        (SIDE * 2, SIDE)
    }


@pytest.mark.parametrize("kind", ["obb", "pose", "segment", "classify"])
def test_a_photo_is_unpacked_no_larger_than_the_model_looks_at(
    model: Callable[[str], YoloDetector], kind: str
) -> None:
    """What is found lies where it lies in the whole photo; masks and classes keep more pixels than boxes."""
    detector, look, times = model(kind), Look(conf=0.25), 4
    factor = {"obb": times, "pose": times, "segment": 1, "classify": times // 2}[kind]
    compared = 0
    for picture in pictures(kind)[:8]:
        large = picture.image.resize((SIDE * times, SIDE * times), Image.Resampling.BICUBIC)
        body = image_bytes(large, "JPEG", quality=95)
        assert detector.reduction(*large.size, look=look) == factor
        assert detector.reduction(SIDE, SIDE, look=look) == 1
        assert detector.reduction(*large.size, look=Look(conf=0.25, imgsz=SIDE * times)) == 1
        small = decode(
            body, max_pixels=10**7, what="", reducible=lambda *size: detector.reduction(*size, look=look)
        )
        assert (small.width, small.height) == large.size
        assert small.image.size == (large.width // factor, large.height // factor)
        [ours], [theirs] = (
            detector.predict([image], look=look)
            for image in (small.image, decode(body, max_pixels=10**7, what="").image)
        )
        for one in theirs.boxes:
            if one.score > 0.35:  # others may be below 0.25 in a picture that is a little different
                nearest = max((iou(_times(seen.box, factor), one.box) for seen in ours.boxes), default=0.0)
                assert nearest > 0.85
                compared += 1
        a, b = dict(ours.class_scores), dict(theirs.class_scores)
        assert all(abs(a[name] - b[name]) < 0.1 for name in b)
        compared += len(b) > 0
    assert compared >= 4


def _times(box: PixelBox, factor: int) -> PixelBox:
    return PixelBox(x0=box.x0 * factor, y0=box.y0 * factor, x1=box.x1 * factor, y1=box.y1 * factor)
