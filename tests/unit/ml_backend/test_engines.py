"""Engines without torch: which are tried, how far apart two answers are, and where converted networks are kept."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import Corrupt, Unavailable
from bridge.keys import EngineKey, engine_key
from bridge.store import MemoryStore
from ml_backend.engines.choose import NAMES, candidates, unfit
from ml_backend.engines.compare import Difference, boxes_differ, largest, rows_differ
from ml_backend.engines.converted import Converted, engine_id

DIGEST = "ab" * 32
ENGINE = "openvino-openvino_1-ultralytics_2"


@pytest.mark.parametrize(
    ("setting", "device", "kinds"),
    [
        ("auto", "cpu", ("openvino", "onnx")),  # ONNX Runtime where OpenVINO cannot
        ("auto", "cuda:0", ()),  # torch, in half precision
        ("torch", "cpu", ()),
        ("openvino", "cpu", ("openvino",)),
        ("onnx", "cpu", ("onnx",)),
        ("tensorrt", "cuda:1", ("tensorrt",)),
        ("tensorrt", "cpu", ()),
        ("openvino", "cuda:0", ()),
    ],
)
def test_engines_are_chosen_for_the_machine(setting: str, device: str, kinds: tuple[str, ...]) -> None:
    assert setting in NAMES
    assert candidates(setting, device=device) == kinds
    asked_in_vain = not kinds and setting not in ("auto", "torch")
    assert bool(unfit(setting, device=device)) == asked_in_vain


def outputs(*boxes: tuple[float, ...]) -> np.ndarray:
    """Raw outputs of a network for two classes: x, y, width, height, two scores, more; a column a box."""
    return np.array(boxes, dtype=np.float32).T


def test_boxes_apart_are_measured_at_their_edges() -> None:
    theirs = outputs((100, 100, 50, 40, 0.9, 0.1), (10, 10, 5, 5, 0.3, 0.2))
    ours = theirs.copy()
    ours[0, 0] += 0.5  # the middle goes to the right …
    ours[2, 0] += 1.0  # … and the box is wider: its right edge is 1 px off
    ours[5, 1] -= 0.01
    found = boxes_differ(ours, theirs, classes=2)
    assert (round(found.px, 3), round(found.score, 3), found.rest) == (1.0, 0.01, 0.0)


def test_boxes_nobody_would_see_do_not_count() -> None:
    seen = [(100.0, 100.0, 50.0, 40.0, 0.9, 0.1)]
    unseen = [(10.0, 10.0, 5.0, 5.0, 0.001, 0.0)] * 200
    theirs = outputs(*seen, *unseen)
    ours = theirs.copy()
    ours[0, 1:] += 300
    assert boxes_differ(ours, theirs, classes=2).px == 0


def test_key_points_are_px_and_their_scores_are_not() -> None:
    theirs = outputs((100, 100, 50, 40, 0.9, 120, 110, 0.5))
    ours = theirs.copy()
    ours[5] += 2
    ours[7] += 0.25
    found = boxes_differ(ours, theirs, classes=1, points=(1, 3))
    assert (found.px, found.rest) == (2.0, 0.25)


def test_rows_are_compared_whatever_their_order_and_a_missing_one_is_no_match() -> None:
    first, second = [10, 10, 20, 20, 0.9, 0], [50, 50, 80, 80, 0.8, 0]
    theirs = np.array([first, second], dtype=np.float32)
    assert rows_differ(theirs[::-1] + np.float32(0.25) * (np.arange(6) == 2), theirs).px == 0.25
    assert rows_differ(theirs[:1], theirs).px == 60
    assert math.isinf(rows_differ(theirs[:0], theirs).px)


@pytest.mark.parametrize(
    ("difference", "fits"),
    [
        (Difference(), True),
        (Difference(px=0.9, score=0.019, rest=0.04), True),
        (Difference(px=1.1), False),
        (Difference(score=0.03), False),
        (Difference(rest=0.06), False),
        (Difference(px=math.nan), False),
        (largest([Difference(px=0.1), Difference(score=math.nan)]), False),
    ],
    ids=str,
)
def test_what_is_close_enough(difference: Difference, fits: bool) -> None:
    assert difference.within(1.0) == fits


class Conversions:
    """Writes small files, and counts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.made = 0
        self._error = error

    def __call__(self, kind: str, weights: Path, folder: Path) -> None:
        self.made += 1
        if self._error is not None:
            (folder / "model.xml").write_text("half")
            raise self._error
        (folder / "model.xml").write_text("network")
        (folder / "model.bin").write_bytes(b"numbers")


