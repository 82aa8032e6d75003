"""`python -m benchmarks.bare WEIGHTS CACHE_DIR HEIGHT WIDTH`: images a second of the network alone, in full batches.

No HTTP, no picture read or reduced, nothing suppressed: what no backend on this machine can be quicker than. On a GPU the
network in torch, half precision; on a processor the one that the ML backend has converted into CACHE_DIR, else torch.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ml_backend.yolo import keep_ultralytics_to_itself

SECONDS = 5.0


def main(weights: Path, cache_dir: Path, shape: tuple[int, int]) -> None:
    import torch

    from ml_backend.engines import Engine
    from ml_backend.engines.openvino_engine import OpenVinoEngine
    from ml_backend.engines.torch_engine import TorchEngine
    from ml_backend.network import load_yolo

    engine: Engine
    converted = next(iter(cache_dir.rglob("model.xml")), None)
    if converted is None or torch.cuda.is_available():
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        engine = TorchEngine(load_yolo(weights).model, device, two_outputs=False)
    else:
        engine = OpenVinoEngine(converted, pictures_are_bytes=True, precise=False, threads=None)
    pictures = np.random.default_rng(0).integers(0, 255, (engine.batch, *shape, 3), dtype=np.uint8)

    def compute(_: int) -> float:
        """Images a second on one lane."""
        done, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < SECONDS:
            engine.forward(pictures)
            done += len(pictures)
        return done / took

    with ThreadPoolExecutor(engine.lanes) as pool:
        for _ in range(2):  # the first time it may still be compiled for this size
            images_s = sum(pool.map(compute, range(engine.lanes)))
    sys.stdout.write(json.dumps({"images_s": images_s, "engine": engine.name}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        keep_ultralytics_to_itself(os.environ, Path(name))
        main(Path(sys.argv[1]), Path(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4])))
