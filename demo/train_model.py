"""Train the demo model on drawn shapes: `python -m demo.train_model` (or `make demo-model`).

A YOLO11 network of about a million parameters, trained from nothing on pictures of `demo.pictures`, on the
CPU, without a network: no weights, fonts or settings are fetched, and nothing is written but the output file.
The same seed, options and library versions give the same weights on the same kind of processor.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.shapes import PixelBox, iou
from demo.pictures import LABELS, BoxPx, Picture, draw_picture, shipped_photos

SCALE = [0.50, 0.1875, 512]  # depth, width and channel limit: 0.94 M parameters, about 2 MB in half precision
SIZES = ((640, 480), (480, 640), (640, 640), (640, 400))  # of the pictures drawn, px
HELD_OUT_SEED = 10_000_000  # pictures with seeds from here on are never trained on


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `--help` lists; `imgsz` is the longer side, in px, that pictures are reduced to."""

    out: Path
    seed: int
    images: int
    held_out: int
    epochs: int
    batch: int
    imgsz: int
    threads: int


def main(argv: list[str] | None = None) -> int:
    options = _options(argv)
    with tempfile.TemporaryDirectory(prefix="demo-model-") as folder:
        _stay_offline(Path(folder) / "config")
        weights = train(options, Path(folder))
        figures = evaluate(weights, options, Path(folder))
        save_small(weights, options, figures)
    for name, value in figures.items():
        print(f"{name}: {value}")
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.2f} MB)")
    return 0


