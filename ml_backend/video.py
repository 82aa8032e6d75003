"""Reading a video frame by frame, as Label Studio counts its frames. The rim of OpenCV.

Label Studio counts from 1 in the labeling config's frame rate, which need not be the file's own: each of its frames
shows the picture at that frame's middle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ml_backend.problems import TaskProblem

# FFmpeg also reads play lists, which name other files and addresses: only files that hold their pictures are opened.
_CONTAINERS = (
    (4, b"ftyp"),  # MP4, MOV, 3GP
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
    (0, b"RIFF"),  # AVI
    (0, b"\x1aE\xdf\xa3"),  # Matroska, WebM
    (0, b"OggS"),
    (0, b"FLV\x01"),
    (0, b"\x00\x00\x01\xba"),  # MPEG
    (0, b"\x00\x00\x01\xb3"),
    (0, b"G"),  # MPEG transport stream
    (0, b"0&\xb2u"),  # ASF, WMV
)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture of a video, RGB. `number`: Label Studio's, the first of those that show this picture."""

    number: int
    image: Image.Image


class Video:
    """One file, read from the front to the end. `frames` and `duration_s` are known once it was read."""

    def __init__(self, path: Path, *, framerate: float, what: str) -> None:
        """Raises TaskProblem when the file is no video that can be read."""
        import cv2

        with path.open("rb") as file:
            start = file.read(16)
        if not any(start[at : at + len(magic)] == magic for at, magic in _CONTAINERS):
            raise TaskProblem("undecodable", f"{what} is no video file: neither MP4, MOV, AVI, WebM nor MPEG")
        self._what = what
        self._framerate = framerate
        self._capture: Any = cv2.VideoCapture(str(path))
        self._to_rgb = lambda picture: cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        rate = float(self._capture.get(cv2.CAP_PROP_FPS)) if self._capture.isOpened() else 0.0
        # A file without a readable rate is taken to have the config's.
        self._fps = rate if math.isfinite(rate) and 0 < rate <= 1000 else framerate
        self.frames = 0
        self.duration_s = 0.0

    def read(self) -> Iterator[Frame]:
        """The pictures that Label Studio's frames show, each once. Raises TaskProblem when there is none."""
        index = 0
        number = 1
        while self._capture.grab():
            first = number
            # Frame n is at (n - 0.5) / framerate, picture k lasts from k / fps to (k + 1) / fps.
            while (number - 0.5) / self._framerate < (index + 1) / self._fps:
                number += 1
            index += 1
            if number == first:
                continue  # between two of Label Studio's frames
            got, picture = self._capture.retrieve()
            if not got:
                break
            yield Frame(number=first, image=Image.fromarray(self._to_rgb(picture)))
        if index == 0:
            raise TaskProblem("undecodable", f"{self._what} has no picture that can be read")
        self.frames = number - 1
        self.duration_s = index / self._fps

    def close(self) -> None:
        self._capture.release()
