"""What timelines keep: classifiers, what is said of videos, annotations; and their trainings, one at a time."""

from __future__ import annotations

import io
import itertools
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bridge.errors import Corrupt, SenderError, Unavailable
from bridge.store import MemoryStore
from ml_backend.problems import TaskProblem
from ml_backend.timeline.background import Background, Say
from ml_backend.timeline.classifier import Classifier, file_of, read_classifier
from ml_backend.timeline.classifiers import Classifiers, Place
from ml_backend.timeline.examples import Annotated, Examples, annotated
from ml_backend.timeline.features import FeatureBook
from tests.unit.ml_backend.test_videos import SIZE, index_of, write_video

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own warnings
PLACE = Place(uid="3.1795312966", control="time", weights="a" * 64)


def a_classifier(value: float = 1.0, labels: tuple[str, ...] = ("run", "j")) -> Classifier:
    return Classifier(
        labels=labels,
        weights="a" * 64,
        features=3,
        imgsz=None,
        sequence_size=8,
        hidden_size=4,
        num_layers=1,
        arrays={"one": np.full((2, 3), value, np.float32), "two": np.zeros(4, np.float32)},
    )


# What is saved


def test_a_file_is_plain_arrays_and_says_what_they_are_for() -> None:
    body = file_of(a_classifier())
    assert body == file_of(a_classifier())
    found = read_classifier(body)
    assert (found.labels, found.weights, found.sequence_size) == (("run", "j"), "a" * 64, 8)
    assert (found.arrays["one"] == 1).all()
    assert len(found.digest) == 64
    assert found.digest != read_classifier(file_of(a_classifier(2.0))).digest


def test_what_is_no_classifier_is_refused_and_nothing_in_it_runs() -> None:
    ran: list[int] = []

    class Code:
        def __reduce__(self) -> Any:
            return ran.append, (1,)

    out = io.BytesIO()
    np.savez(out, about=np.array([Code()], dtype=object))
    for body in (b"", b"PK\x03\x04", file_of(a_classifier())[:200], out.getvalue()):
        with pytest.raises(Corrupt, match="train again"):
            read_classifier(body)
    assert ran == []


def test_what_was_saved_is_there_after_a_restart_until_it_is_damaged(tmp_path: Path) -> None:
    saved = Classifiers(tmp_path).save(PLACE, a_classifier(), {"f1": 0.9})
    found = Classifiers(tmp_path).find(PLACE)
    assert found == saved
    assert Classifiers(tmp_path).find(Place(uid=PLACE.uid, control="time", weights="b" * 64)) is None
    assert Classifiers(tmp_path).find(Place(uid="4.1", control="time", weights="a" * 64)) is None
    [npz] = tmp_path.rglob("*.npz")
    npz.write_bytes(file_of(a_classifier(7.0)))
    assert Classifiers(tmp_path).find(PLACE) is None


def test_backends_of_one_bucket_have_what_was_trained_last(tmp_path: Path) -> None:
    store = MemoryStore()
    times = itertools.count(step=100)
    one, other = (
        Classifiers(tmp_path / name, store=lambda: store, prefix="p", clock=lambda: float(next(times)))
        for name in ("one", "other")
    )
    assert one.find(PLACE, wait_s=10) is None
    first = one.save(PLACE, a_classifier(1.0), {})
    one.flush()
    assert other.find(PLACE, wait_s=10) == first
    newer = other.save(PLACE, a_classifier(2.0), {})
    other.flush()
    one.find(PLACE)
    one.flush()
    assert one.find(PLACE) == newer != first
    one.flush()
    third = one.save(PLACE, a_classifier(3.0), {})
    one.flush()
    names = [info.key.rpartition("/")[2] for info in store.keys("p/models/timelines/")]
    assert sorted(names) == sorted([f"{third.digest}.npz", f"{newer.digest}.npz", "manifest.json"])


def test_a_bucket_that_is_away_costs_nothing_but_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def away() -> MemoryStore:
        raise Unavailable("the store is down")

    times = itertools.count(step=100)
    here = Classifiers(tmp_path, store=away, clock=lambda: float(next(times)))
    saved = here.save(PLACE, a_classifier(), {})
    for _ in range(5):
        assert here.find(PLACE) == saved
        here.flush()
    assert caplog.text.count("the store is down") == 1


# What is kept of videos


class Looking:
    """Tells the brightness of a picture; counts what it was asked."""

    def __init__(self) -> None:
        self.seen = 0

    def features(self, images: Sequence[Image.Image], *, imgsz: int | None, device: str | None) -> np.ndarray:
        self.seen += len(images)
        return np.array([[index_of(image), 1e9] for image in images], dtype=np.float32)


