"""The network converted to OpenVINO, on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_BATCH = 4  # at least: whoever comes next waits for its end


class OpenVinoEngine:
    """Compiled twice: all threads on one picture, for a picture that comes alone, and a thread or a few a picture, for
    several. Threads that share a picture wait for one another at each layer, which on two cores costs a third of their
    time, and most of it where other programs want the cores too.

    `precise`: single precision; else what OpenVINO takes for this processor, bf16 where it has instructions for it."""

    def __init__(self, file: Path, *, pictures_are_bytes: bool, precise: bool, threads: int | None) -> None:
        import openvino
        import torch
        from openvino.preprocess import PrePostProcessor

        self._torch = torch
        core = openvino.Core()
        model = core.read_model(str(file))
        if pictures_are_bytes:
            # Bytes to floats inside the network: a quarter of the memory is moved.
            before = PrePostProcessor(model)
            given = before.input()
            given.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
            given.model().set_layout(openvino.Layout("NCHW"))
            given.preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
            model = before.build()
        options: dict[str, Any] = {}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        if precise:
            options["INFERENCE_PRECISION_HINT"] = "f32"
        self._one = core.compile_model(model, "CPU", options | {"PERFORMANCE_HINT": "LATENCY"})
        precision = self._one.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.name = f"openvino {precision}"
        several = core.compile_model(model, "CPU", options | {"PERFORMANCE_HINT": "THROUGHPUT"})
        self._streams = int(several.get_property("NUM_STREAMS"))
        self._queue = openvino.AsyncInferQueue(several, self._streams) if self._streams > 1 else None
        if self._queue is not None:
            self._queue.set_callback(_keep)

    @property
    def batch(self) -> int:
        return max(_BATCH, self._streams)

    def forward(self, pictures: np.ndarray) -> list[Any]:
        if len(pictures) == 1 or self._queue is None:
            found = [self._one(pictures[index : index + 1]).values() for index in range(len(pictures))]
        else:
            found = [()] * len(pictures)
            for index in range(len(pictures)):
                self._queue.start_async([pictures[index : index + 1]], userdata=(found, index))
            self._queue.wait_all()  # raises what a picture raised
        return [[self._torch.from_numpy(part) for part in parts] for parts in found]


def _keep(request: Any, place: tuple[list[Any], int]) -> None:
    """Copied: the request's own memory is the next picture's."""
    found, index = place
    found[index] = [part.data.copy() for part in request.output_tensors]
