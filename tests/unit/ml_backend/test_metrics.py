"""The figures at /metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ml_backend.detectors import Found
from ml_backend.inference_log import inference_records
from ml_backend.metrics import Metrics
from ml_backend.predict import TaskResult
from ml_backend.timings import Spent, TaskTiming, Timing, task_timing
from tests.unit.ml_backend.helpers import FakeDetector, a_box, a_client, predict, task

AT = "2026-11-22T10:00:00Z"


def figure(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not in\n{text}"
    return float(found[1])


def test_each_step_of_a_prediction_is_counted() -> None:
    boxes = (a_box("circle", 0.95), a_box("square", 0.55), a_box("circle", 0.6))
    client = a_client(FakeDetector(Found(boxes=boxes)))
    predict(client, [task(1, "a"), task(2, "b"), {"id": 3}])
    text = client.get("/metrics").text
    assert figure(text, "ml_backend_decode_seconds_count") == 2
    assert figure(text, "ml_backend_encode_seconds_count") == 2
    assert figure(text, 'ml_backend_label_regions_total{label="Circle"}') == 4
    assert figure(text, 'ml_backend_label_regions_total{label="Box"}') == 2
    assert figure(text, 'ml_backend_region_score_bucket{le="0.6"}') == 4
    assert figure(text, "ml_backend_region_score_count") == 6


def test_queue_and_inference_are_told_by_engine_and_batch() -> None:
    metrics = Metrics()
    metrics.queued(0.004)
    metrics.computed("openvino", 0.2, 16)
    metrics.computed("openvino", 0.1, 3)
    text = metrics.text().decode()
    assert figure(text, "ml_backend_queue_seconds_sum") == 0.004
    assert figure(text, 'ml_backend_inference_seconds_count{engine="openvino"}') == 2
    assert figure(text, 'ml_backend_batch_pictures_bucket{engine="openvino",le="4.0"}') == 1
    assert figure(text, 'ml_backend_batch_pictures_sum{engine="openvino"}') == 19


def test_labels_without_end_do_not_make_series_without_end() -> None:
    metrics = Metrics()
    for number in range(700):
        metrics.found({f"label {number}": 1}, [])
    text = metrics.text().decode()
    assert len(re.findall(r"^ml_backend_label_regions_total", text, re.MULTILINE)) == 501
    assert figure(text, 'ml_backend_label_regions_total{label="(others)"}') == 200


def test_a_label_is_cut_at_a_length_that_figures_can_have() -> None:
    metrics = Metrics()
    metrics.found({"x" * 1_000_000: 1}, [])
    assert len(metrics.text()) < 50_000


def test_regions_of_somebodys_own_model_are_counted_whatever_they_hold() -> None:
    values: list[Any] = [{"choices": [1, None, ["a", 2]]}, {"choices": 7}, None, {}]
    regions = [{"type": "choices", "value": value} for value in values] + [
        {"type": ["choices"], "value": {}},
        {},
    ]
    assert TaskResult(task_id=1, regions=tuple(regions)).label_counts() == {"1": 1, "None": 1, "a / 2": 1}


def test_where_the_time_of_a_video_went_is_told() -> None:
    """Frames share batches: of those that go through a model together, the longest wait counts, and the time once."""
    spent = Spent(decode_s=0.5, encode_s=0.25)
    spent.looked(
        1.0, [Timing(queue_s=wait, inference_s=0.75, batch=16, engine="onnx") for wait in (0.1, 0.25)]
    )
    spent.looked(2.0, [])
    pictures = task_timing(
        decode_s=1.0, encode_s=1.0, passes=[Timing(queue_s=0.5, inference_s=1.0, batch=2, engine="torch")]
    )
    assert spent.and_pictures(pictures) == TaskTiming(
        decode_s=1.5, queue_s=0.75, inference_s=3.75, encode_s=1.25, batch=16, engines=("torch", "onnx")
    )


def test_a_label_cannot_write_lines_of_its_own() -> None:
    metrics = Metrics()
    metrics.found({'a"} 7\nevil_total 9': 1}, [float("nan"), 0.5])
    text = metrics.text().decode()
    assert "\nevil_total" not in text
    assert figure(text, "ml_backend_region_score_count") == 1


def test_a_record_says_where_the_time_went() -> None:
    from datetime import datetime

    timing = task_timing(
        decode_s=0.0123456,
        encode_s=0.001,
        passes=[
            Timing(queue_s=0.1, inference_s=0.2, batch=4, engine="onnx"),
            Timing(queue_s=0.1, inference_s=0.3, batch=8, engine="onnx"),
        ],
    )
    at = datetime.fromisoformat(AT)
    [record] = inference_records([TaskResult(task_id=1, timing=timing)], model_version="v", seconds=1, at=at)
    assert record["timing"] == {
        **{"decode_s": 0.0123, "queue_s": 0.2, "inference_s": 0.5, "encode_s": 0.001},
        **{"batch": 8, "engines": ("onnx",)},
    }
    [plain] = inference_records([TaskResult(task_id=1)], model_version="v", seconds=1, at=at)
    assert "timing" not in plain


def test_every_figure_is_documented() -> None:
    documented = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    names = re.findall(r"^# TYPE (ml_backend_\w+) ", Metrics().text().decode(), re.MULTILINE)
    missing = [name for name in names if not name.endswith("_created") and f"`{name}" not in documented]
    assert names
    assert not missing