def test_a_video_is_looked_at_once_for_each_weights_rate_and_content(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 20)
    model = Looking()
    asked = {"framerate": 25.0, "what": "a.avi", "weights": "a" * 64, "model": model}
    first = FeatureBook(tmp_path / "kept").of(path, **asked)  # type: ignore[arg-type]
    assert first.steps.tolist() == list(range(1, 21))
    assert (first.frames, first.size, model.seen) == (20, SIZE, 20)
    assert first.values[:, 0].tolist() == list(range(20))
    again = FeatureBook(tmp_path / "kept").of(path, **asked)  # type: ignore[arg-type]
    assert (again.values == first.values).all()
    assert model.seen == 20
    for other in ({"weights": "b" * 64}, {"framerate": 12.5}, {"imgsz": 64}):
        before = model.seen
        FeatureBook(tmp_path / "kept").of(path, **asked | other)  # type: ignore[arg-type]
        assert model.seen > before, other
    write_video(path, 12, step=7)  # another video under the same name
    assert FeatureBook(tmp_path / "kept").of(path, **asked).frames == 12  # type: ignore[arg-type]


def test_what_is_kept_is_bounded_and_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    model, kept = Looking(), tmp_path / "kept"
    book = FeatureBook(kept, max_bytes=2500)
    for number in range(4):
        path = write_video(tmp_path / f"{number}.avi", 8 + number)
        book.of(path, framerate=25, what="a", weights="w", model=model)
    files = list(kept.iterdir())
    assert 0 < sum(file.stat().st_size for file in files) <= 2500
    for file in files:
        file.write_bytes(b"PK\x03\x04")
    assert book.of(path, framerate=25, what="a", weights="w", model=model).frames == 11


def test_looking_ends_when_time_is_over(tmp_path: Path) -> None:
    def check(frame: int) -> None:
        if frame > 16:
            raise TaskProblem("late", f"at {frame}", passing=True)

    path = write_video(tmp_path / "a.avi", 40)
    with pytest.raises(TaskProblem, match="at 17"):
        FeatureBook(tmp_path / "kept").of(
            path, framerate=25, what="a", weights="w", model=Looking(), check=check
        )
    assert not (tmp_path / "kept").exists()


# Annotations


def test_annotations_are_kept_by_project(tmp_path: Path) -> None:
    examples = Examples(tmp_path)
    one, two = (
        Annotated(annotation_id=id, task_id=id, data={"video": "v"}, result=[{"type": "timelinelabels"}])
        for id in (1, 2)
    )
    examples.put("3.1", [two, one])
    examples.put("3.1", [one])
    examples.put("4.1", [one])
    again = Examples(tmp_path)
    assert again.of("3.1") == [one, two]
    assert not again.is_whole("3.1")
    again.forget("3.1", [1, 9])
    assert again.of("3.1") == [two]
    again.replace("3.1", [one])
    assert (again.of("3.1"), again.is_whole("3.1"), again.of("4.1")) == ([one], True, [one])
    again.close()
    examples.close()


def test_skipped_annotations_and_other_regions_are_no_examples() -> None:
    task, region = {"id": 1, "data": {"video": "v"}}, {"type": "timelinelabels", "value": {}}
    found = annotated(task, {"id": 5, "result": [region, {"type": "choices"}, None]})
    assert found == Annotated(annotation_id=5, task_id=1, data={"video": "v"}, result=[region])
    assert annotated(task, {"id": 5, "result": [region], "was_cancelled": True}) is None
    for wrong in (None, {"id": 1}, {"id": "1", "data": {}}):
        assert annotated(wrong, {"id": 5, "result": []}) is None


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        Examples(tmp_path / "file").of("3.1")


# Trainings


def test_one_training_runs_at_a_time_and_one_that_waits_is_replaced() -> None:
    background, order = Background(), list[str]()
    begun, gate = threading.Event(), threading.Event()

    def work(name: str) -> Any:
        def run(say: Say) -> dict[str, Any]:
            say(name)
            order.append(name)
            begun.set()
            assert gate.wait(10)
            return {"name": name}

        return run

    first = background.add("3.1", "told", work("first"))
    assert begun.wait(10)
    ids = {background.add("3.1", "told", work(f"{number}")) for number in range(5)}
    assert len(ids) == 1
    background.add("4.1", "told", work("other"))
    told = background.status()["training"]
    assert told == {"running": f"{first}: project 3.1, first", "waiting": 2}
    gate.set()
    background.flush()
    assert order == ["first", "4", "other"]
    assert background.status()["training"]["done"]["name"] == "other"


def test_why_a_training_failed_is_told_until_one_works() -> None:
    background = Background()

    def fails(say: Say) -> dict[str, Any]:
        raise SenderError("nothing to learn from")

    background.add("3.1", "told", fails)
    background.flush()
    [said] = background.said("3.1")
    assert "nothing to learn from" in said
    assert background.said("4.1") == []
    background.add("3.1", "told", lambda say: {})
    background.flush()
    assert background.said("3.1") == []


def test_a_manifest_says_what_was_trained(tmp_path: Path) -> None:
    Classifiers(tmp_path).save(PLACE, a_classifier(), {"f1": 0.97, "labels": ["run", "j"]})
    [path] = tmp_path.rglob("manifest.json")
    told = json.loads(path.read_text())
    assert (told["f1"], told["labels"], told["format"]) == (0.97, ["run", "j"], 1)
    assert isinstance(told["trained_at"], float)
