"""Finding a better engine than torch for one loaded model, in the background: convert, compare, switch.

Torch answers until another engine has given the same for real pictures, and again when it has not.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ml_backend.engines import Engine
from ml_backend.engines.choose import candidates, unfit
from ml_backend.engines.compare import Difference, largest
from ml_backend.engines.converted import engine_id, versions_for
from ml_backend.engines.options import EngineOptions
from ml_backend.network import Network
from ml_backend.timings import NoTimings, Timings

log = logging.getLogger(__name__)
WHY = {
    "chosen": "converted for this machine, and within the tolerance of torch",
    "converting": "torch answers while a better one is looked for",
    "fell_back": "torch: the others cannot be had, or differ from it",
    "unsupported": "torch: nothing else can serve this kind of network",
    "asked": "torch, as ENGINE says",
    "best": "torch: nothing better is known for this device",
}
"""Why an engine computes a model, as /health, /setup and the metrics say it."""
_REAL = 4  # pictures of real requests that an engine is compared with torch on


class Selection:
    """The engine in use for one model on its own device. Safe to use from several threads.

    `torch_engine` answers first; `computing` is the lock under which alone an engine with one lane
    computes. `opened` gives the
    engines of a kind for some weights and their digest, the quickest first; `photos` are there before any request."""

    def __init__(
        self,
        *,
        name: str,
        network: Network,
        torch_engine: Engine,
        device: str,
        computing: threading.Lock,
        options: EngineOptions,
        opened: Callable[[str, Path, str], Iterable[Engine]] | None = None,
        photos: Callable[[], Sequence[Image.Image]] | None = None,
        timings: Timings | None = None,
    ) -> None:
        self.name = name
        self._timings = timings or NoTimings()
        self._network = network
        self._torch: Engine | None = torch_engine
        self._device = device
        self._computing = computing
        self._options = options
        self._opened = opened or self._convert_and_open
        self._photos = photos or shipped_photos
        self._engine: Engine = torch_engine
        self._state = "converting"
        self._why = "converting"
        self._note = ""
        self._difference: Difference | None = None
        self._compared = 0
        self._real: list[np.ndarray] = []
        self._guard = threading.Lock()
        self._timings.uses(name, torch_engine.name, self._why)

    @property
    def engine(self) -> Engine:
        return self._engine

    def status(self) -> dict[str, Any]:
        """For /health and /setup: the engine's name, whether a better one is still being looked for, why it is this one, the
        largest difference from torch on how many pictures, and what speaks against a better one."""
        with self._guard:
            shown: dict[str, Any] = {"name": self._engine.name, "state": self._state, "why": self._why}
            if self._difference is not None:
                one = self._difference
                values = {"px": one.px, "score": one.score, "other": one.rest}
                # JSON has no NaN and no infinity.
                shown["difference"] = {
                    name: value if math.isfinite(value) else None for name, value in values.items()
                }
                shown["compared_pictures"] = self._compared
            if self._note:
                shown["note"] = self._note
            return shown

    def saw(self, prepared: np.ndarray) -> None:
        """A picture of a real request: some are kept to compare engines on."""
        if self._torch is None or len(self._real) >= _REAL:
            return
        with self._guard:
            self._real.append(prepared)
            ready = len(self._real) == _REAL and self._state == "settled" and self._engine is not self._torch
        if ready:
            threading.Thread(target=self._check_again, name="engine-check", daemon=True).start()

    def look_for_better(self, weights: Path, digest: str) -> None:
        """Takes seconds to minutes; raises nothing. Torch stays when nothing else can be had or gives the same."""
        notes = [note] if (note := unfit(self._options.setting, device=self._device)) else []
        began = time.monotonic()
        for kind in candidates(self._options.setting, device=self._device):
            try:
                for engine in self._opened(kind, weights, digest):
                    if self._accepted(engine, notes):
                        log.info(
                            "model %s: engine %s after %.1f s; largest difference from torch on %d pictures: %s",
                            *(
                                self.name,
                                engine.name,
                                time.monotonic() - began,
                                self._compared,
                                self._difference,
                            ),
                        )
                        return
            except Exception as error:
                # Whatever a converter or a runtime raises: torch serves.
                notes.append(f"{kind}: {error}" if str(error) else f"{kind}: {type(error).__name__}")
        self._settle("; ".join(notes), "fell_back" if notes else "best")
        if notes:
            log.warning("model %s stays with torch: %s", self.name, "; ".join(notes))

    def _accepted(self, engine: Engine, notes: list[str]) -> bool:
        with self._guard:
            real = list(self._real)
        pictures = [*real, *(self._network.prepare(photo, None) for photo in self._photos())]
        difference = self._compare(engine, pictures)
        self._timings.compared(self.name, engine.name, difference)
        if not difference.within(self._options.tolerance_px):
            notes.append(
                f"{engine.name} differs from torch by {difference}, more than ENGINE_TOLERANCE_PX="
                f"{self._options.tolerance_px:g} allows"
            )
            return False
        with self._guard:
            self._difference, self._compared = difference, len(pictures)
            self._engine, self._state, self._why = engine, "settled", "chosen"
            self._note = "; ".join(notes)
            if len(real) == _REAL:
                self._torch = None
                self._real = []
        self._timings.uses(self.name, engine.name, "chosen")
        return True

    def _check_again(self) -> None:
        """Once on pictures of requests, for an engine that was chosen before there were any; then torch may go."""
        with self._guard:
            engine, pictures, torch = self._engine, list(self._real), self._torch
        if torch is None:
            return
        try:
            difference = self._compare(engine, pictures)
        except Exception as error:
            note = f"{engine.name} failed: {type(error).__name__}: {error}"
        else:
            note = (
                ""
                if difference.within(self._options.tolerance_px)
                else f"{engine.name} differs by {difference}"
            )
            log.info(
                "model %s: engine %s differs from torch on %d pictures of requests by %s",
                *(self.name, engine.name, len(pictures), difference),
            )
            with self._guard:
                assert self._difference is not None
                self._difference = largest([self._difference, difference])
                self._compared += len(pictures)
                so_far = self._difference
            self._timings.compared(self.name, engine.name, so_far)
        with self._guard:
            if note:
                self._engine, self._note, self._why = torch, note, "fell_back"
            self._torch, self._real = None, []
        if note:
            self._timings.uses(self.name, torch.name, "fell_back")
            log.warning("model %s is back to torch: %s", self.name, note)

    def _compare(self, engine: Engine, pictures: Sequence[np.ndarray]) -> Difference:
        torch = self._torch
        assert torch is not None
        found = []
        for picture in pictures:
            one = picture[None]
            with self._computing:  # for one picture each: requests go on in between
                [theirs] = torch.forward(one)
            # Alone, beside others, and twice in a batch: engines may compute that in other ways.
            for given, alone in ((one, True), (one, False), (np.repeat(one, 2, axis=0), False)):
                with self._computing:
                    several = engine.forward(given, alone=alone)
                found += [self._network.difference(ours, theirs) for ours in several]
        return largest(found)

    def _agree(self, ours: Any, theirs: Any) -> bool:
        return self._network.difference(ours, theirs).within(self._options.tolerance_px)

    def _settle(self, note: str, why: str) -> None:
        with self._guard:
            self._state, self._note, self._why = "settled", note, why
            self._torch, self._real = None, []
        self._timings.uses(self.name, self._engine.name, why)

    def _convert_and_open(self, kind: str, weights: Path, digest: str) -> Iterator[Engine]:
        threads = self._options.threads
        as_bytes = self._network.pictures_are_bytes
        machine = _gpu_name() if kind == "tensorrt" else ""
        label = engine_id(kind, versions_for(kind), machine=machine)
        folder = self._options.converted.get(kind, weights, digest, engine=label, shared=not machine)
        if kind == "openvino":
            from ml_backend.engines.openvino_engine import OpenVinoEngine

            def opened(precise: bool) -> Engine:
                return OpenVinoEngine(
                    folder / "model.xml",
                    pictures_are_bytes=as_bytes,
                    precise=precise,
                    threads=threads,
                    agree=self._agree,
                )

            quick = opened(precise=False)
            yield quick
            if not quick.name.endswith(" f32"):
                yield opened(precise=True)
        elif kind == "onnx":
            from ml_backend.engines.onnx_engine import OnnxEngine

            yield OnnxEngine(folder / "model.onnx", threads=threads)
        elif kind == "tensorrt":
            from ml_backend.engines.tensorrt_engine import TensorRtEngine

            yield TensorRtEngine(folder / "model.engine", self._device)


def shipped_photos() -> list[Image.Image]:
    """Two photographs that ultralytics brings along: real input before the first request. Empty where it has none."""
    from ultralytics.utils import ASSETS

    return [Image.open(path).convert("RGB") for path in sorted(Path(ASSETS).glob("*.jpg"))]


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name())


def in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="engine-select", daemon=True).start()
