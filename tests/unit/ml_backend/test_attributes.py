"""The attributes of a control: what is read, what is named and left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.attributes import READ_ATTRIBUTES, Asked, read_attributes

DOCS = Path(__file__).parents[3] / "docs" / "controls.md"


@pytest.mark.parametrize(
    ("attribute", "raw", "field", "value"),
    [
        ("model_score_threshold", "0.3", "threshold", 0.3),
        ("score_threshold", " 1 ", "threshold", 1.0),
        ("model_conf", "0", "conf", 0.0),
        ("model_iou", "0.45", "iou", 0.45),
        ("model_imgsz", "320", "imgsz", 320),
        ("model_max_det", "5", "max_det", 5),
        ("model_classes", "car, 2 ,", "classes", ("car", "2")),
        ("model_device", "0", "device", "cuda:0"),
        ("model_device", "CUDA", "device", "cuda:0"),
        ("model_device", "cpu", "device", "cpu"),
        ("model_path", "a/b.pt", "model_path", "a/b.pt"),
        ("choice", "Multiple", "choice", "multiple"),
        ("maxUsages", "2", "max_usages", 2),
        ("model_obb", "TRUE", "obb", True),
        ("model_add_bboxes", "false", "add_bboxes", False),
        ("model_point_size", "2.5", "point_size", 2.5),
        ("model_point_threshold", "0.4", "point_threshold", 0.4),
        ("model_polygon_tolerance", "3", "polygon_tolerance", 3.0),
        ("model_tracker", "bytetrack.yaml", "tracker", "bytetrack"),
        ("botsort_gmc_method", "none", "tracking", (("gmc_method", "none"),)),
        ("botsort_fuse_score", "no", "tracking", (("fuse_score", False),)),
        ("botsort_track_buffer", "60", "tracking", (("track_buffer", 60),)),
    ],
)
def test_an_attribute_is_read(attribute: str, raw: str, field: str, value: object) -> None:
    asked, problems = read_attributes({attribute: raw})
    assert getattr(asked, field) == value
    assert problems == ()


@pytest.mark.parametrize(
    ("attribute", "raw"),
    [
        ("model_score_threshold", "1.5"),
        ("model_conf", "nan"),
        ("model_iou", "-0.1"),
        ("model_imgsz", "10"),
        ("model_imgsz", "640.5"),
        ("model_max_det", "0"),
        ("model_max_det", "9" * 4000),  # too long for Python to read
        ("model_device", "cuda:0; rm"),
        ("model_device", "tpu"),
        ("choice", "some"),
        ("model_obb", "perhaps"),
        ("model_point_size", "inf"),
        ("model_tracker", "../x"),
        ("botsort_gmc_method", "magic"),
    ],
)
def test_what_cannot_be_read_is_named_and_left_out(attribute: str, raw: str) -> None:
    asked, [problem] = read_attributes({attribute: raw})
    assert asked == Asked()
    assert problem.startswith(f"{attribute}=")


@pytest.mark.parametrize(
    ("attributes", "level"),
    [
        ({}, 0.5),
        ({"model_score_threshold": "0.3"}, 0.3),
        ({"model_conf": "0.1"}, 0.1),
        (
            {"model_conf": "0.4", "model_score_threshold": "0.3"},
            0.4,
        ),  # neither lets through what the other stops
        ({"model_score_threshold": "0.3", "score_threshold": "0.9"}, 0.3),
    ],
)
def test_the_level_of_a_control(attributes: dict[str, str], level: float) -> None:
    assert read_attributes(attributes)[0].level(0.5) == level


def test_the_device_does_not_decide_what_comes_out() -> None:
    plain, _ = read_attributes({})
    moved, _ = read_attributes({"model_device": "cpu"})
    finer, _ = read_attributes({"model_imgsz": "1280"})
    assert plain.settled() == moved.settled() != finer.settled()


def test_options_of_the_other_tracker_do_not_count() -> None:
    assert read_attributes({"bytetrack_match_thresh": "0.7"}) == (Asked(), ())


def test_every_attribute_is_documented() -> None:
    page = DOCS.read_text()
    for attribute in READ_ATTRIBUTES | {"model_skip", "model_index", "predicted_values", "perRegion"}:
        assert f"`{attribute}`" in page, attribute
