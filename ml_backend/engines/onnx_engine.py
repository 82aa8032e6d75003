"""The network converted to ONNX, computed by ONNX Runtime on the processor: where OpenVINO cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_BATCH = 4


class OnnxEngine:
    name, lanes = "onnx", 1

    def __init__(self, file: Path, *, threads: int | None) -> None:
        import onnxruntime
        import torch

        self._torch = torch
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    @property
    def batch(self) -> int:
        return _BATCH

    def forward(self, pictures: np.ndarray, *, alone: bool = False) -> list[Any]:
        if pictures.dtype == np.uint8:
            pictures = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32)
            pictures /= 255
        found = [self._torch.from_numpy(part) for part in self._session.run(None, {self._input: pictures})]
        return [[part[index : index + 1] for part in found] for index in range(len(pictures))]
