"""Reading labeling configs."""

from __future__ import annotations

import pytest

from bridge.errors import SenderError
from ml_backend.config import media_reference, parse_config
from ml_backend.labels import ConfigLabel, chosen_classes


def test_a_control_is_read_with_its_labels_and_attributes() -> None:
    [control] = parse_config(
        '<View><Image name="i" value="$photo"/><RectangleLabels name="r" toName="i" model_score_threshold="0.1"'
        ' model_path="sub/x.pt"><Label value="A" predicted_values="a, b,"/><Label value="B" alias="b1"/>'
        "</RectangleLabels></View>"
    )
    assert (control.kind, control.name, control.to_name, control.source.value) == (
        "rectanglelabels",
        "r",
        "i",
        "$photo",
    )
    assert (control.asked.threshold, control.asked.model_path) == (0.1, "sub/x.pt")
    assert control.labels == (
        ConfigLabel(value="A", written="A", path=("A",), predicted_values=("a", "b")),
        ConfigLabel(value="B", written="b1", path=("b1",)),
    )


@pytest.mark.parametrize(
    "inside",
    [
        '<RectangleLabels name="r" toName="t"><Label value="A"/></RectangleLabels>',  # on a text
        '<RectangleLabels name="r" toName="nowhere"><Label value="A"/></RectangleLabels>',
        '<RectangleLabels toName="i"><Label value="A"/></RectangleLabels>',  # without a name no region can refer to it
        "<!-- a comment -->",
    ],
)
def test_controls_that_are_not_ours_are_left_out(inside: str) -> None:
    assert parse_config(f'<View><Image name="i" value="$i"/><Text name="t" value="$t"/>{inside}</View>') == ()


def test_tags_are_compared_as_label_studio_does_without_regard_to_case() -> None:
    [control] = parse_config(
        '<view><image name="i" value="$i"/><choices name="c" toName="i"><choice value="A"/></choices></view>'
    )
    assert control.kind == "choices"


def test_an_unreadable_threshold_is_named_and_left_out() -> None:
    [control] = parse_config(
        '<View><Image name="i" value="$i"/><Choices name="c" toName="i" score_threshold="high"><Choice value="A"/></Choices></View>'
    )
    assert control.asked.threshold is None
    assert "score_threshold='high'" in control.problems[0]


@pytest.mark.parametrize(
    "text", ["<View>", "no xml", '<View a="1" a="2"/>', "<!DOCTYPE x [<!ENTITY a 'b'>]><View>&c;</View>"]
)
def test_what_is_no_xml_is_refused(text: str) -> None:
    with pytest.raises(SenderError, match="not XML"):
        parse_config(text)


def test_a_digit_that_is_no_number_is_none() -> None:
    [control] = parse_config(
        '<View><Image name="i" value="$i"/><KeyPointLabels name="k" toName="i"><Label value="A" model_index="\u00b2"/>'
        "</KeyPointLabels></View>"
    )
    assert control.labels[0].point is None
    with pytest.raises(SenderError, match="has no 'a\\[\u00b2\\]'"):
        media_reference("$a[\u00b2]", {"a": ["x"]})
    assert chosen_classes(("\u00b2",), ["car"]) == ((), ("\u00b2",))


def test_an_empty_config_has_no_controls() -> None:
    assert parse_config("") == parse_config("<View/>") == ()


@pytest.mark.parametrize(
    ("value", "data", "expected"),
    [
        ("$image", {"image": "a.jpg"}, "a.jpg"),
        ("$my-key", {"my-key": "a.jpg"}, "a.jpg"),  # a key that is no identifier
        ("$a.b", {"a.b": "flat.jpg"}, "flat.jpg"),  # a key with a dot comes before a path
        ("$a.b[1]", {"a": {"b": ["x", "y.jpg"]}}, "y.jpg"),
        ("https://host/$name", {"name": "a.jpg"}, "https://host/a.jpg"),
        (
            "$image",
            {"$undefined$": "/data/upload/1/a.jpg"},
            "/data/upload/1/a.jpg",
        ),  # imported before the config
        ("$image", {"image": " a.jpg\n"}, "a.jpg"),
    ],
)
def test_the_image_of_a_task_is_found(value: str, data: dict[str, object], expected: str) -> None:
    assert media_reference(value, data) == expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"img": "x", "text": "y"}, "no 'image'; it has: img, text"),
        ({}, "it has: none"),
        ({"image": None}, "is empty"),
        ({"image": ""}, "is empty"),
        ({"image": ["a", "b"]}, "is a list"),
        ({"image": 5}, "is a int"),
    ],
)
def test_a_task_without_its_image_says_what_it_has(data: dict[str, object], said: str) -> None:
    with pytest.raises(SenderError, match=said):
        media_reference("$image", data)


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        (
            '<Taxonomy name="t" toName="v">'
            + '<Choice value="a">' * 5000
            + "</Choice>" * 5000
            + "</Taxonomy>",
            "nested too deeply",
        ),
        ('<VideoRectangle name="r" toName="v"/>' * 5000, "controls; 1000 at most"),
        (
            '<VideoRectangle name="r" toName="v"/>' * 900
            + '<Labels name="l" toName="v">'
            + '<Label value="a"/>' * 1000
            + "</Labels>",
            "more than 200000 labels",
        ),
    ],
)
def test_a_config_that_would_take_minutes_to_read_is_refused(inside: str, said: str) -> None:
    """It comes with each request, and its writer is not the operator."""
    with pytest.raises(SenderError, match=said):
        parse_config(f'<View><Video name="v" value="$v"/>{inside}</View>')
