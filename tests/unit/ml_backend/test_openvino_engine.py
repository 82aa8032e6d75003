"""OpenVINO with a network of one layer: which way pictures go through it, and which sizes it is compiled for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_backend.engines.openvino_engine import OpenVinoEngine, Quicker, Sizes

pytestmark = pytest.mark.model
SMALL, WIDE, HIGH, SQUARE = (32, 64, 3), (32, 96, 3), (96, 32, 3), (64, 64, 3)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives the mean of each colour, 0…1, for pictures of any size."""
    import openvino
    from openvino import opset13 as ops

    given = ops.parameter([-1, 3, -1, -1], np.float32)
    mean = ops.reduce_mean(given, np.array([2, 3]), keep_dims=False)
    file = tmp_path_factory.mktemp("network") / "model.xml"
    openvino.save_model(openvino.Model([mean], [given]), str(file), compress_to_fp16=False)
    return file


def an_engine(
    network: Path, *, threads: int = 2, agree: Callable[[Any, Any], bool] = lambda ours, theirs: True
) -> OpenVinoEngine:
    return OpenVinoEngine(network, pictures_are_bytes=True, precise=True, threads=threads, agree=agree)


def picture(size: tuple[int, ...], value: int) -> np.ndarray:
    return np.full((1, *size), value, np.uint8)


def value_of(answer: Any) -> float:
    return round(float(answer[0][0, 0]) * 255, 1)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("alone", [True, False])
def test_pictures_of_many_threads_are_answered_each_with_its_own(
    network: Path, threads: int, alone: bool
) -> None:
    engine = an_engine(network, threads=threads)
    assert engine.lanes == threads
    sizes = [SMALL, WIDE, HIGH]

    def ask(number: int) -> float:
        [answer] = engine.forward(picture(sizes[number % 3], number % 256), alone=alone)
        return value_of(answer)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(300))) == [number % 256 for number in range(300)]


def test_several_pictures_of_one_call_are_answered_in_order(network: Path) -> None:
    pictures = np.concatenate([picture(SMALL, value) for value in (7, 8, 9)])
    assert [value_of(one) for one in an_engine(network).forward(pictures)] == [7, 8, 9]


def compiled_for(engine: OpenVinoEngine) -> set[tuple[int, ...]]:
    return set(engine._for)


def test_a_size_that_comes_often_gets_a_network_of_its_own_and_the_same_answers(network: Path) -> None:
    compared: list[tuple[float, float]] = []

    def agree(ours: Any, theirs: Any) -> bool:
        compared.append((value_of(ours), value_of(theirs)))
        return True

    engine = an_engine(network, agree=agree)
    for value in range(15):
        engine.forward(picture(SMALL, value))
    assert not engine._compiling
    engine.forward(picture(SMALL, 15))
    until(lambda: compiled_for(engine) == {SMALL})
    assert compared == [(15, 15), (15, 15)]  # alone, and beside others
    for alone in (True, False):
        assert [value_of(one) for one in engine.forward(picture(SMALL, 99), alone=alone)] == [99]
        assert [value_of(one) for one in engine.forward(picture(WIDE, 98), alone=alone)] == [98]


def test_a_network_of_its_own_that_differs_is_not_used(
    network: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = threading.Event()

    def agree(ours: Any, theirs: Any) -> bool:
        asked.set()
        return False

    engine = an_engine(network, agree=agree)
    for value in range(16):
        engine.forward(picture(SMALL, value))
    until(lambda: asked.is_set() and not engine._compiling)
    assert "differs when compiled for pictures of 32x64x3" in caplog.text
    asked.clear()
    for value in range(100):
        assert value_of(engine.forward(picture(SMALL, value))[0]) == value
    assert not asked.is_set()
    assert compiled_for(engine) == set()


def test_a_network_that_cannot_be_compiled_for_a_size_goes_on_as_it_is(
    network: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "model.xml"
    for path in network.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    engine = an_engine(file)
    file.unlink()
    for value in range(16):
        engine.forward(picture(SMALL, value))
    until(lambda: "cannot be compiled for pictures of 32x64x3" in caplog.text)
    assert value_of(engine.forward(picture(SMALL, 5))[0]) == 5


def seen(**pictures: int) -> Sizes:
    found = Sizes()
    for name, number in pictures.items():
        found.saw(globals()[name], number)
    return found


def test_sizes_are_chosen_by_how_often_they_came() -> None:
    assert seen(SMALL=15).wanted([]) is None
    assert seen(SMALL=16).wanted([]) == (SMALL, None)
    assert seen(SMALL=16).wanted([SMALL]) is None
    assert seen(SMALL=30, WIDE=20).wanted([SMALL]) == (WIDE, None)
    assert seen(SMALL=100, WIDE=20).wanted([SMALL]) is None  # one of six


def test_a_size_gives_way_only_to_one_that_comes_twice_as_often() -> None:
    assert seen(SMALL=30, WIDE=30, HIGH=59).wanted([SMALL, WIDE]) is None
    assert seen(SMALL=20, WIDE=30, HIGH=60).wanted([SMALL, WIDE]) == (HIGH, SMALL)
    assert seen(SMALL=20, WIDE=20, HIGH=20, SQUARE=20).wanted([SMALL, WIDE]) is None


def test_a_large_network_has_none_of_its_own(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_backend.engines.openvino_engine._WEIGHTS", 0)
    file = network.with_suffix(".bin")
    before = file.read_bytes()
    file.write_bytes(before or b"0")
    try:
        engine = an_engine(network)
        for value in range(200):
            assert value_of(engine.forward(picture(SMALL, value))[0]) == value
        assert not engine._compiling
        assert compiled_for(engine) == set()
    finally:
        file.write_bytes(before)


def test_only_the_last_pictures_count() -> None:
    assert seen(SMALL=500, WIDE=128).wanted([SMALL, HIGH]) == (WIDE, SMALL)


def test_what_was_quicker_the_last_times_is_taken_and_the_other_tried_again() -> None:
    seconds = {True: 2.0, False: 1.0}
    quicker = Quicker()

    def ways(number: int) -> list[bool]:
        taken = []
        for _ in range(number):
            first = quicker.first()
            quicker.took(first, seconds[first])
            taken.append(first)
        return taken

    assert ways(6) == [True] * 3 + [False] * 3
    later = ways(64)
    assert sum(later) == 2  # one of 32
    seconds[True] = 0.5
    assert sum(ways(256)) > 100  # it is the quicker one now
