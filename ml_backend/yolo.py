"""The only module that imports torch and ultralytics, and only when a model is opened."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from bridge.errors import Corrupt
from ml_backend.detectors import Found, Look
from ml_backend.results import found_of

_BATCH = 8  # images in one forward pass
_DEFAULT_IMGSZ = {"classify": 224}


def keep_ultralytics_to_itself(environ: MutableMapping[str, str], folder: Path) -> None:
    """Set what ultralytics 8.4 reads from the environment while it is imported; call before that.

    No network (weights, fonts, version checks, usage events), no installing of packages, no settings file in the
    home folder; and weights are unpickled into known classes only, so that a file of weights cannot run code.
    """
    environ["YOLO_OFFLINE"] = "true"
    environ["YOLO_AUTOINSTALL"] = "false"
    environ["ULTRALYTICS_SAFE_LOAD"] = "true"
    environ["YOLO_CONFIG_DIR"] = str(folder)
    environ["MPLCONFIGDIR"] = str(folder / "matplotlib")
    environ["YOLO_VERBOSE"] = "false"


class YoloDetector:
    """One YOLO model. Calls wait for each other: ultralytics' models are not safe to share between threads."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Raises Corrupt when the file is no readable model."""
        import torch
        from ultralytics import YOLO

        if path.suffix != ".pt":
            raise Corrupt(f"{path.name} is no .pt file", hint="check MODEL")
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            self._model = YOLO(str(path))
            names: dict[int, str] = self._model.names
        except Exception as error:
            # A damaged file makes torch and pickle raise almost anything.
            reason = " ".join(str(error).split())[:300]
            raise Corrupt(
                f"{path.name} cannot be read as a YOLO model: {reason}",
                hint="damaged or cut off? copy it again",
            ) from error
        self.task: str = str(self._model.task)
        self._names = {int(index): str(name) for index, name in names.items()}
        told = self._model.overrides.get("imgsz")
        self._imgsz = told if told else _DEFAULT_IMGSZ.get(self.task, 640)
        self._point_names = _point_names(self._model.model)
        self._turns = _Turns()
        # The first call is seconds slower than the others, and tells whether the model works at all.
        self.predict([Image.new("RGB", (64, 64))], look=Look(conf=0.5))

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self._names[index] for index in sorted(self._names))

    @property
    def point_names(self) -> tuple[str, ...]:
        return self._point_names

    @property
    def devices(self) -> tuple[str, ...]:
        import torch

        graphics = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
        return ("cpu", *graphics, *(("mps",) if torch.backends.mps.is_available() else ()))

    def predict(self, images: Sequence[Image.Image], *, look: Look) -> list[Found]:
        """One Found per image, in order. Images of one size go through the model together.

        Only those of one size: in a mixed batch the padding, and with it the result, would depend on the others."""
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            by_size[image.size].append(index)
        options = self._options(look)
        found: dict[int, Found] = {}
        for indexes in by_size.values():
            for start in range(0, len(indexes), _BATCH):
                batch = indexes[start : start + _BATCH]
                # The turn is given back between batches: someone opening one task need not wait for a hundred.
                with self._turns:
                    results = self._model.predict(
                        [images[index] for index in batch], verbose=False, save=False, **options
                    )
                for index, result in zip(batch, results, strict=True):
                    found[index] = found_of(result, self._names)
        return [found[index] for index in range(len(images))]

    def _options(self, look: Look) -> dict[str, Any]:
        """ultralytics' words. `conf` is always said: it would otherwise drop what is below 0.25 before we see it."""
        numbers = {name: index for index, name in self._names.items()}
        wanted: dict[str, Any] = {
            "conf": look.conf,
            "imgsz": look.imgsz or self._imgsz,
            "iou": look.iou,
            "max_det": look.max_det,
            "device": look.device,
            "classes": None if look.classes is None else [numbers[name] for name in look.classes],
        }
        return {name: value for name, value in wanted.items() if value is not None}


class _Turns:
    """A lock that goes to whoever waits longest. threading.Lock mostly goes back to the thread that just left it,
    so that a large request would keep all others waiting to its end."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


def _point_names(network: Any) -> tuple[str, ...]:
    """The key points of a pose network by number; ultralytics keeps names by class, if its data set gave any."""
    shape = getattr(network, "kpt_shape", None)
    if not shape:
        return ()
    named: Any = getattr(network, "kpt_names", None) or {}
    names: list[Any] = next(iter(named.values()), []) if isinstance(named, dict) else []
    return tuple(str(names[index]) if index < len(names) else "" for index in range(int(shape[0])))