def test_weights_are_converted_once_and_fetched_by_other_machines(tmp_path: Path) -> None:
    store, here, there = MemoryStore(), Conversions(), Conversions()
    first = Converted(tmp_path / "here", store=lambda: store, prefix="team", convert=here)
    for _ in range(2):
        folder = first.get("openvino", Path("x.pt"), DIGEST, engine=ENGINE)
    assert here.made == 1
    assert {
        info.key.rpartition("/")[2] for info in store.keys(f"team/models/engines/{DIGEST}/{ENGINE}/")
    } == {
        "model.xml",
        "model.bin",
        "manifest.json",
    }
    second = Converted(tmp_path / "there", store=lambda: store, prefix="team", convert=there)
    other = second.get("openvino", Path("x.pt"), DIGEST, engine=ENGINE)
    assert there.made == 0
    assert (other / "model.bin").read_bytes() == (folder / "model.bin").read_bytes()


def test_other_weights_and_other_versions_are_converted_anew(tmp_path: Path) -> None:
    convert = Conversions()
    converted = Converted(tmp_path, convert=convert)
    for digest, engine in ((DIGEST, ENGINE), ("cd" * 32, ENGINE), (DIGEST, "openvino-openvino_2")):
        converted.get("openvino", Path("x.pt"), digest, engine=engine)
    assert convert.made == 3
    assert engine_id("onnx", {"onnxruntime": "1.2", "a": "3/4"}) == "onnx-a_3_4-onnxruntime_1.2"


@pytest.mark.parametrize("damaged", ["model.bin", "manifest.json"])
def test_a_damaged_copy_in_the_bucket_is_made_again(tmp_path: Path, damaged: str) -> None:
    store, again = MemoryStore(), Conversions()
    Converted(tmp_path / "here", store=lambda: store, convert=Conversions()).get(
        "openvino", Path("x.pt"), DIGEST, engine=ENGINE
    )
    key = engine_key(EngineKey(digest=DIGEST, engine=ENGINE, name=damaged))
    store.put(key, store.get(key)[:-1] + b"?")
    folder = Converted(tmp_path / "there", store=lambda: store, convert=again).get(
        "openvino", Path("x.pt"), DIGEST, engine=ENGINE
    )
    assert again.made == 1
    assert (folder / "model.bin").read_bytes() == b"numbers"
    assert json.loads(store.get(engine_key(EngineKey(digest=DIGEST, engine=ENGINE, name="manifest.json"))))


def test_a_bucket_that_is_away_costs_a_conversion_and_nothing_else(tmp_path: Path) -> None:
    def away() -> MemoryStore:
        raise Unavailable("no answer")

    convert = Conversions()
    folder = Converted(tmp_path, store=away, convert=convert).get(
        "openvino", Path("x.pt"), DIGEST, engine=ENGINE
    )
    assert (folder / "model.xml").is_file()


def test_a_failed_conversion_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    with pytest.raises(Corrupt):
        Converted(tmp_path, convert=Conversions(Corrupt("no"))).get(
            "openvino", Path("x.pt"), DIGEST, engine=ENGINE
        )
    again = Conversions()
    Converted(tmp_path, convert=again).get("openvino", Path("x.pt"), DIGEST, engine=ENGINE)
    assert again.made == 1
