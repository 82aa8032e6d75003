"""Reading a labeling config: which controls of ours it has, on which pictures, with which attributes. Pure.

Label Studio compares tag names without regard to case, and writes a label's `alias` into regions where it has one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

from bridge.errors import SenderError
from ml_backend.labels import ConfigLabel

_MAX_CHARS = 4_000_000
_LABEL_TAGS = ("label", "choice")
UNNAMED_KEY = (
    "$undefined$"  # where Label Studio puts a file that was imported before the config named its key
)


@dataclass(frozen=True, kw_only=True)
class ControlTag:
    """One control on one image. `kind` is the tag in lower case; `image_value` the image's `value`, e.g. "$image".

    `threshold` and `model_path` are None where the config does not give them. `problems` names attributes that
    could not be read and were left out."""

    kind: str
    tag: str
    name: str
    to_name: str
    image_value: str
    labels: tuple[ConfigLabel, ...]
    threshold: float | None
    model_path: str | None
    choice: str
    problems: tuple[str, ...] = ()


@lru_cache(maxsize=64)
def parse_config(text: str) -> tuple[ControlTag, ...]:
    """Every control with labels on an `<Image>`, in order, but those with `model_skip="true"`.

    Raises SenderError when the text is not XML."""
    if len(text) > _MAX_CHARS:
        raise SenderError(f"the labeling config has {len(text)} characters; {_MAX_CHARS} at most")
    try:
        root = ElementTree.fromstring(text.strip() or "<View/>")
    except (ElementTree.ParseError, ValueError) as error:
        raise SenderError(f"the labeling config is not XML: {error}") from error
    images = {
        element.get("name", ""): element.get("value", "")
        for element in root.iter()
        if element.tag.lower() == "image" and element.get("name")
    }
    found = (_control(element, images) for element in root.iter() if isinstance(element.tag, str))
    return tuple(control for control in found if control is not None)


def _control(element: ElementTree.Element, images: Mapping[str, str]) -> ControlTag | None:
    to_name = element.get("toName", "").split(",")[0].strip()
    name = element.get("name")
    if not name or to_name not in images or element.get("model_skip", "").strip().lower() == "true":
        return None
    labels = tuple(
        _label(child) for child in element.iter() if child.tag.lower() in _LABEL_TAGS and child.get("value")
    )
    threshold, problems = _threshold(element)
    return ControlTag(
        kind=element.tag.lower(),
        tag=element.tag,
        name=name,
        to_name=to_name,
        image_value=images[to_name],
        labels=labels,
        threshold=threshold,
        model_path=element.get("model_path", "").strip() or None,
        choice=element.get("choice", "single").strip().lower(),
        problems=tuple(f"{element.tag} {name!r}: {problem}" for problem in problems),
    )


def _label(element: ElementTree.Element) -> ConfigLabel:
    value = element.get("value", "")
    listed = (item.strip() for item in element.get("predicted_values", "").split(","))
    return ConfigLabel(
        value=value,
        written=element.get("alias") or value,
        predicted_values=tuple(item for item in listed if item),
    )


def _threshold(element: ElementTree.Element) -> tuple[float | None, list[str]]:
    for attribute in ("model_score_threshold", "score_threshold"):
        raw = element.get(attribute, "").strip()
        if not raw:
            continue
        try:
            threshold = float(raw)
        except ValueError:
            threshold = -1.0
        if 0 <= threshold <= 1:
            return threshold, []
        return None, [f"{attribute}={raw!r} is no number from 0 to 1; MODEL_SCORE_THRESHOLD is used instead"]
    return None, []


def image_reference(value: str, data: Mapping[str, Any]) -> str:
    """What a task's data names as the image of an `<Image value="…">`: an address, or a path within Label Studio.

    `value` may hold `$key`, `$key.inner[0]` and text around it, as Label Studio allows. Raises SenderError naming
    the missing key and the keys that are there."""
    if not value.startswith("$") and "$" not in value:
        return value
    if value[1:] in data:
        found = data[value[1:]]
    elif set(data) == {UNNAMED_KEY}:
        found = data[UNNAMED_KEY]
    elif re.fullmatch(r"\$[\w.\[\]]+", value):
        found = _looked_up(value[1:], data)
    else:
        found = re.sub(r"\$([\w.\[\]]+)", lambda match: str(_looked_up(match[1], data)), value)
    if not isinstance(found, str) or not found.strip():
        what = (
            "is empty"
            if found in ("", None)
            else f"is a {type(found).__name__}, not the address of one image"
        )
        raise SenderError(f"the task's data {value[1:]!r} {what}")
    return found.strip()


def _looked_up(path: str, data: Mapping[str, Any]) -> Any:
    found: Any = data
    for step in filter(None, re.split(r"[.\[\]]+", path)):
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            keys = ", ".join(sorted(map(str, data))[:20]) or "none"
            raise SenderError(f"the task's data has no {path!r}; it has: {keys}")
    return found
