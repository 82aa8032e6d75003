"""The models at hand: found and loaded in the background, once each, and never on a request that must be quick.

When MODEL is another file or version by now, that is loaded beside the one that serves, and takes its place once it
works; requests that began with the old one end with it. One that does not load changes nothing, and is told.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from bridge.errors import BridgeError, SenderError, Unavailable
from ml_backend.detectors import Detector
from ml_backend.weights import Weights, below_model_root, weights_of

log = logging.getLogger(__name__)
State = Literal["searching", "loading", "ready", "failed"]
_RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
_KEPT_MODELS = 8
_NEVER = object()  # equal to nothing that a shelf shows


def _may_pass(error: Exception) -> bool:
    return isinstance(error, BridgeError) and error.retryable


class Shelf(Protocol):
    """Where weights come from (library.py)."""

    def look(self) -> Hashable: ...
    def find(self) -> Weights: ...
    def fetch(self, weights: Weights) -> Path: ...
    def others(self) -> list[Weights]: ...
    def published(self) -> list[str]: ...
    def loaded(self, weights: Weights) -> None: ...
    def last_good(self) -> Weights | None: ...


class OneFile:
    """A shelf with nothing on it but what `find` gives."""

    def __init__(self, find: Callable[[], Weights]) -> None:
        self.find = find

    def look(self) -> Hashable:
        return None

    def fetch(self, weights: Weights) -> Path:
        return weights.path

    def others(self) -> list[Weights]:
        return []

    def published(self) -> list[str]:
        return []

    def loaded(self, weights: Weights) -> None:
        pass

    def last_good(self) -> Weights | None:
        return None


class Models:
    """The default model and those that labeling configs name. Safe to use from several threads.

    `open` loads a detector from a file; it and what the shelf does may take long and raise BridgeError. `check_s`: how
    often to look whether the default is another by now; 0: never. `find`: instead of a shelf."""

    def __init__(
        self,
        *,
        open: Callable[[Path], Detector],
        model_root: Path,
        find: Callable[[], Weights] | None = None,
        shelf: Shelf | None = None,
        check_s: float = 0.0,
    ) -> None:
        if shelf is None:
            assert find is not None
            shelf = OneFile(find)
        self._shelf = shelf
        self._open = open
        self._model_root = model_root
        self._check_s = check_s
        self._changed = threading.Condition()
        self._weights: Weights | None = None
        self._state: State = "searching"
        self._reason = ""
        self._replacement: dict[str, str] = {}
        self._seen: Hashable = _NEVER
        self._detectors: dict[str, Detector] = {}
        self._loading: dict[str, threading.Lock] = {}
        self._named: dict[tuple[Path, int, int], Weights] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin finding and loading the default model; again and again until it works."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_default, name="model-loader", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def status(self) -> dict[str, Any]:
        """State, and name and digest or the reason why not, as /health shows it; `replacement` where MODEL is another by
        now, which does not serve: its state, and the reason."""
        with self._changed:
            shown: dict[str, Any] = {"state": self._state}
            if self._weights is not None:
                shown |= {"name": self._weights.name, "sha256": self._weights.digest}
            if self._reason:
                shown["reason"] = self._reason
            if self._replacement:
                shown["replacement"] = dict(self._replacement)
            serving = self._detectors.get(self._weights.digest) if self._weights is not None else None
            if (told := getattr(serving, "engine_status", None)) is not None:
                shown["engine"] = told()
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

    def available(self) -> list[Weights]:
        """What a request may ask for by its version, the default first; some may still have to be fetched."""
        with self._changed:
            default = [self._weights] if self._weights is not None else []
        found: dict[str, Weights] = {}
        for weights in [*default, *self._shelf.others()]:
            found.setdefault(weights.digest, weights)
        return list(found.values())

    def published(self) -> list[str]:
        """Versions of weights in the bucket, newest first, the same for every backend that has this bucket."""
        return self._shelf.published()

    def engine(self, weights: Weights) -> dict[str, Any] | None:
        """What computes a model and why, as /health shows it; None when it is not loaded."""
        told = getattr(self._detectors.get(weights.digest), "engine_status", None)
        return told() if told is not None else None

    def find_version(self, asked: str) -> Weights | None:
        """The weights of a version: by its name, or by a model_version that was predicted with them."""
        for weights in self.available():
            if asked == weights.version or asked.startswith(f"{weights.version}.t"):
                return weights
        return None

    def detector(self, weights: Weights, *, wait_s: float) -> Detector:
        """The loaded model of these weights. Raises BridgeError when it cannot be loaded."""
        with self._changed:
            if weights.digest in self._detectors:
                return self._detectors[weights.digest]
            is_default = self._weights is not None and weights.digest == self._weights.digest
            lock = self._loading.setdefault(weights.digest, threading.Lock())
        if is_default:
            return self.default_detector(wait_s=wait_s)
        with lock:  # one thread loads, the others wait for it
            found = self._detectors.get(weights.digest)
            if found is None:
                found = self._open(self._shelf.fetch(weights))
                with self._changed:
                    self._detectors[weights.digest] = found
                    self._forget_oldest()
            return found

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
            gone = self._detectors.pop(digest)
            if (forgotten := getattr(gone, "forgotten", None)) is not None:
                forgotten()

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

    def _keep_default(self) -> None:
        tries = 0
        while not self._stopped.is_set():
            if self._state == "ready":
                self._replace_if_changed()
            elif not self._load_first():
                self._stopped.wait(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1
                continue
            if not self._check_s:
                return
            self._stopped.wait(self._check_s)

    def _load_first(self) -> bool:
        """Whether something serves now: what MODEL names, or, until that is mended, what served before."""
        try:
            self._seen = self._looked()
            weights = self._shelf.find()
            self._set(
                "loading" if self._state != "failed" else "failed", weights=weights, reason=self._reason
            )
            self._load(weights)
        except Exception as error:
            # Whatever it was, it is shown by /health, /setup and /predict, and tried again: files get repaired.
            reason = self._told(error, self._reason)
            self._set("failed", reason=reason)
            if _may_pass(error):
                self._seen = _NEVER
            return self._check_s > 0 and self._load_last_good(reason)
        return True

    def _looked(self) -> Hashable:
        try:
            return self._shelf.look()
        except BridgeError:
            return _NEVER  # `find` says what is wrong, or has a copy

    def _load_last_good(self, reason: str) -> bool:
        weights = self._shelf.last_good()
        if weights is None:
            return False
        try:
            self._load(weights, replacement={"state": "failed", "reason": reason})
        except Exception as error:
            log.warning("what served before, %s, cannot be used either: %s", weights.version, error)
            return False
        log.warning("%s, which served before, serves until MODEL is mended", weights.version)
        return True

    def _replace_if_changed(self) -> None:
        seen = self._seen
        try:
            seen = self._shelf.look()
            if seen == self._seen:
                return
            weights = self._shelf.find()
            if self._weights is not None and weights.digest == self._weights.digest:
                with self._changed:
                    self._replacement = {}
            else:
                with self._changed:
                    self._replacement = {"state": "loading", "name": weights.name, "sha256": weights.digest}
                self._load(weights)
            self._seen = seen
        except Exception as error:
            reason = self._told(error, self._replacement.get("reason", ""), "; the model before it serves on")
            with self._changed:
                self._replacement = {"state": "failed", "reason": reason}
            # What may pass is tried again at the next look; what is broken, when it is another.
            self._seen = _NEVER if _may_pass(error) else seen

    def _load(self, weights: Weights, *, replacement: Mapping[str, Any] | None = None) -> None:
        """From here on these weights are the default; `replacement` says why others are not. Raises what opening them
        raises."""
        started = time.monotonic()
        with self._changed:
            detector = self._detectors.get(weights.digest)
        if detector is None:
            detector = self._open(weights.path)
        with self._changed:
            self._detectors.pop(weights.digest, None)
            self._detectors[weights.digest] = (
                detector  # the newest: an earlier default is forgotten before it
            )
            self._replacement = dict(replacement or {})
        self._set("ready", weights=weights, reason="")
        self._shelf.loaded(weights)
        with self._changed:
            self._forget_oldest()
        log.info(
            "model %s (%s, %d classes: %s) ready after %.1f s",
            weights.version,
            detector.task,
            len(detector.class_names),
            ", ".join(detector.class_names[:20]),
            time.monotonic() - started,
        )

    def _told(self, error: Exception, before: str, then: str = "") -> str:
        """The reason in words, said in the log when it is another than before."""
        known = isinstance(error, BridgeError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        if reason != before:
            log.error("the model cannot be used: %s%s", reason, then, exc_info=None if known else error)
        return reason

    def _set(self, state: State, *, weights: Weights | None = None, reason: str) -> None:
        with self._changed:
            self._state, self._reason = state, reason
            if weights is not None:
                self._weights = weights
            self._changed.notify_all()
