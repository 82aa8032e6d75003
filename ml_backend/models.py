"""The models at hand: found and loaded in the background, once each, and never on a request that must be quick."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from bridge.errors import BridgeError, SenderError, Unavailable
from ml_backend.detectors import Detector
from ml_backend.weights import Weights, below_model_root, weights_of

log = logging.getLogger(__name__)
State = Literal["searching", "loading", "ready", "failed"]
_RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
_KEPT_MODELS = 8


class Models:
    """The default model and those that labeling configs name. Safe to use from several threads.

    `find` gives the default weights, `open` loads a detector from a file; both may take long and raise BridgeError.
    """

    def __init__(
        self, *, find: Callable[[], Weights], open: Callable[[Path], Detector], model_root: Path
    ) -> None:
        self._find = find
        self._open = open
        self._model_root = model_root
        self._changed = threading.Condition()
        self._weights: Weights | None = None
        self._state: State = "searching"
        self._reason = ""
        self._detectors: dict[str, Detector] = {}
        self._loading: dict[str, threading.Lock] = {}
        self._named: dict[tuple[Path, int, int], Weights] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin finding and loading the default model; again and again until it works."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._load_default, name="model-loader", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def status(self) -> dict[str, Any]:
        """State, and name and digest or the reason why not, as /health shows it."""
        with self._changed:
            shown: dict[str, Any] = {"state": self._state}
            if self._weights is not None:
                shown |= {"name": self._weights.name, "sha256": self._weights.digest}
            if self._reason:
                shown["reason"] = self._reason
            return shown

    def default_weights(self, *, wait_s: float) -> Weights:
        """What MODEL names. Raises Unavailable with the reason when it is missing, broken or still being fetched."""
        self._settle(wait_s, until=("loading", "ready", "failed"))
        return self._checked()

    def default_detector(self, *, wait_s: float) -> Detector:
        """The loaded default model. Raises Unavailable."""
        self._settle(wait_s, until=("ready", "failed"))
        weights = self._checked()
        with self._changed:
            if self._state != "ready":
                raise Unavailable("the model is still being loaded", hint="try again in a moment")
            return self._detectors[weights.digest]

    def named_weights(self, model_path: str) -> Weights:
        """What a labeling config's `model_path` names; read once per state of the file. Raises SenderError, NotFound."""
        path = below_model_root(model_path, self._model_root)
        try:
            stat = path.stat()
        except OSError as error:
            raise SenderError(f"model_path={model_path!r}: {error.strerror}") from error
        key = (path, stat.st_mtime_ns, stat.st_size)
        if key not in self._named:
            self._named[key] = weights_of(path)
        return self._named[key]

    def detector(self, weights: Weights, *, wait_s: float) -> Detector:
        """The loaded model of these weights. Raises BridgeError when it cannot be loaded."""
        with self._changed:
            is_default = self._weights is not None and weights.digest == self._weights.digest
        if is_default:
            return self.default_detector(wait_s=wait_s)
        with self._changed:
            lock = self._loading.setdefault(weights.digest, threading.Lock())
        with lock:  # one thread loads, the others wait for it
            if weights.digest not in self._detectors:
                loaded = self._open(weights.path)
                with self._changed:
                    self._detectors[weights.digest] = loaded
                    self._forget_oldest()
            return self._detectors[weights.digest]

    def loaded(self, weights: Weights) -> Detector | None:
        """The model if it is loaded already; never waits."""
        return self._detectors.get(weights.digest)

    def prefetch(self, weights: Weights) -> None:
        """Begin to load a model that a labeling config names, so that it is there when tasks come; never waits."""
        with self._changed:
            is_default = self._weights is not None and weights.digest == self._weights.digest
            if is_default or weights.digest in self._detectors or weights.digest in self._loading:
                return

        def load() -> None:
            try:
                self.detector(weights, wait_s=0)
            except Exception as error:
                log.warning("model %s cannot be used: %s", weights.name, error)

        threading.Thread(target=load, name="model-prefetch", daemon=True).start()

    def _forget_oldest(self) -> None:
        default = self._weights.digest if self._weights else None
        for digest in [digest for digest in self._detectors if digest != default][:-_KEPT_MODELS]:
            del self._detectors[digest]

    def _settle(self, wait_s: float, until: tuple[State, ...]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._state in until, timeout=wait_s)

    def _checked(self) -> Weights:
        with self._changed:
            if self._state == "failed":
                raise Unavailable(f"the model cannot be used: {self._reason}")
            if self._weights is None:
                raise Unavailable("the model's weights are still being fetched", hint="try again in a moment")
            return self._weights

    def _load_default(self) -> None:
        tries = 0
        while not self._stopped.is_set():
            try:
                started = time.monotonic()
                weights = self._find()
                self._set(
                    "loading" if self._state != "failed" else "failed", weights=weights, reason=self._reason
                )
                detector = self._open(weights.path)
            except Exception as error:
                # Whatever it was, it is shown by /health, /setup and /predict, and tried again: files get repaired.
                known = isinstance(error, BridgeError)
                reason = str(error) if known else f"{type(error).__name__}: {error}"
                if reason != self._reason:
                    log.error("the model cannot be used: %s", reason, exc_info=not known)
                self._set("failed", reason=reason)
                self._stopped.wait(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1
            else:
                with self._changed:
                    self._detectors[weights.digest] = detector
                self._set("ready", weights=weights, reason="")
                log.info(
                    "model %s (%s, %d classes: %s) ready after %.1f s",
                    weights.name,
                    detector.task,
                    len(detector.class_names),
                    ", ".join(detector.class_names[:20]),
                    time.monotonic() - started,
                )
                return

    def _set(self, state: State, *, weights: Weights | None = None, reason: str) -> None:
        with self._changed:
            self._state, self._reason = state, reason
            if weights is not None:
                self._weights = weights
            self._changed.notify_all()
