"""A YOLO model as a Detector: pictures are prepared and answers read on the callers' threads, and computed in batches.

torch and ultralytics are imported only when a model is opened.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bridge.errors import Corrupt
from ml_backend.batcher import Batcher
from ml_backend.detectors import Found, Look
from ml_backend.engines import Engine
from ml_backend.timings import NoTimings, Timing, Timings
from ml_backend.weights import weights_of

if TYPE_CHECKING:
    from ml_backend.engines.options import EngineOptions
    from ml_backend.engines.select import Selection
    from ml_backend.engines.torch_engine import TorchEngine
    from ml_backend.timeline.penultimate import Penultimate

log = logging.getLogger(__name__)
_ROOM = 256  # pictures that wait for the model, of all requests
_GPU_WAIT_S = 0.002  # for a batch to fill: on a GPU a full one takes hardly longer than one picture


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


@dataclass(frozen=True, kw_only=True)
class _Group:
    """What goes through the model together. `most`: boxes a picture that a network suppressing by itself must give."""

    device: str
    shape: tuple[int, ...]
    most: int


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """`alone`: its request has no other."""

    pixels: np.ndarray
    alone: bool


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """An engine's outputs for one picture, and how it came to them."""

    outputs: Any
    seconds: float
    batch: int
    engine: str


