"""What was learned, by project, control and weights: in the cache folder, and in the bucket for the other backends. The rim.

A classifier's file is named by its SHA-256; the manifest beside it, written last, says which one serves and what it was trained
on. Nothing is read whose SHA-256 is not the manifest's. Of two manifests, the one trained later counts, wherever it lies.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError, Corrupt, NotFound
from bridge.keys import TimelineKey, timeline_key
from bridge.store import ObjectStore
from ml_backend.timeline.classifier import Classifier, file_of, read_classifier

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
_KNOWN = 200  # places remembered
_AGAIN_S = 10.0  # how often the bucket is looked at for a place that is asked about


@dataclass(frozen=True, kw_only=True)
class Place:
    """Whose classifier: a project's (its uid), a control's (its name), on top of weights (their SHA-256)."""

    uid: str
    control: str
    weights: str


@dataclass
class _Known:
    manifest: dict[str, Any] | None = None
    classifier: Classifier | None = None
    looking: threading.Thread | None = None
    look_at: float = 0.0
    problem: str = ""


class Classifiers:
    """Safe to use from several threads; processes may share the folder. `store` None: this machine alone."""

    def __init__(
        self,
        folder: Path,
        *,
        store: Callable[[], ObjectStore] | None = None,
        prefix: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._store = store
        self._prefix = prefix
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[Place, _Known] = OrderedDict()

    def find(self, place: Place, *, wait_s: float = 0.0) -> Classifier | None:
        """The one trained last, as far as is known; `wait_s`: for the bucket, where this machine has none."""
        known = self._of(place)
        self._read_folder(place, known)
        looking = self._look(place, known)
        if known.classifier is None and looking is not None:
            looking.join(wait_s)
        return known.classifier

    def told(self, place: Place) -> Mapping[str, Any]:
        """What its manifest says, of one that was found; else empty."""
        return self._of(place).manifest or {}

    def save(self, place: Place, classifier: Classifier, about: Mapping[str, Any]) -> Classifier:
        """It serves from now on. Raises OSError when the folder takes nothing; a bucket that is away is tried again."""
        body = file_of(classifier)
        digest = hashlib.sha256(body).hexdigest()
        manifest = {
            "format": 1,
            "sha256": digest,
            "size_bytes": len(body),
            "trained_at": time.time(),
            **about,
        }
        saved = replace(classifier, digest=digest)
        self._write(place, body, manifest)
        known = self._of(place)
        with self._lock:
            known.manifest, known.classifier, known.look_at = manifest, saved, 0.0
        self._look(place, known)
        return saved

    def flush(self) -> None:
        """Wait until nobody looks at the bucket; for tests."""
        for known in list(self._known.values()):
            if known.looking is not None:
                known.looking.join()

    def _of(self, place: Place) -> _Known:
        with self._lock:
            known = self._known.setdefault(place, _Known())
            self._known.move_to_end(place)
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)
            return known

    def _look(self, place: Place, known: _Known) -> threading.Thread | None:
        """Compare with the bucket on a thread of its own, when it is time; the thread that does, if any."""
        if self._store is None:
            return None
        with self._lock:
            if known.looking is None and self._clock() >= known.look_at:
                known.looking = threading.Thread(
                    target=self._compare, args=(place, known), name="timelines", daemon=True
                )
                known.looking.start()
            return known.looking

    def _compare(self, place: Place, known: _Known) -> None:
        problem = ""
        try:
            assert self._store is not None
            store = self._store()
            theirs = self._manifest_in(store, place)
            ours = known.manifest
            if theirs is not None and (ours is None or _when(theirs) > _when(ours)):
                body = store.get(self._key(place, f"{theirs['sha256']}.npz"))
                self._write(place, body, theirs)
                self._read_folder(place, known)
                log.info("project %s: what %r learned came from the bucket", place.uid, place.control)
            elif ours is not None and (theirs is None or _when(ours) > _when(theirs)):
                self._share(store, place, ours, theirs)
        except (BridgeError, OSError, KeyError, TypeError) as error:
            problem = str(error)
            if problem != known.problem:  # once for each time that it stops working
                log.warning("project %s: learned timelines and the bucket: %s", place.uid, error)
        finally:
            known.problem = problem
            with self._lock:
                known.looking, known.look_at = None, self._clock() + _AGAIN_S

    def _manifest_in(self, store: ObjectStore, place: Place) -> dict[str, Any] | None:
        key = self._key(place, MANIFEST)
        try:
            return _read_manifest(store.get(key), key)
        except NotFound:
            return None

    def _share(
        self, store: ObjectStore, place: Place, ours: dict[str, Any], theirs: dict[str, Any] | None
    ) -> None:
        """The file, then the manifest; then those before the last two go."""
        name = f"{ours['sha256']}.npz"
        store.put(self._key(place, name), (self._place(place) / name).read_bytes())
        store.put(self._key(place, MANIFEST), _json(ours), content_type="application/json")
        kept = {name, MANIFEST, f"{theirs['sha256']}.npz" if theirs else ""}
        for info in list(store.keys(self._key(place, ""))):
            if info.key.rpartition("/")[2] not in kept:
                store.delete(info.key)

    def _read_folder(self, place: Place, known: _Known) -> None:
        folder = self._place(place)
        try:
            manifest = _read_manifest((folder / MANIFEST).read_bytes(), MANIFEST)
            if known.manifest is not None and _when(manifest) <= _when(known.manifest):
                return
            body = (folder / f"{manifest['sha256']}.npz").read_bytes()
            classifier = read_classifier(_checked(body, manifest))
        except FileNotFoundError:
            return
        except (OSError, Corrupt) as error:
            log.warning("project %s: what %r learned is not used: %s", place.uid, place.control, error)
            return
        with self._lock:
            known.manifest, known.classifier = manifest, classifier

    def _write(self, place: Place, body: bytes, manifest: Mapping[str, Any]) -> None:
        """Raises Corrupt for a body that is not the manifest's, OSError."""
        read_classifier(_checked(body, manifest))
        folder = self._place(place)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{manifest['sha256']}.npz"
        for path, content in ((folder / name, body), (folder / MANIFEST, _json(manifest))):
            partial = path.with_name(f"{uuid.uuid4().hex}.partial")
            partial.write_bytes(content)
            partial.replace(path)
        for old in folder.glob("*.npz"):
            if old.name != name:
                old.unlink(missing_ok=True)

    def _place(self, place: Place) -> Path:
        key = TimelineKey(uid=place.uid, control=place.control, weights=place.weights, name="")
        return self._folder.joinpath(*timeline_key(key).strip("/").split("/")[2:])

    def _key(self, place: Place, name: str) -> str:
        key = TimelineKey(uid=place.uid, control=place.control, weights=place.weights, name=name)
        return timeline_key(key, self._prefix)


def _read_manifest(body: bytes, where: str) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("sha256"), str) or len(told["sha256"]) != 64:
        raise Corrupt(f"{where} is no manifest of a classifier", hint="train again")
    if not all(digit in "0123456789abcdef" for digit in told["sha256"]):
        raise Corrupt(f"{where}: sha256 is none", hint="train again")
    return told


def _checked(body: bytes, manifest: Mapping[str, Any]) -> bytes:
    if hashlib.sha256(body).hexdigest() != manifest["sha256"]:
        raise Corrupt("a classifier is not what its manifest says", hint="train again")
    return body


def _when(manifest: Mapping[str, Any]) -> float:
    at = manifest.get("trained_at")
    return float(at) if isinstance(at, int | float) else 0.0


def _json(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, indent=1).encode()
