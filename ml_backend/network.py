"""What goes into a YOLO network and what its outputs mean; the same for every engine. Needs torch and ultralytics.

ultralytics' `predict` does both around one network, one caller at a time. Here they are apart, so that pictures are
prepared and answers read on the callers' threads, while one thread computes.
"""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from bridge.errors import Corrupt
from ml_backend.detectors import Found, Look
from ml_backend.engines.compare import (
    Difference,
    boxes_differ,
    class_scores_differ,
    largest,
    prototypes_differ,
    rows_differ,
)
from ml_backend.results import found_of

MOST = 300  # objects a picture: ultralytics' own limit, and what networks that suppress by themselves are exported with


class Network:
    """What is known of one file of weights beside the weights. Safe to use from several threads."""

    def __init__(self, yolo: Any) -> None:
        """`yolo`: ultralytics' YOLO, loaded."""
        from ultralytics.utils.checks import check_imgsz

        network = yolo.model
        self.task = str(yolo.task)
        self.names = {int(index): str(name) for index, name in yolo.names.items()}
        self.end2end = bool(getattr(network, "end2end", False))
        self.point_names = _point_names(network)
        self._points: tuple[int, int] | None = None
        if shape := getattr(network, "kpt_shape", None):
            self._points = (int(shape[0]), int(shape[1]))
        told = yolo.overrides.get("imgsz")
        self._imgsz = told if told else (224 if self.task == "classify" else 640)
        stride = getattr(network, "stride", None)
        self._stride = max(int(stride.max()) if stride is not None else 32, 32)
        self._check_imgsz = check_imgsz
        self._own_transforms = getattr(network, "transforms", None)
        self._numbers = {name: index for index, name in self.names.items()}
        options = yolo.overrides | {
            "conf": 0.25,
            "mode": "predict",
            "save": False,
            "verbose": False,
            "rect": True,
        }
        self._reader = yolo._smart_load("predictor")(overrides=options)
        # Of the network, reading the answers needs only this; the weights may leave the memory.
        self._reader.model = SimpleNamespace(
            names=self.names, end2end=self.end2end, kpt_shape=self._points, fp16=False, format="onnx"
        )
        self._reader.batch = ([""], None, None)

    @property
    def pictures_are_bytes(self) -> bool:
        """Whether a prepared picture is uint8 (height, width, 3); else float32 (3, height, width)."""
        return self.task != "classify"

    @property
    def convertible(self) -> bool:
        """Whether `difference` understands its outputs: YOLO's own heads, not RT-DETR's, which stretches pictures."""
        return not self._reader.scale_fill

    def reduction(self, width: int, height: int, imgsz: int | None) -> int:
        """By what a picture may be divided before `prepare`; 1 for masks, which are made at the picture's own size."""
        if self.task == "segment":
            return 1
        size = max(self._size(imgsz))
        if (
            self.task == "classify"
        ):  # its shorter side is brought to `size`, by a better filter than the others
            return max(1, min(width, height) // (2 * size))
        side = min(width, height) if self._reader.scale_fill else max(width, height)
        return max(1, int(side // size))

    def _size(self, imgsz: int | None) -> tuple[int, int]:
        """Height and width in px of what goes in."""
        height, width = self._check_imgsz(imgsz or self._imgsz, stride=self._stride, min_dim=2)
        return height, width

    def prepare(self, picture: Image.Image, imgsz: int | None) -> np.ndarray:
        """The RGB picture as the network wants it: reduced to `imgsz`, with bars up to a multiple of its stride."""
        height, width = self._size(imgsz)
        if self.task == "classify":
            seen: np.ndarray = self._transforms([height, width])(picture).numpy()
            return seen
        from ultralytics.data.augment import LetterBox

        fill = self._reader.scale_fill
        box = LetterBox((height, width), auto=not fill, scale_fill=fill, stride=self._stride)
        boxed: np.ndarray = box(image=np.asarray(picture))
        return np.ascontiguousarray(boxed)

    def read(self, answer: Any, prepared: np.ndarray, picture: Image.Image, look: Look) -> Found:
        """`answer`: an engine's for this one picture. ultralytics' own suppression and scaling."""
        import torch

        reader = copy.copy(self._reader)  # shared but for what a caller asks for
        reader.args = copy.copy(reader.args)
        # `conf` is always said: ultralytics would otherwise drop what is below 0.25 before we see it.
        reader.args.conf = look.conf
        reader.args.iou = reader.args.iou if look.iou is None else look.iou
        reader.args.max_det = MOST if look.max_det is None else look.max_det
        reader.args.classes = None if look.classes is None else [self._numbers[name] for name in look.classes]
        shape = SimpleNamespace(shape=(1, 3, *prepared.shape[:2]))
        # Only its size is read: no pixel is copied.
        original = np.broadcast_to(np.uint8(0), (picture.height, picture.width, 3))
        with torch.inference_mode():
            [result] = reader.postprocess(answer, shape, [original])
            return found_of(result, self.names)

    def difference(self, ours: Any, theirs: Any) -> Difference:
        """Between two engines' answers to one picture; `theirs` is torch's."""
        a, b = ([part.float().cpu().numpy()[0] for part in answer] for answer in (ours, theirs))
        if self.task == "classify":
            return class_scores_differ(a[0], b[0])
        if self.end2end:
            found = [rows_differ(a[0], b[0])]
        else:
            points = self._points if self.task == "pose" else None
            found = [boxes_differ(a[0], b[0], classes=len(self.names), points=points)]
        if self.task == "segment":
            found.append(prototypes_differ(a[1], b[1]))
        return largest(found)

    def _transforms(self, size: list[int]) -> Any:
        """The network's own if they are for this size, else ultralytics' usual ones; as its predictor chooses."""
        from ultralytics.data.augment import classify_transforms

        own = self._own_transforms
        if own is not None:
            told = getattr(own.transforms[0], "size", size)
            if ([told, told] if isinstance(told, int) else list(told)) == size:
                return own
        return classify_transforms(size)


def load_yolo(path: Path) -> Any:
    """ultralytics' YOLO from a .pt file. Raises Corrupt when the file is no readable model."""
    from ultralytics import YOLO

    if path.suffix != ".pt":
        raise Corrupt(f"{path.name} is no .pt file", hint="check MODEL")
    try:
        yolo = YOLO(str(path))
        yolo.names  # noqa: B018 (a property that reads the file's names)
        if getattr(yolo.model, "end2end", False):
            # As ultralytics' own predict and export do by default: of two heads, the one that suppression follows.
            yolo.model.end2end = False
    except Exception as error:
        # A damaged file makes torch and pickle raise almost anything.
        reason = " ".join(str(error).split())[:300]
        raise Corrupt(
            f"{path.name} cannot be read as a YOLO model: {reason}", hint="damaged or cut off? copy it again"
        ) from error
    return yolo


def _point_names(network: Any) -> tuple[str, ...]:
    """The key points of a pose network by number; ultralytics keeps names by class, if its data set gave any."""
    shape = getattr(network, "kpt_shape", None)
    if not shape:
        return ()
    named: Any = getattr(network, "kpt_names", None) or {}
    names: list[Any] = next(iter(named.values()), []) if isinstance(named, dict) else []
    return tuple(str(names[index]) if index < len(names) else "" for index in range(int(shape[0])))
