"""Watching the video of a task: its frames go through each pass in batches, and to the controls in order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

from bridge.errors import SenderError
from ml_backend.config import Source, framerate_of, media_reference
from ml_backend.controls.base import Following, OpenTracker, Region, Target
from ml_backend.detectors import Detector, Found
from ml_backend.fit import Pass, Ready
from ml_backend.images import Images
from ml_backend.problems import TaskProblem
from ml_backend.references import shown
from ml_backend.video import Frame, Video
from ml_backend.weights import Weights

log = logging.getLogger(__name__)
_BATCH = 16  # frames in memory at once


class VideoWatcher:
    """`open_tracker` begins the tracker of one control for one video."""

    def __init__(
        self,
        *,
        images: Images,
        open_tracker: OpenTracker,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
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
    ) -> list[Region]:
        """Of all controls on one video. Raises TaskProblem: also when the deadline comes before the video's end, since
        half a video's tracks, once stored, would stay."""
        try:
            reference = media_reference(source.value, data)
            framerate = framerate_of(source, data)
        except SenderError as error:
            raise TaskProblem("data", str(error)) from error
        with (
            self._images.video(reference, task_id=task_id if isinstance(task_id, int) else None) as path,
            closing(Video(path, framerate=framerate, what=shown(reference))) as video,
        ):
            following: list[Following] = []
            frames = video.read()
            while batch := list(islice(frames, _BATCH)):
                if self._clock() >= deadline:
                    raise TaskProblem(
                        "late",
                        f"{shown(reference)}: no time was left at frame {batch[0].number}",
                        hint="shorten the video, lower the config's framerate, or use a smaller model",
                        passing=True,
                    )
                following = following or [self._begin(ready, batch[0]) for ready, _ in controls]
                self._see(batch, controls, following, detectors)
            return [
                region
                for one in following
                for region in one.regions(frames=video.frames, duration_s=video.duration_s)
            ]

    def _begin(self, ready: Ready, first: Frame) -> Following:
        kind = ready.item.kind
        assert kind.follow is not None
        target = Target(
            control=ready.item.control,
            labels=ready.labels,
            threshold=ready.item.threshold,
            seen=first.image.size,
            shown=first.image.size,
            new_id=self._new_id,
        )
        return kind.follow(target, self._open_tracker)

    def _see(
        self,
        batch: Sequence[Frame],
        controls: Sequence[tuple[Ready, Pass]],
        following: Sequence[Following],
        detectors: Mapping[Weights, Detector],
    ) -> None:
        seen: dict[Pass, list[Found]] = {}
        for _, way in controls:
            if way not in seen:
                try:
                    pictures = [frame.image for frame in batch]
                    seen[way] = detectors[way.weights].predict(pictures, look=way.look)
                except Exception as error:
                    log.exception("the model failed on a video")
                    told = f"the model failed at frame {batch[0].number}: {type(error).__name__}: {error}"
                    raise TaskProblem("model", told) from error
        for (ready, way), one in zip(controls, following, strict=True):
            for frame, found in zip(batch, seen[way], strict=True):
                one.see(frame.number, ready.narrowed(found), frame.image)
