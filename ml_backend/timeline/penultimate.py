"""The input of a classification network's last layer, computed by torch. The rim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import Corrupt


class Penultimate:
    """One network on one device; one thread at a time. `path`: the weights. Raises Corrupt when it classifies nothing."""

    def __init__(self, path: Path, device: str) -> None:
        import torch

        from ml_backend.network import load_yolo

        network = load_yolo(path).model.float().to(device).eval()
        last = getattr(network.model[-1], "linear", None)
        if last is None:
            raise Corrupt(
                f"{path.name} has no last layer to read", hint="timelines learn from a model that classifies"
            )
        self._device = torch.device(device)
        self._network = network
        self._seen: Any = None
        last.register_forward_pre_hook(self._take)

    def of(self, pictures: np.ndarray) -> np.ndarray:
        """float32 (n, features) of prepared pictures (n, 3, height, width)."""
        import torch

        with torch.inference_mode():
            self._network(torch.from_numpy(pictures).to(self._device).float())
            found: np.ndarray = self._seen.float().cpu().numpy()
        self._seen = None
        return found

    def _take(self, layer: Any, given: tuple[Any, ...]) -> None:
        self._seen = given[0]
