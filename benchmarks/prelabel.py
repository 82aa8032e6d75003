"""Images a second: the ML backend's batches beside ultralytics asked for one file at a time, same weights, same threads."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks.row import Row, more_is_better
from demo.pictures import draw_picture
from ml_backend.detectors import Look
from ml_backend.yolo import YoloDetector, keep_ultralytics_to_itself

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "models" / "demo-shapes.pt"
PICTURES = 64
ROUNDS = 3


def measure() -> list[Row]:
    """Images a second, the best of three rounds each, taken in turn; reading and decoding the files included."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        keep_ultralytics_to_itself(os.environ, Path(folder))
        from ultralytics import YOLO

        files = [Path(folder) / f"{number}.jpg" for number in range(PICTURES)]
        for number, file in enumerate(files):
            draw_picture(number).image.save(file, "JPEG", quality=90)
        detector, plain = YoloDetector(WEIGHTS), YOLO(str(WEIGHTS))
        plain.predict(str(files[0]), verbose=False, imgsz=256)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            detector.predict([Image.open(file).convert("RGB") for file in files], look=Look(conf=0.5))
            ours.append(PICTURES / (time.perf_counter() - began))
            began = time.perf_counter()
            for file in files:
                plain.predict(str(file), conf=0.5, imgsz=256, verbose=False)
            theirs.append(PICTURES / (time.perf_counter() - began))
    other_is = "ultralytics' predict, one file at a time"
    return [more_is_better("images pre-labelled", "a second", max(ours), max(theirs), other_is)]
