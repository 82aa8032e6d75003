"""One training of one timeline control: annotations and videos in, a classifier out. What cannot be used is named and left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import SenderError
from ml_backend.config import ControlTag, framerate_of, media_reference
from ml_backend.images import Images
from ml_backend.problems import TaskProblem
from ml_backend.references import shown
from ml_backend.timeline.background import Say
from ml_backend.timeline.classifiers import Classifiers, Place
from ml_backend.timeline.examples import Annotated
from ml_backend.timeline.features import FeatureBook, Looking, VideoFeatures
from ml_backend.timeline.network import Example, train
from ml_backend.timeline.stretches import holds, stretches_of

MOST_STEPS = 100_000  # frames learned from at once, under 1 GB of memory; the newest annotations count
_NAMED = 10  # annotations named one by one


@dataclass(kw_only=True)
class _Gathered:
    examples: list[Example] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    videos: set[str] = field(default_factory=set)
    steps: int = 0


class Trainer:
    """`images` gives the videos, `book` what a model says of their frames."""

    def __init__(self, *, images: Images, book: FeatureBook, classifiers: Classifiers) -> None:
        self._images = images
        self._book = book
        self._classifiers = classifiers

    def train(
        self, place: Place, control: ControlTag, model: Looking, annotations: Sequence[Annotated], *, say: Say
    ) -> dict[str, Any]:
        """What came of it, which is also what the manifest says. Raises SenderError when nothing can be learned."""
        learning = control.asked.learning
        assert learning is not None
        labels = labels_of(control)
        gathered = self._gather(place, control, model, annotations, labels, say)
        held = [any(one.truth[:, index].any() for one in gathered.examples) for index in range(len(labels))]
        if not any(held):
            raise SenderError(_nothing(control, annotations, gathered))
        say(f"{control.where}: training on {gathered.steps} frames")
        done = train(
            gathered.examples,
            labels,
            learning=learning,
            weights=place.weights,
            imgsz=control.asked.imgsz,
        )
        about = {
            "project": place.uid,
            "control": control.name,
            "labels": list(labels),
            "never_seen": [label for label, there in zip(labels, held, strict=True) if not there],
            "weights_sha256": place.weights,
            "sequence_size": learning.sequence_size,
            "hidden_size": learning.hidden_size,
            "num_layers": learning.num_layers,
            "annotations": len(gathered.examples),
            "videos": len(gathered.videos),
            "frames": gathered.steps,
            "left_out": gathered.left_out[:_NAMED],
            "left_out_count": len(gathered.left_out),
            "epochs": done.epochs,
            "ended_by": done.why,
            "f1": round(done.agreement.f1, 4),
            "accuracy": round(done.agreement.accuracy, 4),
            "seconds": round(done.seconds, 2),
        }
        saved = self._classifiers.save(place, done.classifier, about)
        return about | {"sha256": saved.digest, "problems": _problems(control, about)}

    def _gather(
        self,
        place: Place,
        control: ControlTag,
        model: Looking,
        annotations: Sequence[Annotated],
        labels: Sequence[str],
        say: Say,
    ) -> _Gathered:
        found = _Gathered()
        for number, one in enumerate(reversed(annotations), start=1):
            say(f"{control.where}: looking at video {number} of {len(annotations)}")
            stretches = stretches_of(one.result, control.name)
            unknown = sorted({stretch.label for stretch in stretches} - set(labels))
            where = f"annotation {one.annotation_id} of task {one.task_id}"
            if unknown:
                named = ", ".join(map(repr, unknown))
                found.left_out.append(f"{where}: the config no longer has the label {named}")
            try:
                reference, seen = self._seen(place, control, model, one)
            except TaskProblem as problem:
                found.left_out.append(f"{where}: {problem}")
                continue
            if found.steps + len(seen.steps) > MOST_STEPS:
                found.left_out.append(f"{where}: {MOST_STEPS} frames are learned from at most")
                continue
            truth = holds(stretches, labels, seen.steps, seen.frames)
            found.examples.append(Example(values=seen.values, truth=truth))
            found.videos.add(reference)
            found.steps += len(seen.steps)
        return found

    def _seen(
        self, place: Place, control: ControlTag, model: Looking, one: Annotated
    ) -> tuple[str, VideoFeatures]:
        """Raises TaskProblem."""
        try:
            reference = media_reference(control.source.value, one.data)
            framerate = framerate_of(control.source, one.data)
        except SenderError as error:
            raise TaskProblem("data", str(error)) from error
        with self._images.video(reference, task_id=one.task_id) as path:
            return reference, self._book.of(
                path,
                framerate=framerate,
                what=shown(reference),
                weights=place.weights,
                model=model,
                imgsz=control.asked.imgsz,
                device=control.asked.device,
            )


def labels_of(control: ControlTag) -> tuple[str, ...]:
    """As regions hold them, each once, in the config's order."""
    return tuple(dict.fromkeys(label.written for label in control.labels))


def how_to_begin(control: ControlTag) -> str:
    return (
        f"{control.where} stays empty: not trained yet: annotate videos with "
        f"{', '.join(labels_of(control)[:5])}, and press Start training (Settings > Model)"
    )


def _problems(control: ControlTag, about: dict[str, Any]) -> list[str]:
    """What a person should know of a training that worked."""
    found = []
    if about["never_seen"]:
        labels = ", ".join(about["never_seen"])
        found.append(f"{control.where}: no annotation has {labels}: never predicted until one has")
    if about["left_out"]:
        named = "; ".join(about["left_out"][:3])
        found.append(f"{control.where}: the last training left out {about['left_out_count']}: {named}")
    return found


def _nothing(control: ControlTag, annotations: Sequence[Annotated], gathered: _Gathered) -> str:
    if not annotations:
        return f"{control.where}: there is no annotation to learn from yet; annotate videos first"
    told = f"{control.where}: no annotation of {len(annotations)} has a stretch to learn from"
    left = "; ".join(gathered.left_out[:3])
    more = len(gathered.left_out) - 3
    return told + (f": {left}" if left else "") + (f"; and {more} more" if more > 0 else "")
