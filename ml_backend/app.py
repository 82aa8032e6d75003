"""The HTTP rim: routes, passwords, and errors as Label Studio shows them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from bridge.edges.redis import ingest_client
from bridge.edges.s3 import S3Store, make_client, open_store
from bridge.errors import BridgeError, SettingsError, Unauthorized
from bridge.settings import MIB, MlBackendSettings
from bridge.store import ObjectStore
from ml_backend.attributes import Asked
from ml_backend.controls.base import Tracker
from ml_backend.detectors import Detector
from ml_backend.engines.converted import Converted
from ml_backend.engines.options import EngineOptions
from ml_backend.handover import Handover, give_by_redis, nobody
from ml_backend.image_cache import ImageCache
from ml_backend.images import ImageLoader, Images
from ml_backend.images import Limits as ImageLimits
from ml_backend.inference_log import BackgroundInferenceLog, InferenceLog, NoInferenceLog, send_to_redis
from ml_backend.library import Library
from ml_backend.metrics import Metrics
from ml_backend.model import Model
from ml_backend.models import Models
from ml_backend.own_model import OwnModel, load_class
from ml_backend.password import is_right
from ml_backend.predict import Predictor
from ml_backend.protocol import read_event, read_predict, read_setup
from ml_backend.safety import web_rules
from ml_backend.service import Backend, Limits
from ml_backend.shared_versions import SharedVersionBook
from ml_backend.timeline.classifiers import Classifiers
from ml_backend.timeline.examples import Examples
from ml_backend.timeline.features import FeatureBook
from ml_backend.timeline.label_studio import AnnotatedTasks
from ml_backend.timeline.timelines import Timelines
from ml_backend.timeline.training import Trainer
from ml_backend.versions import VersionBook
from ml_backend.yolo_model import YoloModel

log = logging.getLogger(__name__)
NO_TRAINING = 'nothing here learns: neither a <TimelineLabels model_trainable="true"> nor a MODEL_CLASS with a fit of its own'
_AT_ONCE = 13  # requests that predict: each has the images of some tasks in memory
_SPARE_THREADS = 3  # of the web threads, for /health, /setup and webhooks
_FETCHERS = 8
_RETRY_AFTER_S = 5


def create_app(
    settings: MlBackendSettings,
    *,
    models: Models | None = None,
    images: Images | None = None,
    inferences: InferenceLog | None = None,
    versions: VersionBook | None = None,
    multiprocess_dir: str | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Flask:
    """The WSGI app; begins to load the model in the background. Raises SettingsError for half a password.

    `models`, `images`, `inferences` and `versions` are for tests; `multiprocess_dir` is prometheus-client's shared folder.
    `stopping`: whether the program is about to end; time is then over for every request that has begun."""
    if (settings.basic_auth_user is None) != (settings.basic_auth_pass is None):
        raise SettingsError("BASIC_AUTH_USER and BASIC_AUTH_PASS: set both, or neither")
    metrics = Metrics(multiprocess_dir=multiprocess_dir)
    versions = versions or _versions(settings)
    model = _model(settings, models, images, versions, metrics, _until_the_end(stopping))
    spare = max(1, settings.web_threads - _SPARE_THREADS)
    at_once = min(_AT_ONCE, spare)
    backend = Backend(
        model=model,
        versions=versions,
        inferences=inferences or _inferences(settings, metrics),
        metrics=metrics,
        limits=Limits(
            budget_s=settings.predict_budget_s,
            at_once=at_once,
            waiting=spare - at_once,
        ),
        handover=Handover(
            give_by_redis(settings.redis_url) if settings.redis_url else nobody,
            budget_s=settings.predict_budget_s,
        ),
    )
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.request_max_mib * MIB
    _add_routes(app, backend, metrics, settings)
    _add_errors(app)
    _add_figures(app, metrics)
    model.start()
    return app


def _model(
    settings: MlBackendSettings,
    models: Models | None,
    images: Images | None,
    versions: VersionBook,
    metrics: Metrics,
    clock: Callable[[], float],
) -> Model:
    if settings.model_class is not None:
        return OwnModel(
            load=lambda: load_class(settings.model_class or ""),
            yolo=lambda: _yolo(settings, models, images, versions, metrics, clock),
            label_studio_url=settings.label_studio_url,
            api_key=settings.label_studio_api_key,
            folder=Path(settings.cache_dir) / "own_model",
        )
    return _yolo(settings, models, images, versions, metrics, clock)


def _until_the_end(stopping: Callable[[], bool]) -> Callable[[], float]:
    """time.monotonic, later than any deadline once the program ends."""
    return lambda: math.inf if stopping() else time.monotonic()


def _yolo(
    settings: MlBackendSettings,
    models: Models | None,
    images: Images | None,
    versions: VersionBook,
    metrics: Metrics,
    clock: Callable[[], float],
) -> YoloModel:
    if models is None and not settings.model:
        raise SettingsError("MODEL is not set: a MODEL_CLASS that stands on Yolo needs its weights")
    at_hand = models or _models(settings, metrics)
    images = images or _images(settings)
    timelines = _timelines(settings, images)
    return YoloModel(
        models=at_hand,
        predictor=Predictor(
            open_detector=lambda weights: at_hand.detector(weights, wait_s=settings.predict_budget_s),
            images=images,
            fetchers=ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch"),
            open_tracker=_open_tracker,
            book=timelines.book,
            timings=metrics,
            clock=clock,
        ),
        threshold=settings.model_score_threshold,
        versions=versions,
        timelines=timelines,
    )


def _timelines(settings: MlBackendSettings, images: Images) -> Timelines:
    """Touches nothing yet: most projects have no timeline that learns."""
    folder = Path(settings.cache_dir) / "timelines"
    book = FeatureBook(folder / "features")
    classifiers = Classifiers(
        folder / "learned",
        store=lambda: open_store(settings.s3, settings.s3.bucket),
        prefix=settings.s3.bucket_prefix,
    )
    return Timelines(
        classifiers=classifiers,
        examples=Examples(folder),
        trainer=Trainer(images=images, book=book, classifiers=classifiers),
        tasks=AnnotatedTasks(settings.label_studio_url, settings.label_studio_api_key),
        book=book,
    )


def _versions(settings: MlBackendSettings) -> VersionBook:
    folder = Path(settings.cache_dir)
    if settings.redis_url is None:
        return VersionBook(folder)
    return SharedVersionBook(folder, ingest_client(settings.redis_url))


def _add_routes(app: Flask, backend: Backend, metrics: Metrics, settings: MlBackendSettings) -> None:
    @app.get("/")
    @app.get("/health")
    def health() -> Response:
        # Open to container probes; but a wrong password is told here, where Label Studio explains it best.
        if _names_itself():
            _check_password(settings)
        return jsonify(backend.health())

    @app.post("/setup")
    def setup() -> Response:
        _check_password(settings)
        return jsonify(backend.setup(read_setup(request.get_data(cache=False))))

    @app.post("/predict")
    def predict() -> Response:
        _check_password(settings)
        return jsonify(backend.predict(read_predict(request.get_data(cache=False))))

    @app.get("/versions")
    def versions() -> Response:
        _check_password(settings)
        return jsonify(backend.versions(request.args.get("project", "")))

    @app.post("/webhook")
    def webhook() -> Response:
        # Label Studio sends annotation events here without the password (ml/models.py, 1.23.2), to a webhook that it
        # adds by itself. The sidecar is the one that records them: they are answered. Nobody learns from a stranger's.
        action, event = read_event(request.get_data(cache=False))
        if action == "START_TRAINING" or _names_itself():
            _check_password(settings)
        elif settings.basic_auth_user is not None:
            return jsonify({"status": "ignored"})
        training = backend.learn(action, event)
        if training is not None:
            return jsonify({"status": "queued", "training": training})
        return _refusal(501, NO_TRAINING) if action == "START_TRAINING" else jsonify({"status": "ignored"})

    @app.post("/job_status")
    def job_status() -> Response:
        # Label Studio 1.23.2 asks for jobs that START_TRAINING named as `job`, and we name none; 410 means "removed" to it.
        _check_password(settings)
        return _refusal(410, "there is no such job: /health shows what is being trained")

    @app.get("/metrics")
    def figures() -> Response:
        model = backend.health()["model"]
        metrics.model_ready.set(model["state"] == "ready")
        metrics.replacement_failed.set(model.get("replacement", {}).get("state") == "failed")
        return Response(metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: Flask) -> None:
    @app.errorhandler(BridgeError)
    def ours(error: BridgeError) -> Response:
        answer = _refusal(error.status, str(error))
        if isinstance(error, Unauthorized):
            answer.headers["WWW-Authenticate"] = 'Basic realm="ML backend"'
        if error.status == 503:
            answer.headers["Retry-After"] = str(_RETRY_AFTER_S)
        if error.status >= 500:
            log.warning("%s %s: %r", request.method, request.path, str(error))
        return answer

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        if error.code == 413:
            return _refusal(413, "the request is larger than REQUEST_MAX_MIB allows: select fewer tasks")
        return _refusal(error.code or 500, error.description or error.name)

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        log.exception("%s %s failed", request.method, request.path)
        return _refusal(500, "the ML backend failed; its log has the reason")


def _add_figures(app: Flask, metrics: Metrics) -> None:
    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()

    @app.after_request
    def end(answer: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "other"
        metrics.requests.labels(route=route, status=str(answer.status_code)).inc()
        metrics.request_seconds.labels(route=route).observe(time.monotonic() - g.began)
        return answer


def _refusal(status: int, message: str) -> Response:
    """An error as JSON, and in the status line: of a failed /setup or training, Label Studio shows that alone."""
    answer = jsonify({"error": message})
    line = " ".join(message.encode("ascii", "replace").decode().split())
    printable = "".join(letter for letter in line if letter.isprintable())
    answer.status = f"{status} {printable[:300]}"
    return answer


def _check_password(settings: MlBackendSettings) -> None:
    """Raises Unauthorized."""
    if settings.basic_auth_user is None or settings.basic_auth_pass is None:
        return
    header = request.headers.get("Authorization", "")
    if not is_right(header, user=settings.basic_auth_user, password=settings.basic_auth_pass):
        raise Unauthorized(
            "user name or password is missing or wrong",
            hint="in Label Studio: Settings > Model > edit, authentication method Basic",
        )


def _names_itself() -> bool:
    return bool(request.headers.get("Authorization"))


def _models(settings: MlBackendSettings, metrics: Metrics) -> Models:
    def open_bucket(bucket: str) -> ObjectStore:
        return open_store(settings.s3, bucket)

    engines = EngineOptions(
        setting=settings.engine,
        tolerance_px=settings.engine_tolerance_px,
        threads=settings.predict_threads,
        converted=Converted(
            Path(settings.cache_dir) / "engines",
            store=lambda: open_bucket(settings.s3.bucket),
            prefix=settings.s3.bucket_prefix,
        ),
    )

    def open_detector(path: Path) -> Detector:
        from ml_backend.yolo import YoloDetector  # torch: seconds, and only where a model is really opened

        return YoloDetector(
            path,
            threads=settings.predict_threads,
            engines=engines,
            timings=metrics,
            room=settings.predict_queue,
        )

    return Models(
        shelf=Library(
            settings.model,
            cache_dir=Path(settings.cache_dir),
            open_bucket=open_bucket,
            bucket=settings.s3.bucket,
            prefix=settings.s3.bucket_prefix,
        ),
        check_s=settings.model_check_seconds,
        open=open_detector,
        model_root=Path(settings.model_root),
    )


def _open_tracker(asked: Asked) -> Tracker:
    from ml_backend.tracking import UltralyticsTracker  # torch, as above

    return UltralyticsTracker(asked)


def _images(settings: MlBackendSettings) -> ImageLoader:
    client: list[Any] = []

    def open_bucket(bucket: str) -> ObjectStore:
        if not client:  # made on first use, by one thread: ImageLoader asks under a lock
            client.append(
                make_client(
                    settings.s3, attempts=2, connect_timeout_s=3, read_timeout_s=settings.image_timeout_s
                )
            )
        return S3Store(settings.s3, bucket, client=client[0])

    root = settings.local_files_document_root
    return ImageLoader(
        label_studio_url=settings.label_studio_url,
        api_key=settings.label_studio_api_key,
        limits=ImageLimits(
            timeout_s=settings.image_timeout_s,
            max_bytes=settings.image_max_mib * MIB,
            max_pixels=settings.image_max_megapixels * 1_000_000,
        ),
        video_limits=ImageLimits(
            timeout_s=settings.video_timeout_s,
            max_bytes=settings.video_max_mib * MIB,
            max_pixels=settings.image_max_megapixels * 1_000_000,
            settings="VIDEO",
        ),
        open_bucket=open_bucket,
        document_root=Path(root) if root else None,
        cache=ImageCache(Path(settings.cache_dir) / "images", max_bytes=settings.image_cache_mib * MIB),
        rules=web_rules(
            hosts=settings.image_allowed_hosts.split(","),
            private=settings.image_allow_private,
            label_studio_url=settings.label_studio_url,
            store_url=settings.s3.endpoint_url,
        ),
    )


def _inferences(settings: MlBackendSettings, metrics: Metrics) -> InferenceLog:
    if settings.redis_url is None:
        return NoInferenceLog()
    return BackgroundInferenceLog(send_to_redis(settings.redis_url), dropped=metrics.inferences_dropped.inc)
