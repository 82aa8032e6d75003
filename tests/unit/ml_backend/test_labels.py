"""Classes of the model become labels of the config."""

from __future__ import annotations

import pytest

from ml_backend.labels import ConfigLabel, how_to_match, match_labels


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
