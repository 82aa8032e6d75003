"""Every file of weights that may serve: what MODEL names now, what it named before, what is published beside it. The rim.

What served once is kept as a copy in the cache folder, by its digest: replacing the file in place, or losing the bucket,
takes nothing from a model that serves; and an older version can be asked for again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Hashable
from pathlib import Path

from bridge.errors import Corrupt, NotFound, Unavailable
from bridge.keys import ModelKey, ModelsLayout
from bridge.published import MANIFEST, Published, read_manifest, read_pointer
from bridge.store import ObjectStore
from ml_backend.weights import Weights, bucket_and_key, find_weights, weights_of

log = logging.getLogger(__name__)
_KEPT = 8
_NOTE = "kept.json"


class Library:
    """Safe to use from several threads; several processes may share the folder. `model`: what MODEL says."""

    def __init__(self, model: str, *, cache_dir: Path, open_bucket: Callable[[str], ObjectStore]) -> None:
        self._model = model
        self._cache_dir = cache_dir
        self._folder = cache_dir / "weights" / "kept"
        self._open_bucket = open_bucket
        self._store: ObjectStore | None = None
        self._lock = threading.Lock()
        self._published: dict[str, Published] = {}

    def look(self) -> Hashable:
        """Something that is another when MODEL is another; much cheaper than `find`. Raises BridgeError."""
        if not self._model.startswith("s3://"):
            return _state_of(Path(self._model))
        _, key = bucket_and_key(self._model)
        if self._layout is not None:
            self._list_published()
            return self._bucket.get(key)
        info = self._bucket.head(key)
        if info is None:
            raise NotFound(f"there is no object {self._model}", hint="check MODEL")
        return info.md5, info.size_bytes, info.last_modified

    def find(self) -> Weights:
        """What MODEL names now, as a copy of our own that nobody changes. Raises BridgeError."""
        if self._layout is None:
            before = self._state_on_disk()
            found = find_weights(self._model, cache_dir=self._cache_dir, open_bucket=lambda _: self._bucket)
            kept = self._keep(found)
            if self._state_on_disk() != before:
                raise Unavailable(
                    f"{found.path.name} is being written just now", hint="it is looked at again"
                )
            return kept
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
        if published is None or self._layout is None:
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
        with self._lock:
            published = sorted(self._published.values(), key=lambda one: one.published_at, reverse=True)
        return [*self._kept(), *(self._weights_of(one) for one in published)]

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
            try:
                if json.loads((weights.path.parent / _NOTE).read_text()).get("model") == self._model:
                    return weights
            except (OSError, ValueError, AttributeError):
                continue
        return None

    @property
    def _layout(self) -> ModelsLayout | None:
        """Where MODEL is a pointer: what lies beside it."""
        if not self._model.startswith("s3://") or not self._model.endswith(".json"):
            return None
        _, key = bucket_and_key(self._model)
        layout = ModelsLayout(key[: key.rfind("/") + 1])
        return layout if layout.pointer == key else None

    @property
    def _bucket(self) -> ObjectStore:
        with self._lock:
            if self._store is None:
                self._store = self._open_bucket(bucket_and_key(self._model)[0])
            return self._store

    def _state_on_disk(self) -> Hashable:
        return None if self._model.startswith("s3://") else _state_of(Path(self._model))

    def _manifest(self, version: str) -> Published:
        assert self._layout is not None
        key = self._layout.model(ModelKey(version=version, name=MANIFEST))
        found = read_manifest(self._bucket.get(key), where=key)
        if found.version != version:
            raise Corrupt(f"{key} is the manifest of {found.version}")
        return found

    def _list_published(self) -> None:
        """Manifests never change, so each is read once. One that cannot be read is passed over."""
        layout, bucket = self._layout, self._bucket
        assert layout is not None
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
                if (folder / _NOTE).is_file():
                    found.append(Weights(path=path, name=path.stem, digest=folder.name))
        return found

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
