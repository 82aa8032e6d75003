"""What the model finds becomes complete regions."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ml_backend.config import parse_config
from ml_backend.controls import CONTROLS
from ml_backend.decode import LoadedImage
from ml_backend.detectors import Found
from tests.unit.ml_backend.helpers import CONFIG, a_box, a_picture

LABELS = {"circle": "Circle", "square": "Box"}


def regions(
    found: Found, *, threshold: float = 0.5, loaded: LoadedImage | None = None
) -> list[dict[str, Any]]:
    [control] = parse_config(CONFIG)
    ids = iter(f"id{number}" for number in range(100))
    return CONTROLS["rectanglelabels"].to_regions(
        found,
        control=control,
        label_of=LABELS,
        threshold=threshold,
        loaded=loaded or a_picture(100, 200),
        new_id=lambda: next(ids),
    )


def choices(choice: str, threshold: float, *scores: tuple[str, float]) -> list[dict[str, Any]]:
    [control] = parse_config(
        f'<View><Image name="i" value="$i"/><Choices name="c" toName="i" choice="{choice}"><Choice value="A"/></Choices></View>'
    )
    return CONTROLS["choices"].to_regions(
        Found(class_scores=scores),
        control=control,
        label_of={"cat": "Cat", "kitten": "Cat", "dog": "Dog"},
        threshold=threshold,
        loaded=a_picture(),
        new_id=lambda: "id",
    )


def test_a_region_is_complete() -> None:
    assert regions(Found(boxes=(a_box(x0=10, y0=20, x1=30, y1=60, score=0.75),))) == [
        {
            "id": "id0",
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
    ]


def test_percent_are_of_the_reduced_image_and_the_size_is_the_displayed_one() -> None:
    loaded = LoadedImage(image=a_picture(100, 200).image, width=5000, height=10000)
    [region] = regions(Found(boxes=(a_box(x0=10, y0=20, x1=30, y1=60),)), loaded=loaded)
    assert region["value"]["x"] == 10
    assert (region["original_width"], region["original_height"]) == (5000, 10000)


def test_boxes_are_cut_at_the_edge_and_dropped_outside() -> None:
    found = regions(Found(boxes=(a_box(x0=-10, y0=150, x1=50, y1=250), a_box(x0=120, y0=0, x1=130, y1=10))))
    assert [(r["value"]["x"], r["value"]["width"], r["value"]["y"], r["value"]["height"]) for r in found] == [
        (0, 50, 75, 25)
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
    assert bool(regions(Found(boxes=(a_box(score=score),)))) is kept


def test_classes_without_a_label_are_dropped_and_ids_are_unique() -> None:
    found = regions(Found(boxes=(a_box("triangle"), a_box("square", 0.6), a_box("circle", 0.8))))
    assert [region["value"]["rectanglelabels"] for region in found] == [["Circle"], ["Box"]]
    assert len({region["id"] for region in found}) == 2


@pytest.mark.parametrize(
    ("choice", "threshold", "expected"),
    [
        ("single", 0.5, ["Dog"]),
        ("single-radio", 0.1, ["Dog"]),
        ("multiple", 0.2, ["Dog", "Cat"]),  # best first; two classes of one choice are one
        ("multiple", 0.7, []),
    ],
)
def test_choices(choice: str, threshold: float, expected: list[str]) -> None:
    found = choices(choice, threshold, ("cat", 0.2), ("bird", 0.9), ("dog", 0.6), ("kitten", 0.25))
    assert [region["value"]["choices"] for region in found] == ([expected] if expected else [])


def test_the_score_of_choices_is_the_mean_of_those_chosen() -> None:
    [region] = choices("multiple", 0.2, ("cat", 0.4), ("dog", 0.6), ("bird", 0.9))
    assert region["score"] == pytest.approx(0.5)
    assert region["type"] == "choices"
    assert region["original_width"] == 100
