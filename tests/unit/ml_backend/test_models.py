"""Models are loaded once, in the background, and what keeps one from loading is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridge.errors import Corrupt, Unavailable
from ml_backend.models import Models
from ml_backend.weights import Weights
from tests.unit.ml_backend.helpers import FakeDetector, weights


def models(
    find: Callable[[], Weights] = weights,
    open: Callable[[Path], FakeDetector] = lambda _path: FakeDetector(),
    root: Path = Path("nowhere"),
) -> Models:
    return Models(find=find, open=open, model_root=root)


def test_the_version_is_known_while_the_model_is_still_loading() -> None:
    gate = threading.Event()

    def slow(_path: Path) -> FakeDetector:
        assert gate.wait(10)
        return FakeDetector()

    one = models(open=slow)
    one.start()
    assert one.default_weights(wait_s=5).name == "shapes"
    assert one.status()["state"] == "loading"
    with pytest.raises(Unavailable, match="still being loaded"):
        one.default_detector(wait_s=0)
    gate.set()
    assert one.default_detector(wait_s=5).task == "detect"


def test_weights_still_being_fetched_are_not_waited_for_long() -> None:
    one = models()
    with pytest.raises(Unavailable, match="still being fetched"):
        one.default_weights(wait_s=0)


def test_a_broken_model_is_told_and_tried_again() -> None:
    tries = iter([Corrupt("shapes.pt is cut off"), None])

    def mended_later(_path: Path) -> FakeDetector:
        trouble = next(tries)
        if trouble is not None:
            raise trouble
        return FakeDetector()

    one = models(open=mended_later)
    one.start()
    with pytest.raises(Unavailable, match=r"shapes\.pt is cut off"):
        one.default_detector(wait_s=5)
    deadline = time.monotonic() + 10
    while one.status()["state"] != "ready" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert one.status() == {"state": "ready", "name": "shapes", "sha256": "a" * 64}


def test_a_named_model_is_loaded_once_by_many_threads_and_again_when_its_file_changes(tmp_path: Path) -> None:
    opened: list[Path] = []

    def opening(path: Path) -> FakeDetector:
        time.sleep(0.01)
        opened.append(path)
        return FakeDetector()

    one = models(open=opening, root=tmp_path)
    (tmp_path / "other.pt").write_bytes(b"one")
    named = one.named_weights("other.pt")
    with ThreadPoolExecutor(8) as pool:
        detectors = set(pool.map(lambda _: id(one.detector(named, wait_s=1)), range(16)))
    assert (len(opened), len(detectors)) == (1, 1)
    (tmp_path / "other.pt").write_bytes(b"longer")
    assert one.named_weights("other.pt").digest != named.digest


def test_only_some_named_models_stay_in_memory_and_the_default_one_always_does() -> None:
    one = models()
    one.start()
    default = one.default_detector(wait_s=5)
    for number in range(20):
        one.detector(weights(f"{number:064}"), wait_s=1)
    assert one.loaded(weights("0" * 64)) is None
    assert one.loaded(weights(f"{19:064}")) is not None
    assert one.loaded(weights()) is default
