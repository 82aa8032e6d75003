"""`python -m ml_backend.engines.convert KIND WEIGHTS FOLDER`: a .pt file as another engine's, in a process of its own.

Of its own, because converting takes seconds of Python and hundreds of MiB that a server could never give back. The
environment of ml_backend.yolo.keep_ultralytics_to_itself is inherited: nothing is fetched, nothing installed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

FILES = {"openvino": ("model.xml", "model.bin"), "onnx": ("model.onnx",), "tensorrt": ("model.engine",)}
"""What each kind of engine consists of."""
_OPTIONS: dict[str, dict[str, Any]] = {
    "openvino": {"format": "openvino"},
    "onnx": {"format": "onnx", "simplify": False},
    "tensorrt": {"format": "engine", "half": True, "batch": 16, "simplify": False, "device": 0},
}


def convert(kind: str, weights: Path, folder: Path) -> None:
    """Write the FILES of a kind into a folder that is there. Raises whatever ultralytics raises."""
    # openvino's converter would report its use over the network if it found this package.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name) / "model.pt"  # ultralytics writes beside the weights
        shutil.copyfile(weights, work)
        model = YOLO(str(work))
        size = model.overrides.get("imgsz")
        options = _OPTIONS[kind] | ({"imgsz": size} if size else {})
        model.export(dynamic=True, verbose=False, **options)
        for wanted in FILES[kind]:
            [found] = Path(name).rglob(wanted)
            found.replace(folder / wanted)


def main(arguments: list[str]) -> int:
    kind, weights, folder = arguments
    os.nice(5)  # predictions go on meanwhile
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    convert(kind, Path(weights), Path(folder))
    return 0


def _end_with(parent: int) -> None:
    """A conversion that nobody waits for any more ends."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
