"""Percent, pixels and YOLO fractions say the same box."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.shapes import (
    PercentBox,
    PixelBox,
    YoloBox,
    clamped,
    corners_of,
    iou,
    percent_from_pixels,
    percent_from_yolo,
    pixels_from_percent,
    rotated_from_corners,
    yolo_from_percent,
)

SIDES = st.integers(min_value=1, max_value=20_000)
SIZES = st.tuples(SIDES, SIDES)
SHARES = st.floats(min_value=0, max_value=100)
ANY = st.floats(min_value=-500, max_value=500)


@st.composite
def boxes(draw: st.DrawFn) -> PercentBox:
    x, y = draw(SHARES), draw(SHARES)
    return PercentBox(x=x, y=y, width=draw(SHARES) * (100 - x) / 100, height=draw(SHARES) * (100 - y) / 100)


def same(a: PercentBox, b: PercentBox) -> bool:
    return all(
        math.isclose(one, other, abs_tol=1e-9, rel_tol=1e-9)
        for one, other in zip((a.x, a.y, a.width, a.height), (b.x, b.y, b.width, b.height), strict=True)
    )


@given(boxes(), SIZES)
def test_pixels_and_percent_are_inverse(box: PercentBox, size: tuple[int, int]) -> None:
    assert same(percent_from_pixels(pixels_from_percent(box, size), size), box)


@given(boxes())
def test_yolo_and_percent_are_inverse(box: PercentBox) -> None:
    assert same(percent_from_yolo(yolo_from_percent(box)), box)


@given(ANY, ANY, ANY, ANY)
def test_a_clamped_box_lies_on_the_image_and_clamping_it_again_changes_nothing(
    x: float, y: float, width: float, height: float
) -> None:
    box = clamped(PercentBox(x=x, y=y, width=width, height=height))
    if box is None:
        return
    assert 0 <= box.x <= 100
    assert 0 <= box.y <= 100
    assert box.width > 0
    assert box.height > 0
    assert box.x + box.width <= 100
    assert box.y + box.height <= 100
    assert clamped(box) == box


@pytest.mark.parametrize(
    ("pixels", "size", "percent"),
    [
        (
            PixelBox(x0=0, y0=0, x1=640, y1=480),
            (640, 480),
            PercentBox(x=0, y=0, width=100, height=100),
        ),  # all
        (PixelBox(x0=64, y0=48, x1=128, y1=96), (640, 480), PercentBox(x=10, y=10, width=10, height=10)),
        (
            PixelBox(x0=1, y0=0, x1=2, y1=1),
            (4, 1),
            PercentBox(x=25, y=0, width=25, height=100),
        ),  # one pixel high
    ],
)
def test_pixels_become_percent(pixels: PixelBox, size: tuple[int, int], percent: PercentBox) -> None:
    assert percent_from_pixels(pixels, size) == percent


def test_yolo_names_the_centre() -> None:
    assert yolo_from_percent(PercentBox(x=10, y=20, width=30, height=40)) == YoloBox(
        x_centre=0.25, y_centre=0.4, width=0.3, height=0.4
    )


@pytest.mark.parametrize(
    "box",
    [
        PercentBox(x=101, y=0, width=10, height=10),  # right of the image
        PercentBox(x=-20, y=0, width=20, height=10),  # ends at its left edge
        PercentBox(x=5, y=5, width=0, height=10),  # a line
        PercentBox(x=math.nan, y=5, width=5, height=10),
    ],
)
def test_what_is_not_on_the_image_is_no_box(box: PercentBox) -> None:
    assert clamped(box) is None


def test_an_image_without_size_is_refused() -> None:
    with pytest.raises(ValueError, match="0x480"):
        percent_from_pixels(PixelBox(x0=0, y0=0, x1=1, y1=1), (0, 480))


def test_iou_is_shared_over_joint_area() -> None:
    a = PixelBox(x0=0, y0=0, x1=10, y1=10)
    assert iou(a, a) == 1
    assert iou(a, PixelBox(x0=5, y0=0, x1=15, y1=10)) == pytest.approx(1 / 3)
    assert iou(a, PixelBox(x0=10, y0=0, x1=20, y1=10)) == 0
    assert iou(a, PixelBox(x0=3, y0=3, x1=3, y1=3)) == 0


@given(
    centre=st.tuples(st.floats(100, 300), st.floats(100, 200)),
    long=st.floats(2, 80),
    wide=st.floats(2, 80),
    turn=st.floats(0, 360),
)
def test_a_turned_rectangle_keeps_its_corners(
    centre: tuple[float, float], long: float, wide: float, turn: float
) -> None:
    size = (400, 300)
    angle = math.radians(turn)
    corners = [
        (
            centre[0] + x * math.cos(angle) - y * math.sin(angle),
            centre[1] + x * math.sin(angle) + y * math.cos(angle),
        )
        for x, y in ((-long, -wide), (long, -wide), (long, wide), (-long, wide))
    ]
    box = rotated_from_corners(corners, size)
    assert box is not None
    assert all(0 <= number <= 100 for number in (box.x, box.y, box.width, box.height))
    back = corners_of(box, size)
    assert all(min(math.dist(one, other) for other in back) < 0.01 for one in corners)
