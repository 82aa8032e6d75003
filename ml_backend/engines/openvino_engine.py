"""The network converted to OpenVINO, on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_BATCH = 4  # on a few cores a larger one is hardly quicker, and whoever comes next waits for its end


class OpenVinoEngine:
    """`precise`: single precision; else what OpenVINO takes for this processor, bf16 where it has instructions for it."""

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
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        if precise:
            options["INFERENCE_PRECISION_HINT"] = "f32"
        self._compiled = core.compile_model(model, "CPU", options)
        precision = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.name = f"openvino {precision}"

    @property
    def batch(self) -> int:
        return _BATCH

    def forward(self, pictures: np.ndarray) -> list[Any]:
        found = [self._torch.from_numpy(part) for part in self._compiled(pictures).values()]
        return [[part[index : index + 1] for part in found] for index in range(len(pictures))]
