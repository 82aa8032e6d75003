"""The network converted to TensorRT, for one kind of GPU. Needs NVIDIA's `tensorrt` package, which we do not install."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

BATCH = 16  # what the conversion allows at most


class TensorRtEngine:
    """ultralytics' own reader of its `.engine` files does the work."""

    name, lanes = "tensorrt half", 1

    def __init__(self, file: Path, device: str) -> None:
        import torch
        from ultralytics.nn.autobackend import AutoBackend

        self._torch = torch
        self._device = torch.device(device)
        self._network = AutoBackend(model=str(file), device=self._device, fp16=True, verbose=False)

    @property
    def batch(self) -> int:
        return BATCH

    def forward(self, pictures: np.ndarray, *, alone: bool = False) -> list[Any]:
        torch = self._torch
        with torch.inference_mode():
            given = torch.from_numpy(pictures).to(self._device)
            if pictures.dtype == np.uint8:
                given = given.permute(0, 3, 1, 2).contiguous().float().div_(255)
            found = self._network(given.half() if self._network.fp16 else given)
            parts = found if isinstance(found, list | tuple) else [found]
            return [[part[index : index + 1].float() for part in parts] for index in range(len(pictures))]
