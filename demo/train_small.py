"""Train a small model for one kind of task on plain pictures: `python -m demo.train_small segment`.

Such models let the tests of masks, oriented boxes, key points and whole-picture classes run on real weights. A few
minutes on one processor core; nothing pretrained, nothing downloaded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from demo.plain_pictures import POINTS, SHAPES, Shape, draw_plain
from demo.train_model import _stay_offline

SIDE = 96  # of the pictures, px
NAMES = {
    "segment": ("disc", "bar"),
    "obb": ("bar",),
    "pose": ("arrow",),
    "classify": tuple(sorted(SHAPES)),  # ultralytics numbers folders by name
}
_SUFFIX = {"segment": "seg", "obb": "obb", "pose": "pose", "classify": "cls"}
_SCALE = [0.34, 0.125, 512]
_HELD_OUT = 10_000_000


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.train_small", description=__doc__)
    parser.add_argument("task", choices=sorted(NAMES))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.006)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    out = options.out or Path(f"models/demo-{_SUFFIX[options.task]}.pt")
    with tempfile.TemporaryDirectory(prefix="demo-model-") as folder:
        _stay_offline(Path(folder) / "config")
        weights = train(options, Path(folder))
        save_small(weights, options.task, out)
    print(f"wrote {out} ({out.stat().st_size / 1e6:.2f} MB)")
    return 0


def train(options: argparse.Namespace, folder: Path) -> Path:
    """Draw the pictures and train; everything lies inside `folder`."""
    import torch
    import yaml
    from ultralytics import YOLO
    from ultralytics.utils import ROOT

    torch.set_num_threads(options.threads)
    names = NAMES[options.task]
    for part, first, count in (("train", 0, options.images), ("val", _HELD_OUT, 32)):
        for index in range(count):
            _write(options.task, first + index, folder / "data", part)
    suffix = _SUFFIX[options.task]
    network = yaml.safe_load((ROOT / "cfg" / "models" / "11" / f"yolo11-{suffix}.yaml").read_text())
    network |= {"nc": len(names), "scales": {"n": _SCALE}}
    data: dict[str, Any] = {
        "path": str(folder / "data"), "train": "images/train", "val": "images/val", "names": dict(enumerate(names)),
    }  # fmt: skip
    if options.task == "pose":
        network["kpt_shape"] = [len(POINTS), 3]
        data |= {"kpt_shape": [len(POINTS), 3], "flip_idx": [0, 2, 1], "kpt_names": {0: list(POINTS)}}
    (folder / f"yolo11n-{suffix}.yaml").write_text(yaml.safe_dump(network))
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    YOLO(str(folder / f"yolo11n-{suffix}.yaml")).train(
        data=str(folder / "data" if options.task == "classify" else folder / "data.yaml"),
        imgsz=SIDE, epochs=options.epochs, batch=options.batch, seed=1, deterministic=True, device="cpu", workers=0,
        cache="ram", amp=False, plots=False, val=False, optimizer="AdamW", lr0=options.lr, lrf=0.02, cos_lr=True,
        warmup_epochs=1, mosaic=0.0, scale=0.1, translate=0.05, erasing=0.0, auto_augment=None, overlap_mask=False,
        mask_ratio=2,
        project=str(folder / "runs"), name="small", exist_ok=True,
    )  # fmt: skip
    return folder / "runs" / "small" / "weights" / "last.pt"


def save_small(weights: Path, task: str, out: Path) -> None:
    """Write the network alone, in half precision, without the paths of the machine that trained it."""
    import torch

    checkpoint: dict[str, Any] = torch.load(weights, map_location="cpu", weights_only=False)
    network = (checkpoint.get("ema") or checkpoint["model"]).half()
    for parameter in network.parameters():
        parameter.requires_grad = False
    network.names = dict(enumerate(NAMES[task]))
    network.yaml["yaml_file"] = f"yolo11n-{_SUFFIX[task]}.yaml"
    network.args = {"imgsz": SIDE, "task": task}
    for left in ("criterion", "pt_path", "transforms"):
        if hasattr(network, left):
            delattr(network, left)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".part")
    torch.save(
        {
            "model": network,
            "train_args": {"imgsz": SIDE, "task": task},
            "version": checkpoint["version"],
            "license": "AGPL-3.0, as the network is made of ultralytics' classes",
        },
        partial,
    )
    partial.replace(out)


def _write(task: str, seed: int, folder: Path, part: str) -> None:
    if task == "classify":
        picture = draw_plain(seed, SIDE, most=1)
        place = folder / part / picture.shapes[0].name
        place.mkdir(parents=True, exist_ok=True)
        picture.image.save(place / f"{seed}.png")
        return
    picture = draw_plain(seed, SIDE, names=NAMES[task])
    images, labels = folder / "images" / part, folder / "labels" / part
    for place in (images, labels):
        place.mkdir(parents=True, exist_ok=True)
    picture.image.save(images / f"{seed}.png")
    lines = [_line(task, shape) for shape in picture.shapes]
    (labels / f"{seed}.txt").write_text("\n".join(lines))


def _line(task: str, shape: Shape) -> str:
    """A line of ultralytics' label files: class, then fractions of the picture's side."""
    kind = NAMES[task].index(shape.name)
    corners = [(x / SIDE, y / SIDE) for x, y in shape.outline]
    if task in ("segment", "obb"):
        return " ".join([str(kind), *(f"{value:.5f}" for corner in corners for value in corner)])
    x0, y0, x1, y1 = (value / SIDE for value in shape.box)
    box = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
    points = [f"{x:.5f} {y:.5f} 2" for x, y in corners]
    return " ".join([str(kind), *(f"{value:.5f}" for value in box), *points])


if __name__ == "__main__":
    sys.exit(main())
