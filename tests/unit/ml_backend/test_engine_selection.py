"""Torch answers until another engine has given the same, and goes on answering when none does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from bridge.errors import Corrupt
from ml_backend.engines import Engine
from ml_backend.engines.compare import Difference
from ml_backend.engines.converted import Converted
from ml_backend.engines.options import EngineOptions
from ml_backend.engines.select import Selection
from ml_backend.network import Network

PICTURE = np.zeros((4, 4, 3), np.uint8)
REAL = np.full((4, 4, 3), 200, np.uint8)


class Numbers:
    """A network whose whole answer is a number: the difference is how far apart two are, in px."""

    pictures_are_bytes = True

    def prepare(self, picture: Image.Image, imgsz: int | None) -> np.ndarray:
        return np.asarray(picture)

    def difference(self, ours: Any, theirs: Any) -> Difference:
        return Difference(px=abs(ours - theirs))


class Fixed:
    """Answers `value`, and `real` for the pictures of requests."""

    batch = 4

    def __init__(self, name: str, value: float, real: float | None = None) -> None:
        self.name, self._value, self._real = name, value, value if real is None else real

    def forward(self, pictures: np.ndarray) -> list[Any]:
        return [self._real if picture[0, 0, 0] == 200 else self._value for picture in pictures]


class Kinds:
    """Which engines each kind of conversion gives."""

    def __init__(self, **kinds: list[Engine] | Exception) -> None:
        self._kinds = kinds

    def __call__(self, kind: str, weights: Path, digest: str) -> Iterator[Engine]:
        found = self._kinds[kind]
        if isinstance(found, Exception):
            raise found
        yield from found


def selection(tmp_path: Path, kinds: Kinds, *, setting: str = "auto") -> Selection:
    return Selection(
        name="shapes",
        network=cast(Network, Numbers()),
        torch_engine=Fixed("torch", 10.0),
        device="cpu",
        computing=threading.Lock(),
        options=EngineOptions(setting=setting, tolerance_px=1.0, threads=None, converted=Converted(tmp_path)),
        opened=kinds,
        photos=lambda: [Image.fromarray(PICTURE)],
    )


def looked(tmp_path: Path, kinds: Kinds, *, setting: str = "auto") -> Selection:
    found = selection(tmp_path, kinds, setting=setting)
    assert found.engine.name == "torch"
    assert found.status() == {"name": "torch", "state": "converting"}
    found.look_for_better(Path("x.pt"), "digest")
    return found


def test_an_engine_that_gives_the_same_takes_over_and_its_difference_is_told(tmp_path: Path) -> None:
    found = looked(tmp_path, Kinds(openvino=[Fixed("openvino bf16", 10.5)]))
    assert found.engine.name == "openvino bf16"
    assert found.status() == {
        "name": "openvino bf16",
        "state": "settled",
        "difference": {"px": 0.5, "score": 0.0, "other": 0.0},
        "compared_pictures": 1,
    }


def test_the_next_is_tried_when_the_quickest_is_too_far_off(tmp_path: Path) -> None:
    found = looked(tmp_path, Kinds(openvino=[Fixed("openvino bf16", 12.0), Fixed("openvino f32", 10.0)]))
    assert found.engine.name == "openvino f32"
    assert "openvino bf16 differs from torch by 2 px" in found.status()["note"]


def test_onnx_serves_where_openvino_cannot(tmp_path: Path) -> None:
    found = looked(tmp_path, Kinds(openvino=Corrupt("no such instruction"), onnx=[Fixed("onnx", 10.0)]))
    assert found.engine.name == "onnx"
    assert "openvino: no such instruction" in found.status()["note"]


def test_torch_stays_when_nothing_gives_the_same_and_says_why(tmp_path: Path) -> None:
    kinds = Kinds(openvino=[Fixed("openvino f32", float("nan"))], onnx=RuntimeError("broken"))
    found = looked(tmp_path, kinds)
    status = found.status()
    assert (status["name"], status["state"]) == ("torch", "settled")
    assert "ENGINE_TOLERANCE_PX" in status["note"]
    assert "onnx: broken" in status["note"]


def test_an_engine_that_does_not_run_here_is_named(tmp_path: Path) -> None:
    found = looked(tmp_path, Kinds(), setting="tensorrt")
    assert found.status()["note"] == "tensorrt does not run on cpu"


def test_pictures_of_requests_count_when_there_were_some(tmp_path: Path) -> None:
    found = selection(tmp_path, Kinds(openvino=[Fixed("openvino bf16", 10.0, real=13.0)], onnx=[]))
    for _ in range(4):
        found.saw(REAL)
    found.look_for_better(Path("x.pt"), "digest")
    assert found.engine.name == "torch"


def test_an_engine_that_fails_on_the_first_real_pictures_gives_way_to_torch(tmp_path: Path) -> None:
    found = looked(tmp_path, Kinds(openvino=[Fixed("openvino bf16", 10.0, real=13.0)]))
    assert found.engine.name == "openvino bf16"
    for _ in range(4):
        found.saw(REAL)
    for thread in threading.enumerate():
        if thread.name == "engine-check":
            thread.join(20)
    assert found.engine.name == "torch"
    assert found.status()["difference"]["px"] == 3.0
    assert "openvino bf16 differs by 3 px" in found.status()["note"]
