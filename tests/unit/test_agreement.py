"""One prediction beside one annotation: what is paired with what, and what that is called."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agreement import Comparison, area, clip, compare


def box(
    label: str | None,
    x: float,
    y: float,
    width: float = 20,
    height: float = 20,
    *,
    id: str = "",
    rotation: float = 0,
    size: tuple[int, int] | None = (100, 100),
    **more: Any,
) -> dict[str, Any]:
    """A region as Label Studio stores it, in percent."""
    type = "rectangle" if label is None else "rectanglelabels"
    value: dict[str, Any] = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
    if label is not None:
        value["rectanglelabels"] = [label]
    sized = {} if size is None else {"original_width": size[0], "original_height": size[1]}
    given_id = {"id": id} if id else {}
    return {
        "from_name": "label",
        "to_name": "image",
        "type": type,
        "value": value,
        **sized,
        **given_id,
        **more,
    }


def choice(*chosen: str, control: str = "kind", **more: Any) -> dict[str, Any]:
    return {
        "from_name": control,
        "to_name": "image",
        "type": "choices",
        "value": {"choices": list(chosen)},
        **more,
    }


def outcomes(found: Comparison) -> list[tuple[str, str | None, str | None]]:
    return [(match.outcome, match.predicted, match.annotated) for match in found.matches]


def test_an_unchanged_box_is_kept_with_iou_one() -> None:
    found = compare([box("Cat", 10, 10, id="a")], [box("Cat", 10, 10, id="a")])
    assert outcomes(found) == [("kept", "Cat", "Cat")]
    assert found.matches[0].iou == pytest.approx(1)
    assert found.matches[0].found_by == "id"


@pytest.mark.parametrize(
    ("x", "outcome"),
    [
        (10.0, "kept"),
        (10.05, "kept"),  # IoU 19.95/20.05 = 0.995
        (10.5, "moved"),  # IoU 19.5/20.5 = 0.951
        (16.0, "moved"),  # IoU 14/26 = 0.538
        (17.0, "removed"),  # IoU 13/27 = 0.481, and no id says that it is the same
    ],
)
def test_without_ids_a_box_is_known_again_down_to_half_an_iou(x: float, outcome: str) -> None:
    assert compare([box("Cat", 10, 10)], [box("Cat", x, 10)]).matches[0].outcome == outcome


def test_an_id_finds_a_box_that_was_dragged_far() -> None:
    found = compare([box("Cat", 10, 10, id="a")], [box("Cat", 25, 10, id="a")])
    assert outcomes(found) == [("moved", "Cat", "Cat")]


@pytest.mark.parametrize(
    ("linked", "origin", "pairs"),
    [(False, "", 0), (True, "", 1), (False, "prediction-changed", 1), (False, "manual", 0)],
)
def test_an_id_without_any_overlap_is_believed_only_when_something_else_says_so(
    linked: bool, origin: str, pairs: int
) -> None:
    found = compare(
        [box("Cat", 10, 10, id="r0")], [box("Cat", 70, 70, id="r0", origin=origin)], linked=linked
    )
    assert sum(match.iou is not None for match in found.matches) == pairs


def test_an_id_comes_before_a_better_overlap() -> None:
    found = compare([box("Cat", 10, 10, id="a")], [box("Cat", 10, 10, id="new"), box("Cat", 12, 10, id="a")])
    assert outcomes(found) == [("moved", "Cat", "Cat"), ("added", None, "Cat")]


def test_the_same_label_comes_before_a_better_overlap_of_another() -> None:
    found = compare([box("Cat", 10, 10)], [box("Dog", 10, 10), box("Cat", 12, 10)])
    assert outcomes(found) == [("moved", "Cat", "Cat"), ("added", None, "Dog")]


def test_another_label_at_the_same_place_is_relabelled() -> None:
    found = compare([box("Cat", 10, 10)], [box("Dog", 11, 10)])
    assert outcomes(found) == [("relabelled", "Cat", "Dog")]
    assert found.matches[0].found_by == "place"


def test_each_box_is_paired_at_most_once_the_best_pair_first() -> None:
    found = compare([box("Cat", 10, 10), box("Cat", 12, 10)], [box("Cat", 12, 10)])
    assert outcomes(found) == [("removed", "Cat", None), ("kept", "Cat", "Cat")]


def test_boxes_of_another_control_or_another_page_are_never_paired() -> None:
    here = box("Cat", 10, 10, id="a")
    for other in (here | {"from_name": "other"}, here | {"to_name": "second"}, here | {"item_index": 1}):
        assert [m.outcome for m in compare([here], [other]).matches] == ["removed", "added"]


def test_an_empty_prediction_and_an_empty_annotation() -> None:
    assert compare([], []).matches == ()
    assert outcomes(compare([], [box("Cat", 1, 1)])) == [("added", None, "Cat")]
    assert outcomes(compare([box("Cat", 1, 1)], [])) == [("removed", "Cat", None)]


def test_boxes_without_labels_are_compared_by_place() -> None:
    assert outcomes(compare([box(None, 10, 10)], [box(None, 10, 10)])) == [("kept", "", "")]


def test_several_labels_of_one_box_are_one_label_in_any_order() -> None:
    one, other = box("x", 10, 10), box("x", 10, 10)
    one["value"]["rectanglelabels"], other["value"]["rectanglelabels"] = ["b", "a"], ["a", "b"]
    assert outcomes(compare([one], [other])) == [("kept", "a, b", "a, b")]


def test_a_rectangle_with_its_labels_beside_it_is_one_box() -> None:
    plain = box(None, 10, 10, id="a")
    labels = {
        "id": "a",
        "from_name": "labels",
        "to_name": "image",
        "type": "labels",
        "value": plain["value"] | {"labels": ["Cat"]},
    }
    assert outcomes(compare([plain, labels], [plain, labels])) == [("kept", "Cat", "Cat")]


# --- rotated boxes


def test_a_square_turned_by_a_right_angle_about_its_corner_lies_to_the_left_of_it() -> None:
    """Label Studio turns clockwise about the upper left corner: 40,10 20x20 turned by 90° covers x 20…40, y 10…30."""
    found = compare([box("Cat", 40, 10, rotation=90)], [box("Cat", 20, 10)])
    assert outcomes(found) == [("kept", "Cat", "Cat")]


def test_a_turned_box_is_turned_in_pixels_not_in_percent() -> None:
    """On 200 x 100 px, 10 % x 40 % is 20 x 40 px; turned by 90° it is 40 px wide and 20 high: 20 % x 20 %."""
    wide = (200, 100)
    turned = box("Cat", 50, 10, 10, 40, rotation=90, size=wide)
    assert outcomes(compare([turned], [box("Cat", 30, 10, 20, 20, size=wide)])) == [("kept", "Cat", "Cat")]


def test_a_square_turned_by_45_degrees_about_its_centre_shares_an_octagon() -> None:
    """Side 20: the octagon is 400·(2·√2 − 2) = 331.4; joint 800 − 331.4 = 468.6; IoU 0.7071."""
    half_diagonal = 10 * math.sqrt(2)
    turned = box("Cat", 50, 50 - half_diagonal, rotation=45)
    [match] = compare([box("Cat", 40, 40)], [turned]).matches
    assert match.iou == pytest.approx(math.sqrt(0.5), abs=1e-9)


polygons = st.tuples(
    st.floats(0, 80), st.floats(0, 80), st.floats(1, 20), st.floats(1, 20), st.floats(-360, 360)
)


@given(polygons, polygons)
def test_iou_of_turned_boxes_is_symmetric_and_between_0_and_1(
    a: tuple[float, ...], b: tuple[float, ...]
) -> None:
    one, other = box("c", *a[:4], rotation=a[4], id="a"), box("c", *b[:4], rotation=b[4], id="a")
    [there] = compare([one], [other], linked=True).matches
    [back] = compare([other], [one], linked=True).matches
    assert there.iou is not None
    assert back.iou is not None
    assert -1e-9 <= there.iou <= 1 + 1e-9
    assert there.iou == pytest.approx(back.iou, abs=1e-6)


@given(polygons)
def test_a_turned_box_is_itself(a: tuple[float, ...]) -> None:
    one = box("c", *a[:4], rotation=a[4])
    assert compare([one], [one]).counts()["kept"] == 1


def test_clipping_a_square_by_a_shifted_one_leaves_the_shared_part() -> None:
    square = [(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)]
    shifted = [(x + 1, y + 1) for x, y in square]
    assert area(clip(square, shifted)) == pytest.approx(1)
    assert clip(square, [(x + 5, y) for x, y in square]) == []


# --- choices


def test_choices_are_compared_one_by_one() -> None:
    found = compare([choice("Day", "Rain")], [choice("Day", "Snow", "Fog")])
    assert outcomes(found) == [("kept", "Day", "Day"), ("relabelled", "Rain", "Snow"), ("added", None, "Fog")]


def test_choices_of_two_controls_are_not_mixed() -> None:
    found = compare([choice("Day")], [choice("Day", control="other")])
    assert [(m.outcome, m.control) for m in found.matches] == [("removed", "kind"), ("added", "other")]


def test_a_choice_for_a_region_follows_its_region() -> None:
    before = [box("Cat", 10, 10, id="a"), choice("young", id="a")]
    after = [box("Cat", 10, 10, id="z"), choice("old", id="z")]
    assert outcomes(compare(before, after)) == [("kept", "Cat", "Cat"), ("relabelled", "young", "old")]


def test_a_cleared_choice_is_removed() -> None:
    assert outcomes(compare([choice("Day")], [])) == [("removed", "Day", None)]


# --- everything else


def test_other_shapes_are_counted_and_not_compared() -> None:
    polygon = {
        "type": "polygonlabels",
        "value": {"points": [[1, 1], [2, 2], [3, 1]], "polygonlabels": ["Cat"]},
    }
    brush = {"type": "brushlabels", "value": {"format": "rle", "rle": [1], "brushlabels": ["Cat"]}}
    found = compare([polygon, polygon], [polygon, brush])
    assert found.matches == ()
    assert found.others == {"brushlabels": (0, 1), "polygonlabels": (2, 1)}


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "text",
        {},
        {"type": "rectanglelabels"},
        {"type": "rectanglelabels", "value": {"x": "left", "y": 1, "width": 1, "height": 1}},
        {"type": "rectanglelabels", "value": {"x": float("nan"), "y": 1, "width": 1, "height": 1}},
        {"type": "rectanglelabels", "value": {"x": 10**400, "y": 1, "width": 1, "height": 1}},
        {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": -1, "height": 1}},
        {"type": "choices", "value": {}},
        {"type": "relation", "from_id": "a", "to_id": "b"},
    ],
)
def test_what_cannot_be_read_costs_itself_only(broken: Any) -> None:
    good = box("Cat", 10, 10)
    assert ("kept", "Cat", "Cat") in outcomes(compare([broken, good], [good, broken]))


boxes = st.builds(
    lambda label, x, y, id: box(label, x, y, id=id),
    st.sampled_from(["Cat", "Dog"]),
    st.integers(0, 40),
    st.integers(0, 10),
    st.sampled_from(["", "a", "b", "c"]),
)


@given(st.lists(boxes, max_size=6), st.lists(boxes, max_size=6), st.booleans())
def test_every_region_is_in_exactly_one_match(
    before: list[dict[str, Any]], after: list[dict[str, Any]], linked: bool
) -> None:
    found = compare(before, after, linked=linked)
    counts = found.counts()
    paired = counts["kept"] + counts["moved"] + counts["relabelled"]
    assert paired + counts["removed"] == len(before)
    assert paired + counts["added"] == len(after)
