"""Where the weights are: a file, or an object of the bucket fetched into the cache folder. The rim.

Weights are named by what is in them: Label Studio predicts again only when the model's version changes.
"""

from __future__ import annotations

import hashlib
import logging
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import NotFound, SenderError, Unavailable
from bridge.store import ObjectStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One file of weights. `digest` is the hex SHA-256 of its bytes, `name` the file name without its ending."""

    path: Path
    name: str
    digest: str

    @property
    def version(self) -> str:
        """What the model_version of everything predicted with them begins with."""
        return f"{self.name[:40]}.{self.digest[:8]}"


def bucket_and_key(model: str) -> tuple[str, str]:
    """Of s3://bucket/key. Raises NotFound."""
    bucket, _, key = model.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise NotFound(f"MODEL={model!r} names no object", hint="write s3://bucket/key")
    return bucket, key


def find_weights(model: str, *, cache_dir: Path, open_bucket: Callable[[str], ObjectStore]) -> Weights:
    """What `MODEL` names: a file, or s3://bucket/key. Raises NotFound, Refused or Unavailable.

    An object is fetched when it is not in the cache as it is now; if the store is down, the copy fetched last serves.
    """
    if not model.startswith("s3://"):
        path = Path(model)
        if not path.is_file():
            raise NotFound(f"there is no weights file {path.name!r}", hint="check MODEL")
        return weights_of(path)
    bucket, key = bucket_and_key(model)
    place = cache_dir / "weights" / hashlib.sha256(model.encode()).hexdigest()[:16]
    try:
        return weights_of(_fetched(open_bucket(bucket), bucket, key, place))
    except Unavailable as error:
        copies = sorted(place.glob("*/*"), key=lambda path: path.stat().st_mtime, reverse=True)
        if not copies:
            raise
        log.warning("the weights fetched last are used: %s", error)
        return weights_of(copies[0])


def weights_of(path: Path) -> Weights:
    """Raises NotFound when the file cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise NotFound(f"the weights file {path.name!r} cannot be read: {error.strerror}") from error
    return Weights(path=path, name=path.stem, digest=digest)


def below_model_root(model_path: str, model_root: Path) -> Path:
    """The file that a labeling config's `model_path` names. Raises SenderError when it is not inside MODEL_ROOT.

    Whoever edits a labeling config would otherwise choose what is loaded from the whole disk."""
    root = model_root.resolve()
    path = (root / model_path.replace("\0", "")).resolve()  # also follows links, which may lead outside
    if "\0" in model_path or not path.is_relative_to(root) or path.suffix != ".pt":
        raise SenderError(f"model_path={model_path!r} is no .pt file inside MODEL_ROOT")
    try:
        there = path.is_file()
    except OSError:  # a name longer than file systems take
        there = False
    if not there:
        raise SenderError(f"model_path={model_path!r}: there is no such file inside MODEL_ROOT")
    return path


def _fetched(store: ObjectStore, bucket: str, key: str, place: Path) -> Path:
    info = store.head(key)
    if info is None:
        raise NotFound(f"there is no object s3://{bucket}/{key}", hint="check MODEL")
    state = re.sub(r"\W", "", f"{info.md5 or ''}{info.size_bytes}{info.last_modified.timestamp():.0f}")
    path = place / state / Path(key).name
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for each try: two programs may share the folder. The rename makes it whole or absent.
    partial = place / f"{uuid.uuid4().hex}.fetching"
    try:
        store.download(key, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
