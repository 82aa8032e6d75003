"""What the network says of each frame of a video, computed once and kept on disk. The rim.

Features are the input of the classification's last layer (the "penultimate" layer), 1280 numbers a frame in ultralytics'
classifiers, whatever the number of classes: probabilities of a model with three classes would leave three. They are computed by
torch in single precision whatever engine predicts, since a classifier must meet the same features wherever it goes.

Kept by the weights' digest, the video's, the frame rate and the size of the picture: other weights or another video under the
same address never get what belongs to the one before.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import uuid
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from bridge.settings import MIB
from ml_backend.problems import TaskProblem
from ml_backend.video import Frame, Video

log = logging.getLogger(__name__)
MOST_BYTES = 1024 * MIB
MOST_STEPS = 100_000  # of one video: 256 MB on disk, more than an hour at 25 frames a second
_BATCH = 16
_VERSION = 2  # raised when the same video and weights give other features because our code changed


class Looking(Protocol):
    """A model that tells what its last layer reads (ml_backend/yolo.py)."""

    def features(
        self, images: Sequence[Image.Image], *, imgsz: int | None, device: str | None
    ) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """`steps`: the frames that were looked at; `frames`: how many there are as Label Studio counts; `size`: px of the picture;
    `values`: float16 (steps, features)."""

    steps: np.ndarray
    frames: int
    size: tuple[int, int]
    values: np.ndarray


class FeatureBook:
    """Safe to use from several threads and processes."""

    def __init__(self, folder: Path, *, max_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def of(
        self,
        path: Path,
        *,
        framerate: float,
        what: str,
        weights: str,
        model: Looking,
        imgsz: int | None = None,
        device: str | None = None,
        check: Callable[[int], None] = lambda frame: None,
    ) -> VideoFeatures:
        """Of a video file. `check` hears the frame before each batch, and raises to end it. Raises TaskProblem."""
        with path.open("rb") as file:
            video = hashlib.file_digest(file, "sha256").hexdigest()
        name = hashlib.sha256(f"{_VERSION}|{weights}|{imgsz}|{framerate!r}|{video}".encode()).hexdigest()
        kept = self._kept(self._folder / f"{name}.npz")
        if kept is not None:
            return kept
        found = _computed(
            path, framerate, what, lambda some: model.features(some, imgsz=imgsz, device=device), check
        )
        self._keep(self._folder / f"{name}.npz", found)
        return found

    def _kept(self, path: Path) -> VideoFeatures | None:
        """None for a file that is not there or damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                steps, told, values = file["steps"], file["told"], file["values"]
            frames, width, height = (int(number) for number in told)
            os.utime(path)  # used last: evicted last
            if len(steps) != len(values) or values.dtype != np.float16:
                return None
            return VideoFeatures(steps=steps, frames=frames, size=(width, height), values=values)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def _keep(self, path: Path, found: VideoFeatures) -> None:
        """A disk that is full costs the cache, nothing else."""
        partial = path.with_name(f"{uuid.uuid4().hex}.partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with partial.open("wb") as file:
                told = np.array([found.frames, *found.size], dtype=np.int64)
                np.savez(file, steps=found.steps, told=told, values=found.values)
            partial.replace(path)
            self._make_room()
        except OSError as error:
            log.warning("features of a video are not kept: %s", error.strerror or error)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def _make_room(self) -> None:
        files = []
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):  # another process has just removed it
                told = path.stat()
                files.append((told.st_mtime, told.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size


def _computed(
    path: Path,
    framerate: float,
    what: str,
    look: Callable[[Sequence[Image.Image]], np.ndarray],
    check: Callable[[int], None],
) -> VideoFeatures:
    steps: list[int] = []
    values: list[np.ndarray] = []
    size = (0, 0)
    with closing(Video(path, framerate=framerate, what=what)) as video:
        frames = video.read()
        while batch := list(islice(frames, _BATCH)):
            check(batch[0].number)
            if len(steps) > MOST_STEPS:
                raise TaskProblem(
                    "too_large",
                    f"{what} has more than {MOST_STEPS} frames",
                    hint="lower the config's framerate",
                )
            values.append(_seen(batch, look))
            steps += [frame.number for frame in batch]
            size = batch[0].image.size
        return VideoFeatures(
            steps=np.array(steps, dtype=np.int64),
            frames=video.frames,
            size=size,
            values=np.concatenate(values),
        )


def _seen(batch: Sequence[Frame], look: Callable[[Sequence[Image.Image]], np.ndarray]) -> np.ndarray:
    try:
        found: Any = look([frame.image for frame in batch])
    except Exception as error:
        log.exception("the model failed on a video")
        told = f"the model failed at frame {batch[0].number}: {type(error).__name__}: {error}"
        raise TaskProblem("model", told) from error
    # Half precision keeps what matters of them in half the room; nothing above its largest number.
    half: np.ndarray = np.clip(found, -60000, 60000).astype(np.float16)
    return half
