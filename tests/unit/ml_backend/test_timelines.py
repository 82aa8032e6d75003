"""Timelines that learn: stretches and frames, training, and plans."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.attributes import Learning
from ml_backend.config import parse_config
from ml_backend.controls.base import Target
from ml_backend.controls.timeline_labels import learned_regions
from ml_backend.fit import fit
from ml_backend.labels import LabelMap
from ml_backend.plan import make_plan
from ml_backend.timeline.classifier import Classifier, file_of, read_classifier
from ml_backend.timeline.network import Example, probabilities, train
from ml_backend.timeline.stretches import Stretch, agreement, holds, predicted_stretches, stretches_of
from tests.unit.ml_backend.helpers import FakeDetector, weights
from tests.unit.ml_backend.test_timeline_files import a_classifier
from tests.unit.ml_backend.test_videos import video_config

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own warnings
LABELS = '<Label value="run"/><Label value="jump" alias="j"/>'
SMALL = Learning(epochs=300, hidden_size=8, sequence_size=8)


def timeline(attributes: str = "", labels: str = LABELS) -> str:
    return f'<TimelineLabels name="time" toName="v" model_trainable="true" {attributes}>{labels}</TimelineLabels>'


def one_video(frames: int = 120, seed: int = 0) -> Example:
    """Four features; "run" in the first half, "j" from a third to two thirds."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((frames, 2), dtype=bool)
    truth[: frames // 2, 0] = True
    truth[frames // 3 : 2 * frames // 3, 1] = True
    values = rng.normal(0, 0.2, (frames, 4))
    values[:, :2] += truth
    return Example(values=values.astype(np.float16), truth=truth)


# Stretches and frames


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ([], ()),
        (None, ()),
        (
            [{"from_name": "time", "value": {"ranges": [{"start": 1, "end": 5}], "timelinelabels": ["run"]}}],
            ("run 1-5",),
        ),
        # Several ranges and labels in one region, an end before its start.
        (
            [
                {
                    "from_name": "time",
                    "value": {
                        "ranges": [{"start": 9, "end": 7}, {"start": 1, "end": 2.0}],
                        "timelinelabels": ["run", "j"],
                    },
                }
            ],
            ("run 7-9", "run 1-2", "j 7-9", "j 1-2"),
        ),
        # Another control's, and what is none.
        (
            [
                {
                    "from_name": "other",
                    "value": {"ranges": [{"start": 1, "end": 5}], "timelinelabels": ["run"]},
                }
            ],
            (),
        ),
        (
            [
                {
                    "from_name": "time",
                    "value": {"ranges": [{"start": "1", "end": 5}, 7], "timelinelabels": ["run", 5]},
                }
            ],
            (),
        ),
        ([{"from_name": "time", "value": {"choices": ["run"]}}, "text", {"from_name": "time"}], ()),
    ],
)
def test_what_people_drew_is_read(result: Any, expected: tuple[str, ...]) -> None:
    found = tuple(f"{one.label} {one.start}-{one.end}" for one in stretches_of(result, "time"))
    assert found == expected


def test_several_labels_hold_at_a_frame_and_frames_outside_the_video_do_not_count() -> None:
    drawn = [
        Stretch(label="a", start=2, end=4),
        Stretch(label="b", start=4, end=99),
        Stretch(label="gone", start=1, end=9),
    ]
    found = holds(drawn, ["a", "b"], [1, 2, 3, 4, 5], 5)
    assert found.astype(int).tolist() == [[0, 0], [1, 0], [1, 0], [1, 1], [0, 1]]


def test_a_picture_that_several_frames_show_is_a_step() -> None:
    steps, frames = [1, 3, 5, 7], 8  # two frames of Label Studio a picture
    drawn = [Stretch(label="a", start=3, end=6)]
    truth = holds(drawn, ["a"], steps, frames)
    assert truth[:, 0].tolist() == [False, True, True, False]
    [found] = predicted_stretches(truth.astype(float), ["a"], steps, frames, threshold=0.5)
    assert (found.start, found.end) == (3, 6)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_frames_become_stretches_and_the_same_frames_again(truth: list[tuple[bool, bool]]) -> None:
    wanted = np.array(truth)
    steps = range(1, len(truth) + 1)
    drawn = predicted_stretches(wanted.astype(float), ["a", "b"], steps, len(truth), threshold=0.5)
    assert (holds(drawn, ["a", "b"], list(steps), len(truth)) == wanted).all()


def test_the_threshold_decides_and_the_score_is_the_mean() -> None:
    said = np.array([[0.4], [0.6], [0.8], [0.49], [0.9]])
    found = predicted_stretches(said, ["a"], [1, 2, 3, 4, 5], 5, threshold=0.5)
    assert [(one.start, one.end, round(one.score, 2)) for one in found] == [(2, 3, 0.7), (5, 5, 0.9)]
    [found_low] = predicted_stretches(said, ["a"], [1, 2, 3, 4, 5], 5, threshold=0.3)
    assert (found_low.start, found_low.end) == (1, 5)
    [control] = parse_config(video_config(timeline()))
    target = Target(
        control=control, labels=LabelMap(), threshold=0.5, seen=(9, 9), shown=(64, 48), new_id=lambda: "x"
    )
    [region, _] = learned_regions(found, target)
    assert region["value"] == {"ranges": [{"start": 2, "end": 3}], "timelinelabels": ["a"]}
    assert (region["type"], region["original_width"], region["id"]) == ("timelinelabels", 64, "x")


