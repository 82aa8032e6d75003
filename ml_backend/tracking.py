"""ultralytics' trackers, one for each video and control: numbers of one video never reach another. The rim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ml_backend.attributes import Asked
from ml_backend.detectors import FoundBox


class UltralyticsTracker:
    """BoT-SORT or ByteTrack with ultralytics' own defaults and what the config changes of them."""

    def __init__(self, asked: Asked) -> None:
        from ultralytics.engine.results import Boxes
        from ultralytics.trackers.track import TRACKER_MAP
        from ultralytics.utils import ROOT, YAML, IterableSimpleNamespace

        options: dict[str, Any] = YAML.load(ROOT / "cfg" / "trackers" / f"{asked.tracker}.yaml")
        options |= dict(asked.tracking)
        options |= {"with_reid": False, "device": "cpu"}
        self._tracker = TRACKER_MAP[asked.tracker](args=IterableSimpleNamespace(**options))
        self._boxes = Boxes
        self._classes: dict[str, int] = {}

    def update(self, boxes: Sequence[FoundBox], picture: Image.Image) -> list[tuple[int, FoundBox]]:
        """The objects of the next frame that belong to a track, with its number."""
        rows = [
            [
                *(seen.box.x0, seen.box.y0, seen.box.x1, seen.box.y1, seen.score),
                self._classes.setdefault(seen.name, len(self._classes)),
            ]
            for seen in boxes
        ]
        data = np.array(rows, dtype=np.float32).reshape(-1, 6)
        blue_first = np.ascontiguousarray(np.asarray(picture)[..., ::-1])
        tracks = self._tracker.update(self._boxes(data, (picture.height, picture.width)), blue_first)
        # A row: corners, number of the track, score, class, place of the box among those given.
        return [(int(row[4]), boxes[int(row[7])]) for row in tracks]
