"""The demo model itself, with torch: it finds what is drawn, where it is drawn."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from bridge.errors import Corrupt
from bridge.shapes import PixelBox, iou
from demo.pictures import LABELS, Picture, draw_picture
from ml_backend.detectors import Look
from ml_backend.yolo import YoloDetector, keep_ultralytics_to_itself

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore"),
]  # torch's and ultralytics' own warnings
MODEL = Path(__file__).parents[3] / "models" / "demo-shapes.pt"
SEEDS = range(40_000_000, 40_000_016)  # never trained on


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[YoloDetector]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quiet(tmp_path_factory.mktemp("ultralytics")).items():
            patch.setenv(name, value)
        yield YoloDetector(MODEL, threads=1)


def quiet(folder: Path) -> dict[str, str]:
    environ: dict[str, str] = {}
    keep_ultralytics_to_itself(environ, folder)
    return environ


def found_share(detector: YoloDetector, pictures: list[Picture]) -> float:
    seen = detector.predict([picture.image for picture in pictures], look=Look(conf=0.5))
    hits = [
        any(
            box.name == label and iou(box.box, PixelBox(x0=x0, y0=y0, x1=x1, y1=y1)) > 0.8
            for box in found.boxes
        )
        for picture, found in zip(pictures, seen, strict=True)
        for label, (x0, y0, x1, y1) in picture.boxes
    ]
    return sum(hits) / len(hits)


def test_it_finds_most_shapes_on_their_pixels(detector: YoloDetector) -> None:
    assert set(detector.class_names) == set(LABELS)
    assert found_share(detector, [draw_picture(seed, (640, 480)) for seed in SEEDS]) > 0.8


def test_other_sizes_and_shapes_of_picture_do_too(detector: YoloDetector) -> None:
    sizes = [(480, 640), (1280, 960), (400, 400)]
    assert found_share(detector, [draw_picture(seed, sizes[seed % 3]) for seed in SEEDS]) > 0.8


def test_a_picture_is_seen_the_same_alone_and_among_others(detector: YoloDetector) -> None:
    pictures = [
        draw_picture(SEEDS[0]).image,
        draw_picture(SEEDS[1], (480, 640)).image,
        draw_picture(SEEDS[2]).image,
    ]
    together = detector.predict(pictures, look=Look(conf=0.5))
    alone = [detector.predict([picture], look=Look(conf=0.5))[0] for picture in pictures]
    for one, other in zip(together, alone, strict=True):
        assert [box.name for box in one.boxes] == [box.name for box in other.boxes]
        for a, b in zip(one.boxes, other.boxes, strict=True):
            assert iou(a.box, b.box) > 0.99
            assert a.score == pytest.approx(b.score, abs=0.01)


def test_a_low_threshold_shows_more(detector: YoloDetector) -> None:
    """ultralytics' own default of 0.25 would hide what is below it."""
    picture = draw_picture(SEEDS[0]).image
    [few], [many] = (detector.predict([picture], look=Look(conf=level)) for level in (0.5, 0.001))
    assert len(many.boxes) > len(few.boxes)
    assert min(box.score for box in many.boxes) < 0.25


def test_many_threads_get_what_one_gets(detector: YoloDetector) -> None:
    pictures = [draw_picture(seed).image for seed in SEEDS[:4]]
    expected = [len(detector.predict([picture], look=Look(conf=0.5))[0].boxes) for picture in pictures]
    got: dict[int, int] = {}

    def look(index: int) -> None:
        got[index] = len(detector.predict([pictures[index]], look=Look(conf=0.5))[0].boxes)

    threads = [threading.Thread(target=look, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[index] for index in range(4)] == expected


def test_an_empty_picture_has_no_boxes(detector: YoloDetector) -> None:
    assert detector.predict([Image.new("RGB", (640, 480), "grey")], look=Look(conf=0.5))[0].boxes == ()
    assert detector.predict([], look=Look(conf=0.5)) == []


@pytest.mark.parametrize("size", [0, 10, 5_000, 100_000])
def test_a_cut_off_file_of_weights_is_named(size: int, tmp_path: Path, detector: YoloDetector) -> None:
    (tmp_path / "cut.pt").write_bytes(MODEL.read_bytes()[:size])
    with pytest.raises(Corrupt, match=r"cut\.pt cannot be read"):
        YoloDetector(tmp_path / "cut.pt")


def test_weights_cannot_run_code(tmp_path: Path, detector: YoloDetector) -> None:
    import torch

    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return os.mkdir, (str(tmp_path / "made by the weights"),)

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(Corrupt):
        YoloDetector(tmp_path / "evil.pt")
    assert not (tmp_path / "made by the weights").exists()


def test_the_file_is_small_and_names_no_machine() -> None:
    body = MODEL.read_bytes()
    assert len(body) < 3_000_000
    assert b"/tmp/" not in body
    assert b"/home/" not in body
