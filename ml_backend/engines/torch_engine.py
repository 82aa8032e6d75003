"""The network as ultralytics has it, in torch: half precision on a GPU, single on a processor."""

from __future__ import annotations

from typing import Any

import numpy as np

_ON_CPU, _ON_GPU = 8, 32


class TorchEngine:
    """`network` is a YOLO's `.model`; it is changed: fused, moved to the device, in evaluation mode.
    `two_outputs`: segmentation's masks come beside the boxes."""

    lanes = 1

    def __init__(self, network: Any, device: str, *, two_outputs: bool) -> None:
        import torch

        self._torch = torch
        self._device = torch.device(device)
        self._two = two_outputs
        self._half = self._device.type == "cuda"
        network = network.fuse(verbose=False).to(self._device).eval()
        self._network = network.half() if self._half else network.float()
        for weights in self._network.parameters():
            weights.requires_grad = False

    @property
    def name(self) -> str:
        return "torch half" if self._half else "torch"

    @property
    def batch(self) -> int:
        return _ON_CPU if self._device.type == "cpu" else _ON_GPU

    def forward(self, pictures: np.ndarray, *, alone: bool = False) -> list[Any]:
        torch = self._torch
        with torch.inference_mode():
            given = torch.from_numpy(pictures).to(self._device)
            if pictures.dtype == np.uint8:
                given = given.permute(0, 3, 1, 2).contiguous()
            # Divided in single precision: halves of 1/255 would round.
            given = given.float().div_(255) if pictures.dtype == np.uint8 else given
            found = _outputs(self._network(given.half() if self._half else given), self._two)
            return [[part[index : index + 1] for part in found] for index in range(len(pictures))]

    def look_for(self, most: int) -> None:
        """A network that suppresses by itself gives this many boxes."""
        if getattr(self._network, "end2end", False):
            self._network.set_head_attr(max_det=most)


def _outputs(found: Any, two: bool) -> list[Any]:
    """As converted networks give them: without what only training needs, in single precision."""
    while isinstance(found, list | tuple) and isinstance(found[0], list | tuple):
        found = found[0]
    parts = found if isinstance(found, list | tuple) else [found]
    return [part.float() for part in parts[: 2 if two else 1]]
