"""`<VideoRectangle>`: a track for every object followed through a video. Pure but for the tracker it is given.

Labels are those of the `<Labels>` on the same video. Frames are Label Studio's: from 1, in the config's frame rate.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from ml_backend.controls.base import ControlType, OpenTracker, Region, Target, Tracker, always, labelled
from ml_backend.controls.rectangle_labels import upright
from ml_backend.detectors import Found


@dataclass(frozen=True, kw_only=True)
class _Sight:
    step: int  # the how manieth frame that was looked at
    frame: int
    label: str
    score: float
    value: dict[str, Any]


class _Follower:
    def __init__(self, target: Target, tracker: Tracker) -> None:
        self._target = target
        self._tracker = tracker
        self._frames: list[int] = []
        self._tracks: dict[int, list[_Sight]] = defaultdict(list)

    def see(self, frame: int, found: Found, picture: Any) -> None:
        wanted = [seen for seen, _ in labelled(found, self._target)]
        for number, seen in self._tracker.update(wanted, picture):
            value = upright(seen.box, self._target.seen)
            label = self._target.labels.label_of.get(seen.name)
            if value is not None and label is not None:
                sight = _Sight(
                    step=len(self._frames), frame=frame, label=label.written, score=seen.score, value=value
                )
                self._tracks[number].append(sight)
        self._frames.append(frame)

    def regions(self, *, frames: int, duration_s: float, framerate: float) -> list[Region]:
        """A region a track. The label is the one with the most score over all frames, the score the best one's."""
        found = []
        for sights in self._tracks.values():
            weights: dict[str, float] = defaultdict(float)
            for sight in sights:
                weights[sight.label] += sight.score
            score = max(sight.score for sight in sights)
            wanted = self._target.control.asked.threshold
            if wanted is not None and score < wanted:
                continue
            value = {
                "framesCount": frames,
                "duration": duration_s,
                "sequence": self._sequence(sights, framerate),
                "labels": [max(weights, key=lambda label: weights[label])],
            }
            found.append(self._target.region(type="videorectangle", value=value, score=score))
        return found

    def _sequence(self, sights: list[_Sight], framerate: float) -> list[dict[str, Any]]:
        """Key frames. One that is the last before a gap, or before the track's end, has enabled=false: Label Studio
        shows the rectangle up to and with it, and not again before the next key frame."""
        steps = {sight.step for sight in sights}
        last = len(self._frames) - 1
        return [
            {
                "frame": sight.frame,
                "time": sight.frame / framerate,  # as Label Studio writes it
                "enabled": sight.step + 1 in steps or sight.step == last,
                **sight.value,
                "score": sight.score,
            }
            for sight in sights
        ]


def follow(target: Target, open_tracker: OpenTracker) -> _Follower:
    return _Follower(target, open_tracker(target.control.asked))


VIDEO_RECTANGLE = ControlType(
    tag="VideoRectangle",
    label_tag="Label",
    model_tasks=always("detect", "segment", "pose", "obb"),
    follow=follow,
    default_conf=0.25,
    labels_from="<Labels> on the same video",
)
