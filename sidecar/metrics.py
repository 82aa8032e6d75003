"""What the sidecar counts, and what `/metrics` shows.

Counters live in prometheus-client's multiprocess files, since gunicorn runs several processes. What Redis, RQ and the
spool know is read when somebody asks.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import redis
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from bridge import jobs
from bridge.edges import redis as names
from bridge.edges import stream
from bridge.edges.queue import open_queue
from sidecar.spool import Spool

log = logging.getLogger(__name__)
_MILLISECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """The counters of this process. Made once a process; tests make their own with a registry of their own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        where = registry if registry is not None else CollectorRegistry()
        self.registry = where
        self._events = Counter(
            "bridge_webhook_events",
            "Webhooks heard, by action and by where they were kept",
            ["action", "kept_in"],
            registry=where,
        )
        self._refused = Counter(
            "bridge_webhook_refused",
            "Webhooks refused: wrong secret, too large, or not kept (neither Redis nor the spool took them)",
            ["reason"],
            registry=where,
        )
        self._seconds = Histogram(
            "bridge_webhook_seconds",
            "From the body's arrival to the answer, in seconds",
            buckets=_MILLISECONDS,
            registry=where,
        )

    def heard(self, action: str, kept_in: str) -> None:
        known = action.replace("_", "").isalpha() and len(action) <= 40
        self._events.labels(action if known else "other", kept_in).inc()

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def answered(self, seconds: float) -> None:
        self._seconds.observe(seconds)


class _Outside(Collector):
    """Gauges read from Redis and the spool at the moment of asking."""

    def __init__(self, connection: redis.Redis, spool: Spool) -> None:
        self._redis = connection
        self._spool = spool

    def collect(self) -> Iterator[Metric]:
        yield from self._from_spool()
        try:
            found = list(self._from_redis())
            up = 1
        except redis.RedisError as error:
            log.warning("metrics without Redis: %s", type(error).__name__)
            found, up = [], 0
        yield GaugeMetricFamily("bridge_redis_up", "Whether Redis answers", value=up)
        yield from found

    def _from_spool(self) -> Iterable[Metric]:
        try:
            (rows, size), fill = self._spool.size(), self._spool.fill()
        except (OSError, sqlite3.Error) as error:
            log.error("metrics without the spool: %s", error)
            yield GaugeMetricFamily("bridge_spool_up", "Whether the spool can be used", value=0)
            return
        yield GaugeMetricFamily("bridge_spool_up", "Whether the spool can be used", value=1)
        yield GaugeMetricFamily("bridge_spool_events", "Events in the spool, waiting for Redis", value=rows)
        yield GaugeMetricFamily("bridge_spool_bytes", "Bytes of the events in the spool", value=size)
        yield GaugeMetricFamily(
            "bridge_spool_full_ratio",
            "How full the spool is, 0 to 1: at 1 webhooks are refused",
            value=fill.share,
        )
        yield GaugeMetricFamily(
            "bridge_projects_missed",
            "Projects of which an event was refused, to be read again when Redis is back",
            value=len(self._spool.missed.names()),
        )

    def _from_redis(self) -> Iterable[Metric]:
        waiting = GaugeMetricFamily(
            "bridge_stream_events", "Events in Redis, not yet in the bucket", labels=["project"]
        )
        lag = GaugeMetricFamily(
            "bridge_archive_lag_seconds", "Age of the oldest event not yet in the bucket", labels=["project"]
        )
        for uid in stream.uids(self._redis):
            waiting.add_metric([uid], stream.waiting(self._redis, uid))
            lag.add_metric([uid], stream.lag_s(self._redis, uid))
        yield waiting
        yield lag
        yield GaugeMetricFamily(
            "bridge_quarantine_events", "Bodies nobody could read", value=stream.quarantine_size(self._redis)
        )
        counted = GaugeMetricFamily("bridge_jobs", "Jobs by queue and state", labels=["queue", "state"])
        for name in jobs.QUEUES:
            found = open_queue(self._redis, name)
            for state, number in (
                ("queued", len(found)),
                # Only counted: RQ's `count` would also take up the jobs of dead workers, which is workers/job_sweep.py's.
                ("started", found.started_job_registry.get_job_count(cleanup=False)),
                ("scheduled", found.scheduled_job_registry.get_job_count(cleanup=False)),
                ("failed", found.failed_job_registry.get_job_count(cleanup=False)),
            ):
                counted.add_metric([name, state], number)
        yield counted
        for raw, value in sorted(self._redis.hgetall(names.COUNTERS).items()):
            yield CounterMetricFamily(f"bridge_{raw.decode()}", "Counted by the workers", value=int(value))


def exposition(
    metrics: Metrics, connection: redis.Redis, spool: Spool, multiprocess_dir: Path | None
) -> bytes:
    """The text of `/metrics`: all processes' counters, and what Redis and the spool know just now."""
    asked = CollectorRegistry()
    if multiprocess_dir is not None:
        MultiProcessCollector(asked, path=str(multiprocess_dir))
    else:
        asked = metrics.registry
    outside = CollectorRegistry()
    outside.register(_Outside(connection, spool))
    return generate_latest(asked) + generate_latest(outside)
