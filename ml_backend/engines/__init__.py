"""What computes a network: torch, or the same network converted for this machine. An engine gives raw outputs only;
what goes in and what is read from the outputs is the same for all of them (ml_backend/yolo.py).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Engine(Protocol):
    """One network on one device. As many threads call it at a time as it has `lanes`."""

    @property
    def name(self) -> str:
        """What /health and the metrics call it, such as "torch" or "openvino bf16"."""

    @property
    def batch(self) -> int:
        """How many pictures at once pay."""

    @property
    def lanes(self) -> int:
        """How many calls at a time pay."""

    def forward(self, pictures: np.ndarray, *, alone: bool = False) -> list[Any]:
        """For each picture what ultralytics' network would give for it alone, as tensors of one picture each.

        `pictures`: uint8 RGB (n, height, width, 3); or, for classification, float32 (n, 3, height, width), normalised.
        `alone`: nothing else is wanted of it now, so the whole processor may work on one picture.
        """
