"""Reading a video frame by frame, as Label Studio counts its frames. The rim of OpenCV.

Label Studio (1.23.2, VideoCanvas.tsx) counts from 1 in the labeling config's frame rate, which need not be the file's own, nor
need the file's be even: going to frame n, it seeks to (n - 1) / framerate and a hair, and shows the picture that is there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
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


_HAIR_S = 0.002  # Label Studio's BROWSER_TIME_PRECISION: times are rounded to it, and moved on by it
_LONGEST_S = 3600.0  # that one picture stays; a file that says more is taken to be wrong
_SOON = 4  # pictures before a frame's time that are unpacked, should the next ones come late


MOST_PIXELS = 36_000_000  # of a frame: 8K; a file of 4 MB can hold sixteen of 100 MB each


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture of a video, RGB. `number`: Label Studio's, the first of those that show this picture."""

    number: int
    image: Image.Image


class Video:
    """One file, read from the front to the end. `frames` and `duration_s` are known once it was read."""

    def __init__(self, path: Path, *, framerate: float, what: str, most_pixels: int = MOST_PIXELS) -> None:
        """Raises TaskProblem when the file is no video that can be read."""
        import cv2

        with path.open("rb") as file:
            start = file.read(16)
        if not any(start[at : at + len(magic)] == magic for at, magic in _CONTAINERS):
            raise TaskProblem("undecodable", f"{what} is no video file: neither MP4, MOV, AVI, WebM nor MPEG")
        self._what = what
        self._path = path
        self._uneven = False
        self._framerate = framerate
        self._capture: Any = cv2.VideoCapture(str(path))
        self._to_rgb = lambda picture: cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        width, height = (
            int(self._capture.get(size)) for size in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if width * height > most_pixels:
            self._capture.release()
            raise TaskProblem(
                "too_large",
                f"{what} has frames of {width}x{height} pixels; {most_pixels / 1e6:g} million at most",
                hint="reduce it",
            )
        rate = float(self._capture.get(cv2.CAP_PROP_FPS)) if self._capture.isOpened() else 0.0
        # A file without a readable rate is taken to have the config's.
        self._fps = rate if math.isfinite(rate) and 0 < rate <= 1000 else framerate
        self.frames = 0
        self.duration_s = 0.0

    def read(self) -> Iterator[Frame]:
        """The pictures that Label Studio's frames show, each once. Raises TaskProblem when there is none."""
        number = 1  # the first frame without a picture so far
        held: Frame | None = None  # the file may end before Label Studio counts this one
        last, picture = -1, None  # the picture that is there until the next one comes, if it was unpacked
        for index, at_s in self._times():
            first = number
            if last >= 0:
                number = self._first_at(at_s, number)
            if number > first:
                if held is not None:
                    yield held
                held = self._frame(first, last, picture)
            soon = at_s + _SOON / self._fps > self._seeks_to_s(number)
            last, picture = index, self._unpacked(self._capture) if soon or self._uneven else None
            if held is not None and held.number <= self._counted():
                yield held
                held = None
        if last < 0:
            raise TaskProblem("undecodable", f"{self._what} has no picture that can be read")
        self.frames = max(1, self._counted())
        if held is not None and held.number <= self.frames:
            yield held
        if number <= self.frames:
            yield self._frame(number, last, picture)

    def _times(self) -> Iterator[tuple[int, float]]:
        """Every picture of the file, from 0, with the time in seconds from which on it is shown."""
        import cv2

        at_s = -1 / self._fps
        for index in count():
            if not self._capture.grab():
                return
            told_s = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
            # A file that tells no times, or times that go back, is taken to be even.
            at_s = told_s if 0 < told_s - at_s <= _LONGEST_S else at_s + 1 / self._fps
            self.duration_s = at_s + 1 / self._fps
            yield index, at_s

    def _first_at(self, at_s: float, number: int) -> int:
        """The first frame, from a number on, that does not show what was there before this time."""
        number = max(number, math.floor((at_s - 2 * _HAIR_S) * self._framerate))
        while self._seeks_to_s(number) < at_s:
            number += 1
        return number

    def _seeks_to_s(self, number: int) -> float:
        exact_s = (number - 1) / self._framerate
        return math.floor(exact_s / _HAIR_S + 0.5) * _HAIR_S + _HAIR_S

    def _counted(self) -> int:
        """How many frames Label Studio counts in what was read so far."""
        return math.floor(self.duration_s * self._framerate + 0.5 + 1e-6)

    def _frame(self, number: int, index: int, picture: Any) -> Frame:
        if picture is None:  # it stayed longer than pictures of an even file do
            self._uneven = True
            picture = self._again(index)
        return Frame(number=number, image=Image.fromarray(self._to_rgb(picture)))

    def _again(self, index: int) -> Any:
        """A picture that was passed over: from the front, since not every file can be sought in."""
        import cv2

        capture = cv2.VideoCapture(str(self._path))
        try:
            for _ in range(index + 1):
                capture.grab()
            return self._unpacked(capture)
        finally:
            capture.release()

    def _unpacked(self, capture: Any) -> Any:
        """Takes as long again as decoding it."""
        got, picture = capture.retrieve()
        if not got:
            raise TaskProblem("undecodable", f"{self._what} is damaged")
        return picture

    def close(self) -> None:
        self._capture.release()