class YoloDetector:
    """One YOLO model. Safe to use from several threads: only the batcher's, one a lane of the engine, compute."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        engines: EngineOptions | None = None,
        timings: Timings | None = None,
        room: int = _ROOM,
    ) -> None:
        """`engines`: to look for a better engine than torch. Raises Corrupt when the file is no
        readable model."""
        import torch

        from ml_backend.engines.torch_engine import TorchEngine
        from ml_backend.network import Network, load_yolo

        if threads is not None:
            torch.set_num_threads(threads)
        self._path = path
        weights = weights_of(path)
        self._digest, self._version = weights.digest, weights.version
        yolo = load_yolo(path)
        self._network = Network(yolo)
        self._timings = timings or NoTimings()
        self._device = "cuda:0" if torch.cuda.is_available() else "cpu"
        self._computing = threading.Lock()
        own = TorchEngine(yolo.model, self._device, two_outputs=self.task == "segment")
        self._others: dict[str, TorchEngine] = {}
        self._readers: dict[str, Penultimate] = {}
        self._reading = threading.Lock()
        self._own: Engine | None = own
        self._selection: Selection | None = None
        self._why, self._note = "asked", ""
        self._under_way = 0
        self._counting = threading.Lock()
        self._batcher: Batcher[_Picture, _Answer] = Batcher(
            self._run,
            most=self._most,
            lanes=self._lanes,
            room=room,
            wait_s=0.0 if self._device == "cpu" else _GPU_WAIT_S,
            observe=self._timings.queued,
        )
        # The first call is seconds slower than the others, and tells whether the model works at all.
        self.predict([Image.new("RGB", (64, 64))], look=Look(conf=0.5))
        if engines is None or engines.setting == "torch":
            self._timings.uses(self._version, own.name, self._why)
        elif not self._network.convertible:
            self._why = "unsupported"
            self._note = "a network such as RT-DETR, which stretches pictures, is not converted"
            self._timings.uses(self._version, own.name, self._why)
            log.warning("model %s stays with torch, whatever ENGINE says: %s", self._version, self._note)
        else:
            from ml_backend.engines.select import Selection, in_background

            selection = Selection(
                name=self._version,
                network=self._network,
                torch_engine=own,
                device=self._device,
                computing=self._computing,
                options=engines,
                timings=self._timings,
            )
            self._selection, self._own = selection, None
            in_background(lambda: selection.look_for_better(path, self._digest))

    @property
    def task(self) -> str:
        return self._network.task

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self._network.names[index] for index in sorted(self._network.names))

    @property
    def point_names(self) -> tuple[str, ...]:
        return self._network.point_names

    @property
    def devices(self) -> tuple[str, ...]:
        import torch

        graphics = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
        return ("cpu", *graphics, *(("mps",) if torch.backends.mps.is_available() else ()))

    @property
    def batch(self) -> int:
        """How many pictures at once pay."""
        return max(self._engine().batch, self._engine().lanes)

    def engine_status(self) -> dict[str, Any]:
        """Which engine computes, and how it was chosen."""
        if self._selection is None:
            shown = {"name": self._engine().name, "state": "settled", "why": self._why}
            return shown | ({"note": self._note} if self._note else {})
        return self._selection.status()

    def forgotten(self) -> None:
        """It is not to be asked any more."""
        self._timings.forgotten(self._version)

    def reduction(self, width: int, height: int, *, look: Look) -> int:
        """So that the network's own reduction still has something to do, or nothing."""
        return self._network.reduction(width, height, look.imgsz)

    def predict(self, images: Sequence[Image.Image], *, look: Look) -> list[Found]:
        """One Found per image, in order. The model begins with the first while the others are being prepared.

        Raises Busy when too many pictures wait already."""
        device = look.device or self._device
        most = max(look.max_det or 0, 300) if self._network.end2end else 300
        ticket = self._batcher.ticket()
        prepared: list[np.ndarray] = []
        try:
            for image in images:
                one = self._network.prepare(image, look.imgsz)
                prepared.append(one)
                picture = _Picture(pixels=one, alone=len(images) == 1)
                ticket.add(_Group(device=device, shape=one.shape, most=most), picture)
                if self._selection is not None and device == self._device:
                    self._selection.saw(one)
            found = []
            for index, image in enumerate(images):
                answer = ticket.answer(index)
                seen = self._network.read(answer.outputs, prepared[index], image, look)
                timing = Timing(
                    queue_s=ticket.queue_s(index),
                    inference_s=answer.seconds,
                    batch=answer.batch,
                    engine=answer.engine,
                )
                found.append(replace(seen, timing=timing))
        finally:
            ticket.leave()
        return found

    def features(self, images: Sequence[Image.Image], *, imgsz: int | None, device: str | None) -> np.ndarray:
        """float32 (images, features): what the last layer of a classification network reads. Computed by torch whatever
        the engine, since classifiers that learn from them are shared between machines. Raises Corrupt."""
        from ml_backend.timeline.penultimate import Penultimate

        place = device or self._device
        prepared = np.stack([self._network.prepare(image, imgsz) for image in images])
        with self._reading:
            if place not in self._readers:
                self._readers[place] = Penultimate(self._checked_path(), place)
            with self._computing:
                return self._readers[place].of(prepared)

    def _checked_path(self) -> Path:
        """Raises Corrupt when the file is no longer the one that was loaded."""
        if weights_of(self._path).digest != self._digest:
            raise Corrupt(f"{self._path.name} has changed since it was loaded", hint="try again in a moment")
        return self._path

    def _lanes(self, group: Hashable) -> int:
        assert isinstance(group, _Group)
        return self._engine().lanes if self._is_ours(group) else 1

    def _most(self, group: Hashable) -> int:
        return self._engine_for(group).batch

    def _run(self, group: Hashable, pictures: list[_Picture]) -> list[_Answer]:
        engine = self._engine_for(group)
        stacked = np.stack([picture.pixels for picture in pictures])
        with (
            self._counted(len(pictures)) as together,
            self._computing if engine.lanes == 1 else nullcontext(),
        ):
            began = time.perf_counter()
            alone = together == 1 and pictures[0].alone and not self._batcher.waiting
            outputs = engine.forward(stacked, alone=alone)
            seconds = time.perf_counter() - began
        together = len(pictures) if engine.lanes == 1 else together
        self._timings.computed(engine.name, seconds, together)
        return [_Answer(outputs=one, seconds=seconds, batch=together, engine=engine.name) for one in outputs]

    @contextmanager
    def _counted(self, pictures: int) -> Iterator[int]:
        """Gives how many pictures are being computed now, with these."""
        with self._counting:
            self._under_way += pictures
            together = self._under_way
        try:
            yield together
        finally:
            with self._counting:
                self._under_way -= pictures

    def _engine(self) -> Engine:
        if self._selection is not None:
            return self._selection.engine
        assert self._own is not None
        return self._own

    def _is_ours(self, group: _Group) -> bool:
        """Not so for another device, or for more boxes than a converted network gives."""
        return group.device == self._device and group.most <= 300

    def _engine_for(self, group: Hashable) -> Engine:
        """The chosen one, or torch."""
        assert isinstance(group, _Group)
        if self._is_ours(group):
            return self._engine()
        from ml_backend.engines.torch_engine import TorchEngine
        from ml_backend.network import load_yolo

        if group.device not in self._others:
            yolo = load_yolo(self._checked_path())
            self._others[group.device] = TorchEngine(
                yolo.model, group.device, two_outputs=self.task == "segment"
            )
        engine = self._others[group.device]
        engine.look_for(group.most)
        return engine
