"""The backend's figures for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

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
        self.busy = Counter("ml_backend_busy", "Predictions refused because too many were running", **own)
        self.inferences_dropped = Counter(
            "ml_backend_inference_records_dropped", "Inference records that Redis did not take in time", **own
        )
        self.model_ready = Gauge(
            "ml_backend_model_ready", "1 when the model is loaded", multiprocess_mode="livemax", **own
        )

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        if self._multiprocess_dir is None:
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared, path=self._multiprocess_dir)
        return generate_latest(shared)