def test_agreement_is_counted_over_all_frames_and_labels() -> None:
    truth = np.array([[1, 0], [1, 1], [0, 0], [0, 0]], dtype=bool)
    said = np.array([[0.9, 0.1], [0.9, 0.2], [0.6, 0.1], [0.1, 0.1]])
    found = agreement(said, truth)
    assert (found.f1, found.accuracy) == (pytest.approx(4 / 6), pytest.approx(6 / 8))


# Training


@pytest.mark.model
def test_what_is_learned_holds_for_another_video_and_is_the_same_every_time() -> None:
    first, second = (
        train(
            [one_video(seed=1), one_video(90, seed=2)], ["run", "j"], learning=SMALL, weights="w", imgsz=None
        )
        for _ in range(2)
    )
    assert file_of(first.classifier) == file_of(second.classifier)
    assert first.why == "threshold"
    assert first.epochs < 300
    unseen = one_video(100, seed=3)
    assert agreement(probabilities(first.classifier, unseen.values), unseen.truth).f1 > 0.9
    # As it is read again, from its file.
    again = read_classifier(file_of(first.classifier))
    assert (probabilities(again, unseen.values) == probabilities(first.classifier, unseen.values)).all()


@pytest.mark.model
@pytest.mark.parametrize(
    ("learning", "most_s", "why"),
    [
        (Learning(epochs=6, hidden_size=4, f1_threshold=1, accuracy_threshold=1), 99.0, "epochs"),
        (Learning(epochs=9999, hidden_size=4, f1_threshold=0), 99.0, "threshold"),
        (Learning(epochs=9999, hidden_size=4, f1_threshold=1, accuracy_threshold=0), 99.0, "threshold"),
        (Learning(epochs=9999, hidden_size=4, f1_threshold=1), 3.0, "time"),
    ],
)
def test_training_ends(learning: Learning, most_s: float, why: str) -> None:
    rng = np.random.default_rng(0)
    noise = Example(values=rng.normal(size=(40, 4)).astype(np.float16), truth=rng.random((40, 2)) > 0.5)
    ticks = itertools.count()
    done = train(
        [noise],
        ["run", "j"],
        learning=learning,
        weights="w",
        imgsz=None,
        most_s=most_s,
        clock=lambda: next(ticks),
    )
    assert done.why == why
    assert 0 <= done.agreement.f1 <= 1
    assert done.epochs <= 10


@pytest.mark.model
@pytest.mark.parametrize("frames", [1, 7, 8, 9, 33])
def test_a_video_of_any_length_gets_an_answer_for_each_frame(frames: int) -> None:
    learning = Learning(epochs=5, hidden_size=4, sequence_size=8, num_layers=2)
    done = train([one_video(40), one_video(3)], ["run", "j"], learning=learning, weights="w", imgsz=None)
    said = probabilities(done.classifier, one_video(frames).values)
    assert said.shape == (frames, 2)
    assert ((said > 0) & (said < 1)).all()


# Plans


def plan_of(attributes: str = "", learned: Classifier | None = None, inside: str | None = None) -> Any:
    return make_plan(
        video_config(inside or timeline(attributes)),
        default=weights(),
        threshold=0.5,
        named=lambda _: weights(),
        learned=lambda control, _: (learned, "" if learned else "not trained yet"),
    )


def test_the_version_is_another_when_another_classifier_serves_and_only_then() -> None:
    one, two = (read_classifier(file_of(a_classifier(value))) for value in (1.0, 2.0))
    versions = [plan_of(learned=found).model_version for found in (None, one, two, one)]
    assert versions[1] == versions[3]
    assert len(set(versions)) == 3
    # How to learn changes nothing until it was done.
    assert plan_of('model_classifier_epochs="5"', one).model_version == versions[1]


def test_a_control_without_a_classifier_is_empty_and_says_so() -> None:
    detector = FakeDetector(task="classify", class_names=("run", "jump"))
    plan = plan_of()
    assert plan.problems == ("not trained yet",)
    assert fit(plan.planned[0], detector) == (None, ())
    ready, _ = fit(plan_of(learned=a_classifier()).planned[0], detector)
    assert ready is not None
    nothing, said = fit(plan_of(learned=a_classifier()).planned[0], FakeDetector())
    assert nothing is None
    assert "needs a model for classify" in said[0]


def test_attributes_of_learning_are_read_and_wrong_ones_named() -> None:
    written = (
        'model_classifier_epochs="50" model_classifier_sequence_size="32" model_classifier_hidden_size="8" '
        'model_classifier_num_layers="2" model_classifier_f1_threshold="0.9" model_classifier_accuracy_threshold="x"'
    )
    [control] = parse_config(video_config(timeline(written)))
    assert control.asked.learning == Learning(
        epochs=50, sequence_size=32, hidden_size=8, num_layers=2, f1_threshold=0.9
    )
    assert "model_classifier_accuracy_threshold='x' is left out" in control.problems[0]
    [plain] = parse_config(video_config(timeline().replace("true", "false")))
    assert plain.asked.learning is None
    boxes = '<VideoRectangle name="b" toName="v" model_trainable="true"><Label value="a"/></VideoRectangle>'
    assert "only <TimelineLabels> learns" in " ".join(plan_of(inside=boxes).problems)
