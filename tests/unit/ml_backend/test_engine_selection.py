"""Torch answers until another engine has given the same, and goes on answering when none does."""

from __future__ import annotations

import json
import math
import re
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
from ml_backend.engines.select import WHY, Selection
from ml_backend.metrics import Metrics
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

    batch, lanes = 4, 1

    def __init__(self, name: str, value: float, real: float | None = None) -> None:
        self.name, self._value, self._real = name, value, value if real is None else real

    def forward(self, pictures: np.ndarray, *, alone: bool = False) -> list[Any]:
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


def selection(
    tmp_path: Path, kinds: Kinds, *, setting: str = "auto", timings: Metrics | None = None
) -> Selection:
    return Selection(
        name="shapes",
        network=cast(Network, Numbers()),
        torch_engine=Fixed("torch", 10.0),
        device="cpu",
        computing=threading.Lock(),
        options=EngineOptions(setting=setting, tolerance_px=1.0, threads=None, converted=Converted(tmp_path)),
        opened=kinds,
        photos=lambda: [Image.fromarray(PICTURE)],
        timings=timings,
    )


def looked(
    tmp_path: Path, kinds: Kinds, *, setting: str = "auto", timings: Metrics | None = None
) -> Selection:
    found = selection(tmp_path, kinds, setting=setting, timings=timings)
    assert found.engine.name == "torch"
    assert found.status() == {"name": "torch", "state": "converting", "why": "converting"}
    found.look_for_better(Path("x.pt"), "digest")
    return found


def test_an_engine_that_gives_the_same_takes_over_and_its_difference_is_told(tmp_path: Path) -> None:
    found = looked(tmp_path, Kinds(openvino=[Fixed("openvino bf16", 10.5)]))
    assert found.engine.name == "openvino bf16"
    assert found.status() == {
        "name": "openvino bf16",
        "state": "settled",
        "why": "chosen",
        "difference": {"px": 0.5, "score": 0.0, "other": 0.0},
        "compared_pictures": 1,
    }


def test_the_next_is_tried_when_the_quickest_is_too_far_off(tmp_path: Path) -> None:
    found = looked(tmp_path, Kinds(openvino=[Fixed("openvino bf16", 12.0), Fixed("openvino f32", 10.0)]))
    assert found.engine.name == "openvino f32"
    assert "openvino bf16 differs from torch by 2 px" in found.status()["note"]


class WrongInBatches(Fixed):
    """Answers as it should when asked for one picture only."""

    def forward(self, pictures: np.ndarray, *, alone: bool = False) -> list[Any]:
        return [value + 5 * (len(pictures) > 1) for value in super().forward(pictures)]


def test_an_engine_that_is_wrong_in_batches_only_is_not_taken(tmp_path: Path) -> None:
    found = looked(
        tmp_path, Kinds(openvino=[WrongInBatches("openvino bf16", 10.0), Fixed("openvino f32", 10.0)])
    )
    assert found.engine.name == "openvino f32"


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
    assert found.status()["why"] == "fell_back"


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
    checked()
    assert found.engine.name == "torch"
    assert found.status()["difference"]["px"] == 3.0
    assert "openvino bf16 differs by 3 px" in found.status()["note"]


# --- what Prometheus is told


def checked() -> None:
    """The comparison on pictures of requests is over."""
    for thread in threading.enumerate():
        if thread.name == "engine-check":
            thread.join(20)


def in_use(metrics: Metrics) -> list[str]:
    """`engine why` of every model with one in use."""
    lines = re.findall(
        r'^ml_backend_engine_in_use\{engine="([^"]*)",model="shapes",why="([^"]*)"\} 1\.0$',
        metrics.text().decode(),
        re.MULTILINE,
    )
    assert all(why in WHY for _, why in lines)
    return [f"{engine} {why}" for engine, why in lines]


def difference(metrics: Metrics, engine: str, of: str = "px") -> float:
    line = f'ml_backend_engine_difference{{engine="{engine}",model="shapes",of="{of}"}} '
    [found] = [one for one in metrics.text().decode().splitlines() if one.startswith(line)]
    return float(found.removeprefix(line))


def test_the_engine_in_use_and_its_largest_difference_are_figures(tmp_path: Path) -> None:
    metrics = Metrics()
    found = selection(tmp_path, Kinds(openvino=[Fixed("openvino bf16", 10.25, real=9.5)]), timings=metrics)
    assert in_use(metrics) == ["torch converting"]
    found.look_for_better(Path("x.pt"), "digest")
    assert in_use(metrics) == ["openvino bf16 chosen"]
    assert (difference(metrics, "openvino bf16"), difference(metrics, "openvino bf16", "score")) == (
        0.25,
        0.0,
    )
    for _ in range(4):
        found.saw(REAL)
    checked()
    assert difference(metrics, "openvino bf16") == 0.5
    assert in_use(metrics) == ["openvino bf16 chosen"]
    metrics.forgotten("shapes")
    assert in_use(metrics) == []


def test_an_engine_that_was_too_far_off_shows_how_far_and_that_torch_stayed(tmp_path: Path) -> None:
    metrics = Metrics()
    kinds = Kinds(openvino=[Fixed("openvino f32", float("nan"))], onnx=[Fixed("onnx", 14.0)])
    looked(tmp_path, kinds, timings=metrics)
    assert in_use(metrics) == ["torch fell_back"]
    assert difference(metrics, "onnx") == 4.0
    assert math.isnan(difference(metrics, "openvino f32"))


def test_falling_back_later_is_a_figure_too_and_health_stays_json(tmp_path: Path) -> None:
    metrics = Metrics()
    found = looked(
        tmp_path, Kinds(openvino=[Fixed("openvino bf16", 10.0, real=float("nan"))]), timings=metrics
    )
    for _ in range(4):
        found.saw(REAL)
    checked()
    assert in_use(metrics) == ["torch fell_back"]
    assert math.isnan(difference(metrics, "openvino bf16"))
    assert json.loads(json.dumps(found.status(), allow_nan=False))["difference"]["px"] is None
