"""The demo model converted to OpenVINO in earnest: it sees what torch sees, and other machines need not convert."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

from bridge.shapes import PixelBox
from bridge.store import MemoryStore
from demo.pictures import draw_picture
from ml_backend.detectors import Found, Look
from ml_backend.engines.converted import MANIFEST, Converted
from ml_backend.engines.options import EngineOptions
from ml_backend.metrics import Metrics
from ml_backend.yolo import YoloDetector, keep_ultralytics_to_itself

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore"),
]  # torch's and ultralytics' own warnings
MODEL = Path(__file__).parents[2] / "models" / "demo-shapes.pt"
SIZES = ((640, 480), (480, 640), (400, 400), (640, 480), (1280, 960), (640, 480))
PICTURES = [draw_picture(41_000_000 + number, size).image for number, size in enumerate(SIZES)]
_CONVERSION_S = 300.0


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ: dict[str, str] = {}
    keep_ultralytics_to_itself(environ, tmp_path / "ultralytics")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def look(detector: YoloDetector) -> list[Found]:
    return detector.predict(PICTURES, look=Look(conf=0.5))


def detector_of(converted: Converted) -> YoloDetector:
    options = EngineOptions(setting="openvino", tolerance_px=1.0, threads=None, converted=converted)
    return YoloDetector(MODEL, engines=options)


def settled(detector: YoloDetector) -> str:
    deadline = time.monotonic() + _CONVERSION_S
    while detector.engine_status()["state"] != "settled":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return str(detector.engine_status()["name"])


def edges(box: PixelBox) -> tuple[float, ...]:
    return box.x0, box.y0, box.x1, box.y1


def test_openvino_takes_over_without_a_gap_and_sees_what_torch_sees(tmp_path: Path) -> None:
    store = MemoryStore()
    detector = detector_of(Converted(tmp_path / "here", store=lambda: store))
    by_torch = look(detector)  # served while the weights are being converted
    assert {found.timing.engine for found in by_torch if found.timing} == {"torch"}

    going_on, gaps = True, list[Exception]()

    def ask() -> None:
        while going_on:
            try:
                look(detector)
            except Exception as error:
                gaps.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    name = settled(detector)
    going_on = False
    asking.join()
    assert not gaps
    assert name.startswith("openvino"), detector.engine_status()
    assert detector.engine_status()["difference"]["px"] < 1

    by_openvino = look(detector)
    assert {found.timing.engine for found in by_openvino if found.timing} == {name}
    assert sum(len(found.boxes) for found in by_torch) > len(PICTURES)
    for picture, ours, theirs in zip(PICTURES, by_openvino, by_torch, strict=True):
        pixel = max(picture.size) / 256  # of what the network sees, in pixels of the picture
        assert [box.name for box in ours.boxes] == [box.name for box in theirs.boxes]
        for a, b in zip(ours.boxes, theirs.boxes, strict=True):
            assert max(abs(x - y) for x, y in zip(edges(a.box), edges(b.box), strict=True)) < pixel
            assert a.score == pytest.approx(b.score, abs=0.02)

    assert any(info.key.endswith(MANIFEST) for info in store.keys("models/engines/"))

    def never(kind: str, weights: Path, folder: Path) -> None:
        raise AssertionError("the bucket has it")

    elsewhere = detector_of(Converted(tmp_path / "there", store=lambda: store, convert=never))
    assert settled(elsewhere) == name
    assert look(elsewhere) == by_openvino


_TINY_RT_DETR = """nc: 2
scales: {l: [1.0, 1.0, 1024]}
backbone:
  - [-1, 1, HGStem, [8, 16]]
  - [-1, 1, HGBlock, [8, 32, 3]]
  - [-1, 1, DWConv, [32, 3, 2, 1, False]]
  - [-1, 1, HGBlock, [16, 32, 3]]
  - [-1, 1, DWConv, [32, 3, 2, 1, False]]
  - [-1, 1, HGBlock, [16, 32, 3]]
head:
  - [[1, 3, 5], 1, RTDETRDecoder, [nc, 32, 20, 4, 8, 1]]
"""


def test_a_network_that_no_other_engine_serves_stays_with_torch_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from ultralytics import RTDETR

    shape = tmp_path / "tiny-rtdetr.yaml"
    shape.write_text(_TINY_RT_DETR)
    RTDETR(str(shape)).save(tmp_path / "detr.pt")

    def never(kind: str, weights: Path, folder: Path) -> None:
        raise AssertionError("it cannot be converted")

    metrics = Metrics()
    converted = Converted(tmp_path / "engines", convert=never)
    options = EngineOptions(setting="openvino", tolerance_px=1.0, threads=None, converted=converted)
    detector = YoloDetector(tmp_path / "detr.pt", engines=options, timings=metrics)
    status = detector.engine_status()
    assert (status["name"], status["state"], status["why"]) == ("torch", "settled", "unsupported")
    assert "RT-DETR" in status["note"]
    assert len(look(detector)) == len(PICTURES)
    assert sum("stays with torch" in record.message for record in caplog.records) == 1
    figures = metrics.text().decode()
    assert re.search(
        r'ml_backend_engine_in_use\{engine="torch",model="detr\.\w{8}",why="unsupported"\} 1', figures
    )
    detector.forgotten()
    assert 'why="unsupported"} 0' in metrics.text().decode()
