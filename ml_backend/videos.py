"""Watching the video of a task: its frames go through each pass in batches, and to the controls in order.

Controls that learn their labels go another way: what the model says of a video's frames is kept for them (timeline/features.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, cast

from bridge.errors import SenderError
from ml_backend.config import Source, framerate_of, media_reference
from ml_backend.controls.base import Following, OpenTracker, Region, Target
from ml_backend.controls.timeline_labels import learned_regions
from ml_backend.detectors import Detector, Found
from ml_backend.fit import Pass, Ready
from ml_backend.images import Images
from ml_backend.problems import TaskProblem, is_want_of_memory
from ml_backend.references import shown
from ml_backend.timeline.features import FeatureBook, Looking
from ml_backend.timeline.stretches import predicted_stretches
from ml_backend.timings import Spent
from ml_backend.video import Frame, Video
from ml_backend.weights import Weights

log = logging.getLogger(__name__)
_BATCH, _PIXELS = 16, 64_000_000  # frames in memory at once, and their pixels


class VideoWatcher:
    """`open_tracker` begins the tracker of one control for one video. `book`: for controls that learn."""

    def __init__(
        self,
        *,
        images: Images,
        open_tracker: OpenTracker,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        book: FeatureBook | None = None,
    ) -> None:
        self._book = book
        self._images = images
        self._open_tracker = open_tracker
        self._clock = clock
        self._new_id = new_id

    def regions(
        self,
        source: Source,
        data: Mapping[str, Any],
        controls: Sequence[tuple[Ready, Pass]],
        detectors: Mapping[Weights, Detector],
        *,
        task_id: Any,
        deadline: float,
        spent: Spent,
    ) -> list[Region]:
        """Of all controls on one video; `spent` is told how long each step takes. Raises TaskProblem: also when the
        deadline comes before the video's end, since half a video's tracks, once stored, would stay."""
        try:
            reference = media_reference(source.value, data)
            framerate = framerate_of(source, data)
        except SenderError as error:
            raise TaskProblem("data", str(error)) from error

        def check(frame: int) -> None:
            if self._clock() >= deadline:
                raise TaskProblem(
                    "late",
                    f"{shown(reference)}: no time was left at frame {frame}",
                    hint="shorten the video, lower the config's framerate, or use a smaller model",
                    passing=True,
                )

        followed = [(ready, way) for ready, way in controls if ready.item.learned is None]
        learned = [ready for ready, _ in controls if ready.item.learned is not None]
        began = time.perf_counter()
        with self._images.video(reference, task_id=task_id if isinstance(task_id, int) else None) as path:
            spent.decode_s += time.perf_counter() - began
            regions = (
                self._followed(path, framerate, reference, followed, detectors, check, spent)
                if followed
                else []
            )
            for ready in learned:
                regions += self._learned(path, framerate, reference, ready, detectors, check, spent)
            return regions

    def _followed(
        self,
        path: Path,
        framerate: float,
        reference: str,
        controls: Sequence[tuple[Ready, Pass]],
        detectors: Mapping[Weights, Detector],
        check: Callable[[int], None],
        spent: Spent,
    ) -> list[Region]:
        with closing(Video(path, framerate=framerate, what=shown(reference))) as video:
            following: list[Following] = []
            frames = video.read()
            while batch := _read(frames, spent):
                check(batch[0].number)
                following = following or [self._begin(ready, batch[0]) for ready, _ in controls]
                self._see(batch, controls, following, detectors, spent)
            with _encoding(spent):
                return [
                    region
                    for one in following
                    for region in one.regions(
                        frames=video.frames, duration_s=video.duration_s, framerate=framerate
                    )
                ]

    def _learned(
        self,
        path: Path,
        framerate: float,
        reference: str,
        ready: Ready,
        detectors: Mapping[Weights, Detector],
        check: Callable[[int], None],
        spent: Spent,
    ) -> list[Region]:
        """Of a control that learns its labels: what its classifier says of the video's features."""
        from ml_backend.timeline.network import probabilities

        item, classifier = ready.item, ready.item.learned
        assert classifier is not None
        assert self._book is not None
        began = time.perf_counter()
        seen = self._book.of(
            path,
            framerate=framerate,
            what=shown(reference),
            weights=item.weights.digest,
            model=cast(Looking, detectors[item.weights]),
            imgsz=classifier.imgsz,
            device=item.control.asked.device,
            check=check,
        )
        spent.looked(time.perf_counter() - began, ())  # reading the frames is part of it
        try:
            said = probabilities(classifier, seen.values)
        except (RuntimeError, KeyError, ValueError) as error:
            log.exception("a learned timeline cannot be computed")
            raise TaskProblem(
                "model", f"{item.control.where}: what was learned cannot be used: {error}", hint="train again"
            ) from error
        stretches = predicted_stretches(
            said, classifier.labels, seen.steps, seen.frames, threshold=item.threshold
        )
        return learned_regions(stretches, self._target(ready, seen.size))

    def _target(self, ready: Ready, size: tuple[int, int]) -> Target:
        return Target(
            control=ready.item.control,
            labels=ready.labels,
            threshold=ready.item.threshold,
            seen=size,
            shown=size,
            new_id=self._new_id,
        )

    def _begin(self, ready: Ready, first: Frame) -> Following:
        kind = ready.item.kind
        assert kind.follow is not None
        return kind.follow(self._target(ready, first.image.size), self._open_tracker)

    def _see(
        self,
        batch: Sequence[Frame],
        controls: Sequence[tuple[Ready, Pass]],
        following: Sequence[Following],
        detectors: Mapping[Weights, Detector],
        spent: Spent,
    ) -> None:
        seen: dict[Pass, list[Found]] = {}
        for _, way in controls:
            if way not in seen:
                began = time.perf_counter()
                try:
                    pictures = [frame.image for frame in batch]
                    seen[way] = detectors[way.weights].predict(pictures, look=way.look)
                except Exception as error:
                    log.exception("the model failed on a video")
                    told = f"the model failed at frame {batch[0].number}: {type(error).__name__}: {error}"
                    raise TaskProblem("model", told, passing=is_want_of_memory(error)) from error
                passes = [found.timing for found in seen[way] if found.timing is not None]
                spent.looked(time.perf_counter() - began, passes)
        with _encoding(spent):
            for (ready, way), one in zip(controls, following, strict=True):
                for frame, found in zip(batch, seen[way], strict=True):
                    one.see(frame.number, ready.narrowed(found), frame.image)


def _read(frames: Iterator[Frame], spent: Spent) -> list[Frame]:
    """The next ones, which go through the model together."""
    began = time.perf_counter()
    batch: list[Frame] = []
    pixels = 0
    for frame in islice(frames, _BATCH):
        batch.append(frame)
        pixels += frame.image.width * frame.image.height
        if pixels >= _PIXELS:
            break
    spent.decode_s += time.perf_counter() - began
    return batch


@contextmanager
def _encoding(spent: Spent) -> Iterator[None]:
    """Following objects from frame to frame is part of making regions."""
    began = time.perf_counter()
    yield
    spent.encode_s += time.perf_counter() - began
