"""The sidecar's web application: the door for webhooks, health, metrics and the API."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import redis
from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from bridge.edges import redis as redis_edge
from bridge.edges.label_studio import LabelStudio
from bridge.edges.s3 import S3Store, make_client
from bridge.errors import BridgeError, Full, TooLarge, Unauthorized
from bridge.settings import MIB, SidecarSettings
from sidecar import api, api_export, api_metrics, api_prelabel, api_reconcile, health, webhook
from sidecar.clients import open_clients
from sidecar.journal import Journal, NotKept
from sidecar.metrics import Metrics, exposition
from sidecar.spool import Spool

log = logging.getLogger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Door:
    """What the app stands on, for those who start and stop it."""

    journal: Journal
    spool: Spool
    stop: threading.Event = field(default_factory=threading.Event)

    def start_replaying(self) -> threading.Thread:
        """Carry the spool into Redis in the background until `stop` is set."""
        thread = threading.Thread(
            target=self.journal.replay_forever, args=(self.stop,), daemon=True, name="replay"
        )
        thread.start()
        return thread


def create_app(
    settings: SidecarSettings,
    *,
    multiprocess_dir: Path | None = None,
    now: Callable[[], datetime] = _utc_now,
) -> Flask:
    """A new app. It connects to nothing before the first request; `app.extensions["door"]` is its Door."""
    app = Flask("sidecar")
    app.json.sort_keys = False  # type: ignore[attr-defined]
    ingest = redis_edge.ingest_client(settings.redis_url)
    spool = Spool(Path(settings.spool_dir), max_bytes=settings.spool_max_mib * MIB)
    journal = Journal(ingest, spool)
    metrics = Metrics()
    app.extensions["door"] = Door(journal=journal, spool=spool)
    app.register_blueprint(
        webhook.make_blueprint(
            journal=journal,
            secret=settings.webhook_secret,
            max_bytes=settings.webhook_max_mib * MIB,
            metrics=metrics,
            now=now,
        )
    )
    app.register_blueprint(health.make_blueprint(ready_checks(settings, spool)))
    clients = open_clients(settings)
    app.register_blueprint(api.make_blueprint(settings, clients))
    app.register_blueprint(api_metrics.make_blueprint(settings, clients))
    app.register_blueprint(api_export.make_blueprint(settings, clients))
    app.register_blueprint(api_prelabel.make_blueprint(settings, clients))
    app.register_blueprint(api_reconcile.make_blueprint(settings, clients))
    patient = redis_edge.ingest_client(settings.redis_url, timeout_s=2.0)

    @app.get("/metrics")
    def show_metrics() -> Response:
        return Response(
            exposition(metrics, patient, spool, multiprocess_dir), mimetype="text/plain; version=0.0.4"
        )

    _answer_errors(app, metrics)
    return app


def ready_checks(settings: SidecarSettings, spool: Spool) -> dict[str, health.Check]:
    """What must work for events to reach the bucket, each as one question that raises or says how it is."""

    def ask_redis() -> str:
        redis_edge.ingest_client(settings.redis_url, timeout_s=2.0).ping()
        return "answers"

    def ask_bucket() -> str:
        client = make_client(settings.s3, attempts=1, connect_timeout_s=2, read_timeout_s=2)
        S3Store(settings.s3, client=client).check()
        return f"bucket {settings.s3.bucket} is there"

    def ask_label_studio() -> str:
        who = LabelStudio(settings.label_studio, timeout_s=2).get("/api/current-user/whoami")
        return f"answers {who['email']}"

    def ask_spool() -> str:
        fill = spool.fill()
        if fill.is_high:
            raise Full(str(fill))
        return f"{fill.share:.0%} full"

    return {"redis": ask_redis, "bucket": ask_bucket, "label_studio": ask_label_studio, "spool": ask_spool}


def _answer_errors(app: Flask, metrics: Metrics) -> None:
    """Every error as JSON that says what to do; never a traceback."""

    @app.errorhandler(BridgeError)
    def ours(error: BridgeError) -> tuple[Response, int]:
        if isinstance(error, Unauthorized | TooLarge):
            metrics.refused("secret" if isinstance(error, Unauthorized) else "too large")
        if isinstance(error, NotKept):
            metrics.refused("not kept")
        log.log(logging.WARNING if error.status < 500 else logging.ERROR, "%d: %s", error.status, error)
        return jsonify(error=str(error)), error.status

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> tuple[Response, int]:
        return jsonify(error=f"{error.name}: {error.description}"), error.code or 500

    @app.errorhandler(redis.RedisError)
    def no_redis(error: redis.RedisError) -> tuple[Response, int]:
        log.error("Redis: %s", error)
        return jsonify(error=f"Redis does not answer ({type(error).__name__}): check REDIS_URL"), 503

    @app.errorhandler(Exception)
    def bug(error: Exception) -> tuple[Response, int]:
        log.exception("a bug of ours")
        return jsonify(error="this is a bug of the sidecar; its log says more"), 500
