"""The network converted to OpenVINO, on the processor."""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

log = logging.getLogger(__name__)
_BATCH = 4  # at least: whoever comes next waits for its end
_SIZES = 2  # sizes of pictures that the network is compiled for: most projects have one, or one upright and one lying
_WEIGHTS = (
    128 * 1024 * 1024
)  # bytes; larger networks (YOLO11x) would take too much memory to have several times
_OFTEN, _LAST = 16, 128  # pictures of a size among the last ones, before it is worth a second of compiling
_TIMES, _AGAIN = 7, 32  # pictures that tell which way is quicker; after how many the other one is tried again
Size = tuple[int, ...]
"""A prepared picture's shape."""
Agree = Callable[[list[Any], list[Any]], bool]
"""Whether two answers to one picture are the same within the tolerance."""


class OpenVinoEngine:
    """Takes pictures of any size; for the sizes that come most often the network is compiled once more in the
    background, unless it is large, which makes it an eighth faster; it is used once it `agree`s with what any size goes
    through.

    `precise`: single precision; else what OpenVINO takes for this processor, bf16 where it has instructions for it."""

    def __init__(
        self,
        file: Path,
        *,
        pictures_are_bytes: bool,
        precise: bool,
        threads: int | None,
        agree: Agree = lambda ours, theirs: True,
    ) -> None:
        import openvino

        self._core = openvino.Core()
        self._file = file
        self._bytes = pictures_are_bytes
        self._options: dict[str, Any] = {}
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        if precise:
            self._options["INFERENCE_PRECISION_HINT"] = "f32"
        self._agree = agree
        self._any = self._compiled(None)
        self.name = f"openvino {self._any.precision}"
        self._for: dict[Size, _Compiled] = {}
        weights = file.with_suffix(".bin")
        self._sizes = Sizes(_SIZES if weights.exists() and weights.stat().st_size <= _WEIGHTS else 0)
        self._guard = threading.Lock()
        self._compiling = False

    @property
    def batch(self) -> int:
        """One, where pictures are computed side by side."""
        return 1 if self.lanes > 1 else _BATCH

    @property
    def lanes(self) -> int:
        return self._any.streams

    def forward(self, pictures: np.ndarray, *, alone: bool = False) -> list[Any]:
        size = pictures.shape[1:]
        found = self._for.get(size, self._any).forward(pictures, alone=alone)
        with self._guard:
            self._sizes.saw(size, len(pictures))
            wanted = None if self._compiling else self._sizes.wanted(list(self._for))
            if wanted is not None and wanted[0] == size:  # a picture to compare with is at hand
                self._compiling = True
                work = (*wanted, pictures[:1].copy())
                threading.Thread(target=self._compile_for, args=work, name="engine-size", daemon=True).start()
        return found

    def _compile_for(self, size: Size, instead_of: Size | None, picture: np.ndarray) -> None:
        """Whatever a compiler raises: pictures of the size go on as those of any size do."""
        shown = "x".join(map(str, size))
        compiled = None
        try:
            compiled = self._compiled(size)
            [theirs] = self._any.forward(picture, alone=False)
            if not all(
                self._agree(compiled.forward(picture, alone=alone)[0], theirs) for alone in (True, False)
            ):
                compiled = None
                log.warning("%s differs when compiled for pictures of %s: not used", self.name, shown)
        except Exception as error:
            compiled = None
            log.warning("%s cannot be compiled for pictures of %s: %s", self.name, shown, error)
        with self._guard:
            if compiled is None:
                self._sizes.never(size)
            else:
                kept = {known: one for known, one in self._for.items() if known != instead_of}
                self._for = kept | {size: compiled}
            self._compiling = False
        if compiled is not None:
            log.info("%s is compiled for pictures of %s too", self.name, shown)

    def _compiled(self, size: Size | None) -> _Compiled:
        import openvino
        from openvino.preprocess import PrePostProcessor

        model = self._core.read_model(str(self._file))
        if size is not None:
            height, width, depth = size if self._bytes else (*size[1:], size[0])
            model.reshape([1, depth, height, width])
        if self._bytes:
            # Bytes to floats inside the network: a quarter of the memory is moved.
            before = PrePostProcessor(model)
            given = before.input()
            given.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
            given.model().set_layout(openvino.Layout("NCHW"))
            given.preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
            model = before.build()
        return _Compiled(self._core, model, self._options)


