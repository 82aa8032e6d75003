"""Drawn pictures: the same every time, with boxes that are where the shapes are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from demo.pictures import LABELS, draw_picture


def test_the_same_seed_draws_the_same_picture() -> None:
    one, other = draw_picture(7), draw_picture(7)
    assert one.boxes == other.boxes
    assert one.image.tobytes() == other.image.tobytes()
    assert draw_picture(8).image.tobytes() != one.image.tobytes()


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (96, 64)])
def test_a_picture_has_the_size_asked_for_and_its_shapes_lie_on_it(size: tuple[int, int]) -> None:
    for seed in range(6):
        picture = draw_picture(seed, size)
        assert picture.image.size == size
        assert picture.image.mode == "RGB"
        assert picture.boxes
        for label, (x0, y0, x1, y1) in picture.boxes:
            assert label in LABELS
            assert 0 <= x0 < x1 <= size[0]
            assert 0 <= y0 < y1 <= size[1]


def test_shapes_do_not_overlap() -> None:
    for seed in range(20):
        boxes = [box for _, box in draw_picture(seed, shapes=4).boxes]
        for index, a in enumerate(boxes):
            for b in boxes[index + 1 :]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_shape_differs_from_what_was_there_before() -> None:
    """The background is drawn first, from the same seed: it is the picture without shapes."""
    empty = np.asarray(draw_picture(11, shapes=0).image, dtype=int)
    picture = draw_picture(11, shapes=1)
    changed = np.abs(np.asarray(picture.image, dtype=int) - empty).sum(axis=2) > 40
    rows, columns = np.nonzero(changed)
    _, (x0, y0, x1, y1) = picture.boxes[0]
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx(
        (x0, y0, x1, y1), abs=2
    )


def test_photos_serve_as_backgrounds() -> None:
    photo = Image.new("RGB", (300, 200), (10, 200, 30))
    pictures = [draw_picture(seed, (120, 90), photos=[photo], shapes=0) for seed in range(20)]
    means = [np.asarray(picture.image).reshape(-1, 3).mean(axis=0) for picture in pictures]
    assert any(abs(mean - (10, 200, 30)).max() < 4 for mean in means)


def test_a_size_too_small_for_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match="64 px"):
        draw_picture(1, (63, 480))
