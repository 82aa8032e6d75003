"""What was learned for one timeline control, as plain arrays: nothing in its file can run. Pure.

The file is numpy's .npz, read without pickle: arrays, and one text that says what they are for.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bridge.errors import Corrupt

_FORMAT = 1
_ABOUT = "about"


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """`labels` as regions hold them, in the order of the outputs. `weights`: SHA-256 of the network whose features it reads,
    `features` of them a frame, of pictures brought to `imgsz` (None: the network's own size)."""

    labels: tuple[str, ...]
    weights: str
    features: int
    imgsz: int | None
    sequence_size: int
    hidden_size: int
    num_layers: int
    arrays: Mapping[str, np.ndarray] = field(compare=False, repr=False)
    digest: str = ""
    """SHA-256 of its file: another one predicts something else."""


def file_of(classifier: Classifier) -> bytes:
    """The same arrays always give the same bytes."""
    about = {
        "format": _FORMAT,
        "labels": list(classifier.labels),
        "weights": classifier.weights,
        "features": classifier.features,
        "imgsz": classifier.imgsz,
        "sequence_size": classifier.sequence_size,
        "hidden_size": classifier.hidden_size,
        "num_layers": classifier.num_layers,
    }
    text = np.frombuffer(json.dumps(about, sort_keys=True).encode(), dtype=np.uint8)
    out = io.BytesIO()
    arrays: dict[str, Any] = {
        _ABOUT: text,
        **{name: classifier.arrays[name] for name in sorted(classifier.arrays)},
    }
    np.savez(out, **arrays)
    return out.getvalue()


def read_classifier(body: bytes) -> Classifier:
    """Raises Corrupt."""
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about: Any = json.loads(arrays.pop(_ABOUT).tobytes())
        if about["format"] != _FORMAT:
            raise Corrupt("the classifier was written by another version of this backend", hint="train again")
        return Classifier(
            labels=tuple(str(label) for label in about["labels"]),
            weights=str(about["weights"]),
            features=int(about["features"]),
            imgsz=None if about["imgsz"] is None else int(about["imgsz"]),
            sequence_size=int(about["sequence_size"]),
            hidden_size=int(about["hidden_size"]),
            num_layers=int(about["num_layers"]),
            arrays=arrays,
            digest=hashlib.sha256(body).hexdigest(),
        )
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise Corrupt(f"the classifier cannot be read: {error}", hint="train again") from error
