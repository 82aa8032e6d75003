"""The backend's figures for Prometheus. `Metrics` hears of each step of a prediction (`timings.Timings`)."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from ml_backend.engines.compare import Difference

_STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PICTURES = (1, 2, 4, 8, 16, 32, 64)
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_MOST_LABELS = 500  # labels are what people write into configs: a series each, but not without end
_LABEL = 200  # letters of a label
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)


class Metrics:
    """All figures of one app. `multiprocess_dir`: the folder that prometheus-client shares between processes, if it
    was given one in PROMETHEUS_MULTIPROC_DIR."""

    def __init__(self, *, multiprocess_dir: str | None = None) -> None:
        self._multiprocess_dir = multiprocess_dir
        self._registry = CollectorRegistry()
        own = {"registry": self._registry}
        self.requests = Counter("ml_backend_requests", "Requests answered", ["route", "status"], **own)
        self.request_seconds = Histogram(
            "ml_backend_request_seconds", "Time to answer", ["route"], buckets=_SECONDS, **own
        )
        self.tasks = Counter(
            "ml_backend_tasks", "Tasks predicted, and tasks left empty by a problem", ["outcome"], **own
        )
        self.task_problems = Counter(
            "ml_backend_task_problems", "Tasks without prediction, by reason", ["reason"], **own
        )
        self.regions = Counter("ml_backend_regions", "Regions sent to Label Studio", **own)
        self.busy = Counter(
            "ml_backend_busy", "Predictions refused because too many were running or waiting", **own
        )
        self.handed_over = Counter(
            "ml_backend_tasks_handed_over", "Tasks that the pre-labelling job does instead", **own
        )
        self.inferences_dropped = Counter(
            "ml_backend_inference_records_dropped", "Inference records that Redis did not take in time", **own
        )
        steps = {"buckets": _STEP_SECONDS, "registry": self._registry}
        self._decode = Histogram("ml_backend_decode_seconds", "Fetching and decoding one picture", **steps)
        self._queue = Histogram("ml_backend_queue_seconds", "One picture waiting for its batch", **steps)
        self._inference = Histogram(
            "ml_backend_inference_seconds", "One batch going through a model", ["engine"], **steps
        )
        self._encode = Histogram("ml_backend_encode_seconds", "Making one task's regions", **steps)
        self._batch = Histogram(
            "ml_backend_batch_pictures",
            "Pictures computed together: in one batch, or side by side",
            ["engine"],
            buckets=_PICTURES,
            **own,
        )
        self._label_regions = Counter("ml_backend_label_regions", "Regions by label", ["label"], **own)
        self._scores = Histogram("ml_backend_region_score", "Scores of regions", buckets=_SCORES, **own)
        self._difference = Gauge(
            "ml_backend_engine_difference",
            "Largest difference from torch that was seen: px at the edges of boxes, score, other values as a share",
            ["model", "engine", "of"],
            multiprocess_mode="livemax",
            **own,
        )
        self._uses = Gauge(
            "ml_backend_engine_in_use",
            "1 for the engine that computes a model, and why it does",
            ["model", "engine", "why"],
            multiprocess_mode="livemax",
            **own,
        )
        self._used: dict[str, tuple[str, str]] = {}
        self._used_lock = threading.Lock()
        self._labels: set[str] = set()
        self._labels_lock = threading.Lock()
        self.replacement_failed = Gauge(
            "ml_backend_model_replacement_failed",
            "1 while MODEL is another that cannot be used, and the one before it serves",
            multiprocess_mode="livemax",
            **own,
        )
        self.model_ready = Gauge(
            "ml_backend_model_ready", "1 when the model is loaded", multiprocess_mode="livemax", **own
        )

    def decoded(self, seconds: float) -> None:
        self._decode.observe(seconds)

    def queued(self, seconds: float) -> None:
        self._queue.observe(seconds)

    def computed(self, engine: str, seconds: float, pictures: int) -> None:
        self._inference.labels(engine=engine).observe(seconds)
        self._batch.labels(engine=engine).observe(pictures)

    def encoded(self, seconds: float) -> None:
        self._encode.observe(seconds)

    def compared(self, model: str, engine: str, difference: Difference) -> None:
        for of, value in (("px", difference.px), ("score", difference.score), ("other", difference.rest)):
            self._difference.labels(model=model, engine=engine, of=of).set(value)

    def uses(self, model: str, engine: str, why: str) -> None:
        with self._used_lock:
            self._uses_no_more(model)
            self._used[model] = (engine, why)
            self._uses.labels(model=model, engine=engine, why=why).set(1)

    def forgotten(self, model: str) -> None:
        with self._used_lock:
            self._uses_no_more(model)

    def _uses_no_more(self, model: str) -> None:
        """0 instead of taking the series away, which prometheus-client cannot where processes share the figures."""
        if before := self._used.pop(model, None):
            self._uses.labels(model=model, engine=before[0], why=before[1]).set(0)

    def found(self, labels: dict[str, int], scores: Iterable[float]) -> None:
        """One task's regions, by label, and their scores."""
        for label, count in labels.items():
            self._label_regions.labels(label=self._known(label)).inc(count)
        for score in scores:
            if math.isfinite(score):
                self._scores.observe(score)

    def _known(self, label: str) -> str:
        label = label[:_LABEL]
        with self._labels_lock:
            if label in self._labels or len(self._labels) < _MOST_LABELS:
                self._labels.add(label)
                return label
        return "(others)"

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        if self._multiprocess_dir is None:
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared, path=self._multiprocess_dir)
        return generate_latest(shared)
