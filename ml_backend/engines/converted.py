"""Converted networks, kept so that no machine converts twice: in the cache folder, and in the bucket for the others.

A network's place is a function of its weights, the kind of engine and the versions of the libraries that made it. It
is whole when its manifest is there, which is written last and has the checksum of every file. The rim.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError, Corrupt, NotFound
from bridge.keys import EngineKey, engine_key
from bridge.store import ObjectStore
from ml_backend.engines.convert import FILES

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
_LIBRARY = {"openvino": "openvino", "onnx": "onnxruntime", "tensorrt": "tensorrt"}
_CONVERT_S = 1800.0  # TensorRT takes minutes
Convert = Callable[[str, Path, Path], None]


def engine_id(kind: str, versions: Mapping[str, str], *, machine: str = "") -> str:
    """The kind and what it was made with; `machine` where a network serves only one kind of machine. Pure."""
    parts = [kind, *(f"{name}-{number}" for name, number in sorted(versions.items())), machine]
    return "-".join("".join(c if c.isalnum() or c in "._" else "_" for c in part) for part in parts if part)


def versions_for(kind: str) -> dict[str, str]:
    """Raises NotFound when the engine's package is not installed."""
    library = _LIBRARY[kind]
    try:
        return {library: version(library), "ultralytics": version("ultralytics")}
    except PackageNotFoundError as error:
        raise NotFound(f"the package {library} is not installed", hint=f"pip install {library}") from error


class Converted:
    """Gives the folder with a converted network. `store` opens the bucket; None keeps everything on this machine."""

    def __init__(
        self,
        folder: Path,
        *,
        store: Callable[[], ObjectStore] | None = None,
        prefix: str = "",
        convert: Convert | None = None,
    ) -> None:
        self._folder = folder
        self._store = store
        self._prefix = prefix
        self._convert = convert or in_a_process

    def get(self, kind: str, weights: Path, digest: str, *, engine: str, shared: bool = True) -> Path:
        """From the folder, else the bucket (unless not `shared`), else converted now, by one process at a time.

        `engine`: see engine_id. Raises BridgeError when it cannot be converted."""
        place = self._folder / digest[:32] / engine
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place.with_name(f"{engine}.lock")):
            if _whole(place, kind):
                return place
            shutil.rmtree(place, ignore_errors=True)
            for left in place.parent.glob(f"new-{engine}-*"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=f"new-{engine}-") as name:
                new = Path(name) / "network"
                new.mkdir()
                fetched = shared and self._fetch(kind, digest, engine, new)
                if not fetched:
                    self._convert(kind, weights, new)
                    (new / MANIFEST).write_bytes(_manifest(new, kind, digest, engine))
                new.replace(place)
        if shared and not fetched:
            self._share(kind, digest, engine, place)
        return place

    def _fetch(self, kind: str, digest: str, engine: str, folder: Path) -> bool:
        """False when the bucket has none, a damaged one, or does not answer: we can always convert."""
        if self._store is None:
            return False

        def key(name: str) -> str:
            return engine_key(EngineKey(digest=digest, engine=engine, name=name), self._prefix)

        try:
            store = self._store()
            if store.head(key(MANIFEST)) is None:
                return False
            (folder / MANIFEST).write_bytes(store.get(key(MANIFEST)))
            for name in FILES[kind]:
                store.download(key(name), folder / name)
        except BridgeError as error:
            log.warning("the converted network in the bucket is not used: %s", error)
        else:
            if _whole(folder, kind, check=True):
                log.info("converted network %s fetched from the bucket", engine)
                return True
            log.warning("the converted network in the bucket is damaged: %s is made again", engine)
        for path in folder.iterdir():
            path.unlink()
        return False

    def _share(self, kind: str, digest: str, engine: str, place: Path) -> None:
        """For other machines. Without it they convert for themselves, so a bucket that is away costs nothing."""
        if self._store is None:
            return
        try:
            store = self._store()
            for name in (*FILES[kind], MANIFEST):
                store.upload(
                    engine_key(EngineKey(digest=digest, engine=engine, name=name), self._prefix), place / name
                )
        except BridgeError as error:
            log.warning("the converted network is not in the bucket: %s", error)


def in_a_process(kind: str, weights: Path, folder: Path) -> None:
    """Raises Corrupt with the last line it said when the conversion fails."""
    command = [
        sys.executable,
        "-m",
        "ml_backend.engines.convert",
        kind,
        str(weights.resolve()),
        str(folder.resolve()),
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CONVERT_S,
            check=False,
            cwd=Path(__file__).parents[2],
        )
    except subprocess.TimeoutExpired as error:
        raise Corrupt(f"converting to {kind} took more than {_CONVERT_S:g} s") from error
    if done.returncode != 0 or not all((folder / name).is_file() for name in FILES[kind]):
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = lines[-1].strip()[:300] if lines else f"ended with {done.returncode}"
        raise Corrupt(f"{weights.name} cannot be converted to {kind}: {reason}")


def _manifest(folder: Path, kind: str, digest: str, engine: str) -> bytes:
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
        for name in FILES[kind]
    }
    return json.dumps({"weights_sha256": digest, "engine": engine, "files": files}, indent=1).encode()


def _whole(folder: Path, kind: str, *, check: bool = False) -> bool:
    """`check`: compare the checksums; on our own disk the rename has made the folder whole or absent."""
    try:
        files: Any = json.loads((folder / MANIFEST).read_bytes())["files"]
        return all(
            (folder / name).stat().st_size == files[name]["size"]
            and (not check or _sha256(folder / name) == files[name]["sha256"])
            for name in FILES[kind]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one process; a process that dies gives it back."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
