"""Classes of the model become labels of the config."""

from __future__ import annotations

import pytest

from ml_backend.config import parse_config
from ml_backend.labels import ConfigLabel, chosen_classes, how_to_match, match_labels


def label(value: str, *predicted: str, written: str | None = None) -> ConfigLabel:
    return ConfigLabel(value=value, written=written or value, predicted_values=predicted)


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        ([label("car")], ["car", "bus"], {"car": "car"}),  # by name; what has no label is dropped
        ([label("Person")], ["person"], {"person": "Person"}),  # case does not count
        ([label("person")], ["Person"], {"Person": "person"}),  # the other way round too
        (
            [label(" Traffic Light ")],
            ["traffic light"],
            {"traffic light": " Traffic Light "},
        ),  # nor do spaces
        (
            [label("Vehicle", "car", "TRUCK")],
            ["car", "truck"],
            {"car": "Vehicle", "truck": "Vehicle"},
        ),  # many to one
        (
            [label("car", "truck")],
            ["car", "truck"],
            {"truck": "car"},
        ),  # predicted_values come before the name
        ([label("car", "lorry")], ["car"], {"car": "car"}),  # none of them known: the name counts
        ([label("Auto", written="A1")], ["auto"], {"auto": "A1"}),  # an alias is what regions hold
        ([label("Auto", written="car")], ["car"], {"car": "car"}),  # and may itself be the class
        ([label("x")], ["y"], {}),
        (
            [label("Gar\u00e7on")],
            ["garc\u0327on"],
            {"garc\u0327on": "Gar\u00e7on"},
        ),  # an accent coded in two ways
        ([label("\u5c0f\u72ac", "\u72ac")], ["\u72ac"], {"\u72ac": "\u5c0f\u72ac"}),
        # A class with commas is written as it is.
        (
            [label("Clothes", "coat", "black", "hat"), label("Shoe")],
            ["Coat, black", "hat", "shoe"],
            {"Coat, black": "Clothes", "hat": "Clothes", "shoe": "Shoe"},
        ),
        ([label("a", "b", "c")], ["b", "b, c", "c"], {"b, c": "a"}),
    ],
)
def test_labels_match_classes(
    labels: list[ConfigLabel], classes: list[str], expected: dict[str, str]
) -> None:
    assert match_labels(labels, classes).written() == expected


def test_a_class_that_two_labels_claim_goes_to_the_first_and_is_reported() -> None:
    found = match_labels([label("A", "car"), label("B", "car", "bus")], ["car", "bus"])
    assert found.written() == {"car": "A", "bus": "B"}
    assert found.problems == ("labels 'A' and 'B' both claim the class 'car': 'A' gets it",)


def test_leaves_of_one_name_are_told_apart() -> None:
    leaves = [
        ConfigLabel(value="Bat", written="Bat", path=("Animal", "Bat")),
        ConfigLabel(value="Bat", written="Bat", path=("Sport", "Bat")),
    ]
    [problem] = match_labels(leaves, ["bat"]).problems
    assert (
        problem
        == "labels 'Animal / Bat' and 'Sport / Bat' both claim the class 'bat': 'Animal / Bat' gets it"
    )


def test_the_line_to_write_for_a_class_with_commas_matches_it() -> None:
    classes = ["coat, black"]
    line = how_to_match([label("Clothes")], classes, tag="Label").rpartition("example ")[2]
    [read] = parse_config(
        f'<View><Image name="i" value="$i"/><RectangleLabels name="r" toName="i">{line}</RectangleLabels></View>'
    )[0].labels
    assert match_labels([read], classes).written() == {"coat, black": "Clothes"}
    assert chosen_classes(("coat", "black", "1"), [*classes, "hat"]) == (("coat, black", "hat"), ())


def test_a_predicted_value_wins_over_another_label_of_that_name() -> None:
    found = match_labels([label("car"), label("Vehicle", "car")], ["car"])
    assert found.written() == {"car": "Vehicle"}
    assert len(found.problems) == 1


def test_an_unknown_predicted_value_is_reported() -> None:
    assert match_labels([label("A", "car", "unicorn")], ["car"]).problems == (
        "label 'A': the model has no class 'unicorn'",
    )


def test_when_nothing_matches_both_lists_and_a_line_to_write_are_shown() -> None:
    text = how_to_match([label('Big "cat"')], ["lion", "tiger"], tag="Label")
    assert 'Labels: Big "cat". Classes: lion, tiger.' in text
    assert """<Label value='Big "cat"' predicted_values="lion"/>""" in text
