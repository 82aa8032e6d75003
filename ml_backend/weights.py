"""What a file of weights is, and which ones MODEL and labeling configs may name. The rim.

Weights are named by what is in them: Label Studio predicts again only when the model's version changes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import NotFound, SenderError, SettingsError
from bridge.keys import ModelsLayout


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


def published_version(model: str, *, bucket: str, layout: ModelsLayout) -> str | None:
    """Which version MODEL=s3://… names: one below our own prefix of our own bucket, or None for the one its pointer names.

    Weights are code: of an object without a manifest nobody can say whether it is what somebody once trusted. Raises
    SettingsError for such a one."""
    own = f"s3://{bucket}/{layout.root}"
    there, key = bucket_and_key(model)
    if there == bucket:
        if key == layout.pointer:
            return None
        if (found := layout.parse_model(key)) is not None:
            return found.version
    raise SettingsError(
        f"MODEL={model!r} is no version published below {own}: it has no manifest, and an object without its checksum "
        "is not loaded, since weights are code",
        hint=f"download it, publish it with `python -m sidecar model publish FILE --activate`, and set "
        f"MODEL=s3://{bucket}/{layout.pointer}",
    )


def find_weights(model: str) -> Weights:
    """The file that MODEL names. Raises NotFound."""
    path = Path(model)
    if not path.is_file():
        raise NotFound(f"there is no weights file {path.name!r}", hint="check MODEL")
    return weights_of(path)


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