def train(options: Options, folder: Path) -> Path:
    """Draw the pictures, train, and give the best epoch's checkpoint; everything lies inside `folder`."""
    import torch
    import yaml
    from ultralytics import YOLO
    from ultralytics.utils import ROOT

    torch.set_num_threads(options.threads)
    photos = shipped_photos()
    for part, first_seed, count in (
        ("train", options.seed * 1_000_000, options.images),
        ("val", HELD_OUT_SEED, options.held_out),
    ):
        for index in range(count):
            size = SIZES[index % len(SIZES)]
            _write_example(
                draw_picture(first_seed + index, size, photos=photos), folder / "data", part, index
            )
    data = {
        "path": str(folder / "data"),
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(LABELS)),
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    network = yaml.safe_load((ROOT / "cfg" / "models" / "11" / "yolo11.yaml").read_text())
    network |= {"nc": len(LABELS), "scales": {"n": SCALE}}
    (folder / "yolo11n-shapes.yaml").write_text(yaml.safe_dump(network))
    YOLO(str(folder / "yolo11n-shapes.yaml")).train(
        data=str(folder / "data.yaml"),
        imgsz=options.imgsz,
        epochs=options.epochs,
        batch=options.batch,
        seed=options.seed,
        deterministic=True,
        device="cpu",
        workers=0,
        cache="ram",
        amp=False,  # its self-test would fetch weights
        plots=False,
        optimizer="AdamW",
        lr0=0.003,
        lrf=0.02,
        cos_lr=True,
        warmup_epochs=2,
        close_mosaic=max(1, options.epochs // 3),
        flipud=0.5,
        project=str(folder / "runs"),
        name="shapes",
        exist_ok=True,
    )
    return folder / "runs" / "shapes" / "weights" / "best.pt"


def evaluate(weights: Path, options: Options, folder: Path) -> dict[str, float]:
    """mAP on held-out pictures, and how many shapes of 640x480 ones are found at score 0.5 with IoU over 0.8."""
    from ultralytics import YOLO

    model = YOLO(str(weights))
    metrics = model.val(
        data=str(folder / "data.yaml"), imgsz=options.imgsz, device="cpu", workers=0, plots=False, verbose=False,
        project=str(folder / "runs"), name="val",
    )  # fmt: skip
    drawn = found = extra = 0
    photos = shipped_photos()
    for index in range(100):
        picture = draw_picture(HELD_OUT_SEED + 500_000 + index, (640, 480), photos=photos)
        boxes = model.predict(picture.image, imgsz=options.imgsz, conf=0.5, device="cpu", verbose=False)[
            0
        ].boxes
        seen = [
            (model.names[int(kind)], tuple(box))
            for kind, box in zip(boxes.cls, boxes.xyxy.tolist(), strict=True)
        ]
        hits = [
            any(label == name and _overlap(box, at) > 0.8 for name, at in seen)
            for label, box in picture.boxes
        ]
        drawn, found, extra = drawn + len(hits), found + sum(hits), extra + max(0, len(seen) - sum(hits))
    return {
        "mAP50": round(float(metrics.box.map50), 3),
        "mAP50-95": round(float(metrics.box.map), 3),
        "found at IoU > 0.8 and score >= 0.5": round(found / drawn, 3),
        "wrong or doubled boxes per shape": round(extra / drawn, 3),
    }


def save_small(weights: Path, options: Options, figures: dict[str, float]) -> None:
    """Write the network alone, in half precision, without the paths of the machine that trained it."""
    import torch

    checkpoint: dict[str, Any] = torch.load(weights, map_location="cpu", weights_only=False)
    network = (checkpoint.get("ema") or checkpoint["model"]).half()
    for parameter in network.parameters():
        parameter.requires_grad = False
    network.names = dict(enumerate(LABELS))
    network.yaml["yaml_file"] = "yolo11n-shapes.yaml"
    network.args = {"imgsz": options.imgsz, "task": "detect"}
    for criterion in ("criterion", "pt_path"):
        if hasattr(network, criterion):
            delattr(network, criterion)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    partial = options.out.with_suffix(".part")
    torch.save(
        {
            "model": network,
            "train_args": {
                "imgsz": options.imgsz,
                "task": "detect",
                "seed": options.seed,
                "epochs": options.epochs,
            },
            "figures": figures,
            "version": checkpoint["version"],
            "license": "AGPL-3.0, as the network is made of ultralytics' classes",
        },
        partial,
    )
    partial.replace(options.out)


def _overlap(a: BoxPx, b: Sequence[float]) -> float:
    first, second = (PixelBox(x0=box[0], y0=box[1], x1=box[2], y1=box[3]) for box in (a, b))
    return iou(first, second)


def _write_example(picture: Picture, folder: Path, part: str, index: int) -> None:
    images, labels = folder / "images" / part, folder / "labels" / part
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    picture.image.save(images / f"{index:05}.jpg", quality=88)
    width, height = picture.image.size
    lines = [
        f"{LABELS.index(label)} {(x0 + x1) / 2 / width:.6f} {(y0 + y1) / 2 / height:.6f}"
        f" {(x1 - x0) / width:.6f} {(y1 - y0) / height:.6f}"
        for label, (x0, y0, x1, y1) in picture.boxes
    ]
    (labels / f"{index:05}.txt").write_text("\n".join(lines))


def _stay_offline(config: Path) -> None:
    """Keep ultralytics from the network and from the home folder; must run before its first import.

    Read from ultralytics 8.4.190: it looks for a font (data/utils.py) and fetches it unless one of that name
    lies in its settings folder; YOLO_OFFLINE stops version checks, usage events and automatic installs.
    """
    os.environ |= {"YOLO_CONFIG_DIR": str(config), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    os.environ |= {"MPLCONFIGDIR": str(config / "matplotlib")}
    import matplotlib

    (config / "Ultralytics").mkdir(parents=True, exist_ok=True)
    shutil.copy(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf",
        config / "Ultralytics" / "Arial.ttf",
    )


def _options(argv: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m demo.train_model", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("models/demo-shapes.pt"), help="file to write")
    parser.add_argument(
        "--seed", type=int, default=1, help="from 1 to 9; another seed, other pictures and weights"
    )
    parser.add_argument("--images", type=int, default=700, help="pictures to train on")
    parser.add_argument("--held-out", type=int, default=150, help="pictures to measure mAP on")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--imgsz", type=int, default=256, help="longer side of the pictures in training, in px"
    )
    parser.add_argument("--threads", type=int, default=2, help="processor threads of torch")
    values = parser.parse_args(argv)
    if not 1 <= values.seed <= 9:
        parser.error("--seed: from 1 to 9, so that training pictures never meet the held-out ones")
    return Options(**vars(values))


if __name__ == "__main__":
    sys.exit(main())
