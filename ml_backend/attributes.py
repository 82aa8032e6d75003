"""The attributes of ours that a control tag of a labeling config may carry (docs/controls.md lists them). Pure.

What cannot be read is named and left out: one wrong attribute does not cost the control.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

_DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,2})?|\d{1,2}")
TRACKERS = ("botsort", "bytetrack")
_SHARED_TRACKING = {
    "track_high_thresh": float,
    "track_low_thresh": float,
    "new_track_thresh": float,
    "track_buffer": int,
    "match_thresh": float,
    "fuse_score": bool,
}
TRACKER_OPTIONS: dict[str, dict[str, type]] = {
    "bytetrack": _SHARED_TRACKING,
    "botsort": _SHARED_TRACKING
    | {"gmc_method": str, "proximity_thresh": float, "appearance_thresh": float, "with_reid": bool},
}
_GMC = ("sparseOptFlow", "orb", "sift", "ecc", "none")


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How a `<TimelineLabels model_trainable="true">` learns. `sequence_size`: frames looked at together. Training ends
    at `epochs`, or when the examples are told to `f1_threshold` or `accuracy_threshold`, 0…1."""

    epochs: int = 1000
    sequence_size: int = 16
    hidden_size: int = 32
    num_layers: int = 1
    f1_threshold: float = 0.95
    accuracy_threshold: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a control tag asks for; None: the settings' or the model's own.

    `threshold`, `conf`, `iou`, `point_threshold`: 0…1. `imgsz`: px. `point_size`: percent of the image's width.
    `polygon_tolerance`: px of the displayed image. `tracking`: (name, value) of the tracker's options. `learning`: of a
    control whose labels are learned from annotations."""

    threshold: float | None = None
    conf: float | None = None
    iou: float | None = None
    imgsz: int | None = None
    max_det: int | None = None
    classes: tuple[str, ...] = ()
    device: str | None = None
    model_path: str | None = None
    model_version: str | None = None
    choice: str = "single"
    max_usages: int | None = None
    obb: bool = False
    add_bboxes: bool = True
    point_size: float = 1.0
    point_threshold: float = 0.0
    polygon_tolerance: float = 1.0
    tracker: str = "botsort"
    tracking: tuple[tuple[str, Any], ...] = ()
    learning: Learning | None = None

    def level(self, default: float) -> float:
        """The score that a region needs: `model_score_threshold`, or `model_conf` where only that is given."""
        if self.threshold is None:
            return default if self.conf is None else self.conf
        return self.threshold if self.conf is None else max(self.threshold, self.conf)

    def settled(self) -> list[Any]:
        """Everything that decides what regions come out, as JSON; the device does not, how to learn does only through what
        is learned, and weights count by themselves."""
        return [
            [field.name, getattr(self, field.name)]
            for field in fields(self)
            if field.name not in ("device", "model_version", "learning")
        ]


def read_attributes(attributes: Mapping[str, str]) -> tuple[Asked, tuple[str, ...]]:
    """What is asked, and what could not be read. Raises nothing."""
    problems: list[str] = []
    found = _read(attributes, _READERS, problems)
    found["tracking"] = _tracking(attributes, found.get("tracker", Asked.tracker), problems)
    if found.pop("trainable", False):
        found["learning"] = Learning(**_read(attributes, _OF_LEARNING, problems))
    return Asked(**found), tuple(problems)


def _read(
    attributes: Mapping[str, str],
    readers: Mapping[str, tuple[str, Callable[[str], Any], str]],
    problems: list[str],
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute, (name, read, allowed) in readers.items():
        raw = attributes.get(attribute, "").strip()
        if not raw or (attribute == "score_threshold" and "threshold" in found):
            continue
        value = read(raw)
        if value is None:
            problems.append(f"{attribute}={raw!r} is left out: it must be {allowed}")
        else:
            found[name] = value
    return found


def is_true(raw: str | None) -> bool:
    """Whether an attribute says yes."""
    return bool(raw) and bool(_flag(str(raw).strip()))


def _tracking(
    attributes: Mapping[str, str], tracker: str, problems: list[str]
) -> tuple[tuple[str, Any], ...]:
    found: list[tuple[str, Any]] = []
    for attribute, raw in sorted(attributes.items()):
        kind, _, option = attribute.partition("_")
        if kind not in TRACKER_OPTIONS or kind != tracker:
            continue
        wanted = TRACKER_OPTIONS[kind].get(option)
        if wanted is None:
            known = ", ".join(TRACKER_OPTIONS[kind])
            problems.append(f"{attribute} is left out: {kind} has no such option; it has: {known}")
            continue
        value = _option(raw.strip(), wanted)
        if value is None or (option == "gmc_method" and value not in _GMC):
            problems.append(f"{attribute}={raw!r} is left out: it cannot be read")
        elif option == "with_reid" and value:
            problems.append(f"{attribute} is left out: it needs a second model")
        else:
            found.append((option, value))
    return tuple(found)


def _option(raw: str, wanted: type) -> Any:
    if wanted is bool:
        return _flag(raw)
    if wanted is int:
        return _whole(0, 100_000)(raw)
    return _between(0, 1)(raw) if wanted is float else raw


def _flag(raw: str) -> bool | None:
    lowered = raw.lower()
    if lowered in ("true", "yes", "1", "on"):
        return True
    return False if lowered in ("false", "no", "0", "off") else None


def _between(low: float, high: float) -> Callable[[str], float | None]:
    def read(raw: str) -> float | None:
        try:
            value = float(raw)
        except ValueError:
            return None
        return value if math.isfinite(value) and low <= value <= high else None

    return read


def _whole(low: int, high: int) -> Callable[[str], int | None]:
    def read(raw: str) -> int | None:
        if not re.fullmatch(r"\d{1,9}", raw):
            return None
        return int(raw) if low <= int(raw) <= high else None

    return read


def _device(raw: str) -> str | None:
    lowered = raw.lower()
    if not _DEVICE.fullmatch(lowered):
        return None
    return "cuda:0" if lowered == "cuda" else f"cuda:{lowered}" if lowered.isdigit() else lowered


def _list(raw: str) -> tuple[str, ...] | None:
    return tuple(item.strip() for item in raw.split(",") if item.strip()) or None


def _tracker(raw: str) -> str | None:
    name = raw.lower().removesuffix(".yaml")
    return name if name in TRACKERS else None


def _choice(raw: str) -> str | None:
    return raw.lower() if raw.lower() in ("single", "single-radio", "multiple") else None


_FRACTION = "a number from 0 to 1"
_YES_NO = "true or false"
_READERS: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "model_score_threshold": ("threshold", _between(0, 1), _FRACTION),
    "score_threshold": ("threshold", _between(0, 1), _FRACTION),
    "model_conf": ("conf", _between(0, 1), _FRACTION),
    "model_iou": ("iou", _between(0, 1), _FRACTION),
    "model_imgsz": ("imgsz", _whole(32, 4096), "a whole number of pixels from 32 to 4096"),
    "model_max_det": ("max_det", _whole(1, 10_000), "a whole number from 1 to 10000"),
    "model_classes": ("classes", _list, "classes of the model, by name or number, with commas between"),
    "model_device": ("device", _device, "cpu, cuda, cuda:0, 0 or mps"),
    "model_path": ("model_path", lambda raw: raw, "a file inside MODEL_ROOT"),
    "model_version": ("model_version", lambda raw: raw, "a model version"),
    "choice": ("choice", _choice, "single, single-radio or multiple"),
    "maxUsages": ("max_usages", _whole(1, 10_000), "a whole number above 0"),
    "model_obb": ("obb", _flag, _YES_NO),
    "model_add_bboxes": ("add_bboxes", _flag, _YES_NO),
    "model_point_size": ("point_size", _between(0.01, 100), "percent of the image's width"),
    "model_point_threshold": ("point_threshold", _between(0, 1), _FRACTION),
    "model_polygon_tolerance": ("polygon_tolerance", _between(0, 1000), "pixels, from 0 to 1000"),
    "model_tracker": ("tracker", _tracker, " or ".join(TRACKERS)),
    "model_trainable": ("trainable", _flag, _YES_NO),
}
_OF_LEARNING: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "model_classifier_epochs": ("epochs", _whole(1, 100_000), "a whole number from 1 to 100000"),
    "model_classifier_sequence_size": ("sequence_size", _whole(2, 4096), "frames, from 2 to 4096"),
    "model_classifier_hidden_size": ("hidden_size", _whole(1, 1024), "a whole number from 1 to 1024"),
    "model_classifier_num_layers": ("num_layers", _whole(1, 8), "a whole number from 1 to 8"),
    "model_classifier_f1_threshold": ("f1_threshold", _between(0, 1), _FRACTION),
    "model_classifier_accuracy_threshold": ("accuracy_threshold", _between(0, 1), _FRACTION),
}
READ_ATTRIBUTES = frozenset(_READERS) | frozenset(_OF_LEARNING)
