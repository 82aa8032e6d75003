"""Every file of weights that may serve: what MODEL names now, what it named before, what is published in the bucket. The rim.

What served once is kept as a copy in the cache folder, by its digest: replacing the file in place, or losing the bucket,
takes nothing from a model that serves; and an older version can be asked for again. Nothing is given out from the bucket or
the cache folder whose SHA-256 is not the one it is known by: weights are code.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Hashable
from pathlib import Path

from bridge.errors import BridgeError, Corrupt, NotFound, Unavailable
from bridge.keys import ModelKey, ModelsLayout, models_prefix
from bridge.published import MANIFEST, Published, read_manifest, read_pointer
from bridge.store import ObjectStore
from ml_backend.weights import Weights, find_weights, published_version, weights_of

log = logging.getLogger(__name__)
_KEPT = 8
_NOTE = "kept.json"
_LIST_S = 60.0  # how often published weights are listed where MODEL is a file


class Library:
    """Safe to use from several threads; several processes may share the folder. `model`: what MODEL says; `bucket`,
    `prefix`: our own, where weights are published."""

    def __init__(
        self,
        model: str,
        *,
        cache_dir: Path,
        open_bucket: Callable[[str], ObjectStore],
        bucket: str,
        prefix: str = "",
    ) -> None:
        self._model = model
        self._folder = cache_dir / "weights" / "kept"
        self._open_bucket = open_bucket
        self._bucket_name = bucket
        self._layout = ModelsLayout(models_prefix(prefix))
        self._store: ObjectStore | None = None
        self._lock = threading.Lock()
        self._published: dict[str, Published] = {}
        self._listing = False
        self._list_at = 0.0
        self._list_problem = ""

    def look(self) -> Hashable:
        """Something that is another when MODEL is another; much cheaper than `find`. Raises BridgeError."""
        if not self._in_bucket:
            self._list_beside()
            return _state_of(Path(self._model))
        version = self._asked(self._model)
        self._list_published()
        if version is None:
            return self._bucket.get(self._layout.pointer)
        return self._manifest(version).sha256

    def find(self) -> Weights:
        """What MODEL names now, as a copy of our own that nobody changes. Raises BridgeError."""
        if not self._in_bucket:
            before = _state_of(Path(self._model))
            found = find_weights(self._model)
            kept = self._keep(found)
            if _state_of(Path(self._model)) != before:
                raise Unavailable(
                    f"{found.path.name} is being written just now", hint="it is looked at again"
                )
            return kept
        version = self._asked(self._model)
        if version is None:
            version = read_pointer(self._bucket.get(self._layout.pointer), where=self._model)
        published = self._manifest(version)
        with self._lock:
            self._published[version] = published
        weights = self._weights_of(published)
        return Weights(path=self.fetch(weights), name=weights.name, digest=weights.digest)

    def fetch(self, weights: Weights) -> Path:
        """The file, checked against its digest. Raises NotFound, Corrupt, Unavailable."""
        if weights.path.is_file():
            if weights_of(weights.path).digest == weights.digest:
                return weights.path
            if self._folder not in weights.path.parents:
                raise Unavailable(f"{weights.path.name} is another file by now", hint="try again")
            weights.path.unlink(missing_ok=True)
        with self._lock:
            published = self._published.get(weights.version)
        if published is None:
            raise NotFound(f"the weights {weights.version} are no longer at hand")
        key = self._layout.model(ModelKey(version=published.version, name=published.file))
        weights.path.parent.mkdir(parents=True, exist_ok=True)
        partial = weights.path.parent / f"{uuid.uuid4().hex}.fetching"
        try:
            self._bucket.download(key, partial)
            if weights_of(partial).digest != published.sha256:
                raise Corrupt(f"{key} is not what its manifest says", hint="publish it again")
            partial.replace(weights.path)
        finally:
            partial.unlink(missing_ok=True)
        return weights.path

    def others(self) -> list[Weights]:
        """What else may be asked for, newest first; waits for nothing. Those published may still have to be fetched."""
        return [*self._kept(), *(self._weights_of(one) for one in self._newest_published())]

    def published(self) -> list[str]:
        """The versions in the bucket as they were listed last, newest first; waits for nothing."""
        return [one.version for one in self._newest_published()]

    def loaded(self, weights: Weights) -> None:
        """It works, and serves from now on."""
        note = weights.path.parent / _NOTE
        if self._folder not in weights.path.parents:
            return
        try:
            note.write_text(json.dumps({"model": self._model}))
            os.utime(weights.path.parent)
            for old in self._folders()[_KEPT:]:
                shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            log.warning("%s cannot be noted: %s", weights.version, error)

    def last_good(self) -> Weights | None:
        """What served last for this MODEL: better than nothing when it cannot be used as it is now."""
        for weights in self._kept():
            if self._noted(weights.path.parent) != self._model:
                continue
            try:
                if weights_of(weights.path).digest == weights.digest:
                    return weights
            except NotFound:
                continue
            log.warning("%s in the cache folder is no longer what it was, and is not used", weights.version)
        return None

    @property
    def _in_bucket(self) -> bool:
        return self._model.startswith("s3://")

    def _asked(self, model: str) -> str | None:
        return published_version(model, bucket=self._bucket_name, layout=self._layout)

    @property
    def _bucket(self) -> ObjectStore:
        with self._lock:
            if self._store is None:
                self._store = self._open_bucket(self._bucket_name)
            return self._store

    def _manifest(self, version: str) -> Published:
        key = self._layout.model(ModelKey(version=version, name=MANIFEST))
        try:
            body = self._bucket.get(key)
        except NotFound as error:
            raise NotFound(
                f"{version} has no manifest in the bucket, and weights without their checksum are not loaded",
                hint="publish the file again: python -m sidecar model publish FILE --activate",
            ) from error
        found = read_manifest(body, where=key)
        if found.version != version:
            raise Corrupt(f"{key} is the manifest of {found.version}")
        return found

    def _list_published(self) -> None:
        """Manifests never change, so each is read once. One that cannot be read is passed over."""
        layout, bucket = self._layout, self._bucket
        keys = [found for info in bucket.keys(layout.root) if (found := layout.parse_model(info.key))]
        there = {found.version for found in keys if found.name == MANIFEST}
        known: dict[str, Published] = {}
        for version in there:
            with self._lock:
                published = self._published.get(version)
            try:
                known[version] = published or self._manifest(version)
            except (Corrupt, NotFound) as error:
                log.warning("published weights are passed over: %s", error)
        with self._lock:
            self._published = known

    def _list_beside(self) -> None:
        """Where MODEL is a file: now and then, and on a thread of its own, since a store that is down or hangs must keep
        no replaced file waiting."""
        with self._lock:
            if self._listing or time.monotonic() < self._list_at:
                return
            self._listing = True
        threading.Thread(target=self._list_quietly, name="published-weights", daemon=True).start()

    def _list_quietly(self) -> None:
        problem = ""
        try:
            self._list_published()
        except BridgeError as error:
            problem = str(error)
        finally:
            with self._lock:
                is_news = problem != self._list_problem
                self._listing, self._list_at = False, time.monotonic() + _LIST_S
                self._list_problem = problem
        if problem and is_news:
            log.warning("published weights cannot be listed, those listed last can be asked for: %s", problem)

    def _newest_published(self) -> list[Published]:
        with self._lock:
            return sorted(self._published.values(), key=lambda one: one.published_at, reverse=True)

    def _weights_of(self, published: Published) -> Weights:
        path = self._folder / published.sha256 / f"{published.name}.pt"
        return Weights(path=path, name=published.name, digest=published.sha256)

    def _keep(self, weights: Weights) -> Weights:
        place = self._folder / weights.digest
        path = place / weights.path.name
        try:
            if not (path.is_file() and weights_of(path).digest == weights.digest):
                place.mkdir(parents=True, exist_ok=True)
                partial = place / f"{uuid.uuid4().hex}.fetching"
                try:
                    shutil.copyfile(weights.path, partial)
                    if weights_of(partial).digest != weights.digest:
                        raise Unavailable(
                            f"{weights.path.name} is being written just now", hint="it is looked at again"
                        )
                    partial.replace(path)
                finally:
                    partial.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s is used where it is, no copy can be kept: %s", weights.path.name, error)
            return weights
        return Weights(path=path, name=weights.name, digest=weights.digest)

    def _kept(self) -> list[Weights]:
        found = []
        for folder in self._folders():
            for path in sorted(folder.glob("*.pt")):
                if self._may_serve(self._noted(folder)):
                    found.append(Weights(path=path, name=path.stem, digest=folder.name))
        return found

    def _noted(self, folder: Path) -> str | None:
        """What MODEL said when these weights served last; None when they never did."""
        try:
            model = json.loads((folder / _NOTE).read_text()).get("model")
        except (OSError, ValueError, AttributeError):
            return None
        return model if isinstance(model, str) else None

    def _may_serve(self, model: str | None) -> bool:
        """Whether what a MODEL named may be asked for: not what an object without a manifest once was."""
        if model is None:
            return False
        try:
            if model.startswith("s3://"):
                self._asked(model)
        except BridgeError:
            return False
        return True

    def _folders(self) -> list[Path]:
        """Of kept weights, the one that served last first."""
        try:
            with_times = [
                (path.stat().st_mtime, path) for path in self._folder.iterdir() if len(path.name) == 64
            ]
        except OSError:
            return []
        return [path for _, path in sorted(with_times, reverse=True)]


def _state_of(path: Path) -> Hashable:
    try:
        found = path.stat()
    except OSError:
        raise NotFound(f"there is no weights file {path.name!r}", hint="check MODEL") from None
    return found.st_mtime_ns, found.st_size, found.st_ino