class _Compiled:
    """Compiled twice: all threads on one picture, and a thread or a few a picture, for several (`streams`). Threads that
    share a picture wait for one another at each layer, which on two cores costs a third of their time, and most of it
    where other programs want the cores too: a picture that comes alone goes the way that was quicker of late."""

    def __init__(self, core: Any, model: Any, options: dict[str, Any]) -> None:
        import torch

        self._torch = torch
        together = core.compile_model(model, "CPU", options | {"PERFORMANCE_HINT": "LATENCY"})
        self.precision: str = together.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        apart = core.compile_model(model, "CPU", options | {"PERFORMANCE_HINT": "THROUGHPUT"})
        self.streams = int(apart.get_property("NUM_STREAMS"))
        self._together: SimpleQueue[Any] = SimpleQueue()
        self._together.put(together.create_infer_request())
        self._apart: SimpleQueue[Any] = self._together
        if self.streams > 1:
            self._apart = SimpleQueue()
            for _ in range(self.streams):
                self._apart.put(apart.create_infer_request())
        self._quicker = Quicker()

    def forward(self, pictures: np.ndarray, *, alone: bool) -> list[Any]:
        """As many threads as there are streams may be in here; others wait."""
        if not alone or len(pictures) > 1:
            return [self._by(self._apart, pictures[index : index + 1]) for index in range(len(pictures))]
        first = self._quicker.first()
        began = time.perf_counter()
        found = self._by(self._together if first else self._apart, pictures)
        self._quicker.took(first, time.perf_counter() - began)
        return [found]

    def _by(self, requests: SimpleQueue[Any], picture: np.ndarray) -> Any:
        request = requests.get()
        try:
            found = request.infer([picture], share_inputs=True)  # the outputs are copies
            return [self._torch.from_numpy(part) for part in found.values()]
        finally:
            requests.put(request)


class Quicker:
    """Which of two ways was quicker the last times; the other one is tried again now and then."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._seconds: tuple[deque[float], deque[float]] = (deque(maxlen=_TIMES), deque(maxlen=_TIMES))
        self._asked = 0

    def first(self) -> bool:
        """Whether to go the first way now."""
        with self._guard:
            self._asked += 1
            other, first = (
                statistics.median(times) if len(times) >= _TIMES // 2 else -1.0 for times in self._seconds
            )
            quicker = first <= other
            return quicker if self._asked % _AGAIN else not quicker

    def took(self, first: bool, seconds: float) -> None:
        """Going the first or the other way."""
        with self._guard:
            self._seconds[first].append(seconds)


class Sizes:
    """Which sizes of pictures are worth a network of their own, by the last pictures; `most` at a time."""

    def __init__(self, most: int = _SIZES) -> None:
        self._most = most
        self._last: deque[Size] = deque(maxlen=_LAST)
        self._never: set[Size] = set()

    def saw(self, size: Size, pictures: int) -> None:
        self._last.extend([size] * pictures)

    def never(self, size: Size) -> None:
        """It did not go well."""
        self._never.add(size)

    def wanted(self, have: list[Size]) -> tuple[Size, Size | None] | None:
        """A size to compile for and, where there is room for no more, the one that gives way: only one that came half
        as often at most, so that sizes which take turns do not compile without end."""
        if len(self._last) < _OFTEN:
            return None
        counts = Counter(self._last)
        for size, count in counts.most_common(self._most):
            if size in have or size in self._never or count < _OFTEN or count * 4 < len(self._last):
                continue
            if len(have) < self._most:
                return size, None
            rarest = min(have, key=lambda one: counts[one])
            if counts[rarest] * 2 <= count:
                return size, rarest
        return None
