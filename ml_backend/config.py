"""Reading a labeling config: which controls of ours it has, on which pictures and videos, with which labels. Pure.

Label Studio compares tag names without regard to case, and writes a label's `alias` into regions where it has one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

from bridge.errors import SenderError
from ml_backend.attributes import Asked, is_true, read_attributes
from ml_backend.labels import ConfigLabel

_MAX_CHARS = 4_000_000
_MOST_CONTROLS, _MOST_LABELS = 1000, 200_000
_LABEL_TAGS = ("label", "choice")
_MEDIA = ("image", "video")
_FRAMERATE = 24.0  # what Label Studio's <Video> counts frames with, unless told
UNNAMED_KEY = (
    "$undefined$"  # where Label Studio puts a file that was imported before the config named its key
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """An `<Image>` or a `<Video>`: `media` says which, `value` what is shown, e.g. "$image".

    `several`: the value names a list of pages (`valueList`). `framerate`: as written, of a video."""

    media: str
    name: str
    value: str
    several: bool = False
    framerate: str = ""


@dataclass(frozen=True, kw_only=True)
class ControlTag:
    """One control on one picture or video. `kind` is the tag in lower case.

    `skip`: the config wants it left to people. `nested`: its choices are written with the way to them. `per_item`: each page
    is classified by itself. `problems` names what could not be read and was left out."""

    kind: str
    tag: str
    name: str
    source: Source
    labels: tuple[ConfigLabel, ...]
    asked: Asked
    skip: bool = False
    per_region: bool = False
    per_item: bool = False
    nested: bool = False
    problems: tuple[str, ...] = ()

    @property
    def to_name(self) -> str:
        return self.source.name

    @property
    def where(self) -> str:
        """What a person calls it."""
        return f"{self.tag} {self.name!r}"


@lru_cache(maxsize=64)
def parse_config(text: str) -> tuple[ControlTag, ...]:
    """Every named control on an `<Image>` or `<Video>`, in order; one that is put on several comes once for each.

    Raises SenderError when the text is not XML."""
    if len(text) > _MAX_CHARS:
        raise SenderError(f"the labeling config has {len(text)} characters; {_MAX_CHARS} at most")
    try:
        root = ElementTree.fromstring(text.strip() or "<View/>")
    except (ElementTree.ParseError, ValueError) as error:
        raise SenderError(f"the labeling config is not XML: {error}") from error
    try:
        return _controls_of(root)
    except RecursionError as error:
        raise SenderError("the labeling config is nested too deeply") from error


def _controls_of(root: ElementTree.Element) -> tuple[ControlTag, ...]:
    """Raises SenderError, RecursionError."""
    elements = [element for element in root.iter() if isinstance(element.tag, str)]
    sources = {source.name: source for element in elements if (source := _source(element))}
    controls = [control for element in elements for control in _controls(element, sources)]
    # What many controls read from each other costs the square of their number, and everybody else the time.
    if len(controls) > _MOST_CONTROLS:
        raise SenderError(f"the labeling config has {len(controls)} controls; {_MOST_CONTROLS} at most")
    found: list[ControlTag] = []
    labels = 0
    for control in controls:
        is_track = control.kind == "videorectangle"
        found.append(_with_labels_of_the_source(control, controls) if is_track else control)
        labels += len(found[-1].labels)
        if labels > _MOST_LABELS:
            raise SenderError(f"the labeling config has more than {_MOST_LABELS} labels")
    return tuple(found)


def _source(element: ElementTree.Element) -> Source | None:
    name, several = element.get("name"), element.get("valueList", "").strip()
    value = several or element.get("value", "")
    if element.tag.lower() not in _MEDIA or not name or not value:
        return None
    return Source(
        media=element.tag.lower(),
        name=name,
        value=value,
        several=bool(several),
        framerate=(element.get("framerate") or element.get("frameRate") or "").strip(),
    )


def _controls(element: ElementTree.Element, sources: Mapping[str, Source]) -> list[ControlTag]:
    name = element.get("name")
    on = [sources[to] for to in dict.fromkeys(_split(element.get("toName", ""))) if to in sources]
    if not name or not on:
        return []
    asked, problems = read_attributes(element.attrib)
    nested = is_true(element.get("allowNested"))
    control = ControlTag(
        kind=element.tag.lower(),
        tag=element.tag,
        name=name,
        source=on[0],
        labels=_choosable(element, nested=nested),
        asked=asked,
        skip=is_true(element.get("model_skip")),
        per_region=is_true(element.get("perRegion")),
        per_item=is_true(element.get("perItem")),
        nested=nested,
        problems=tuple(f"{element.tag} {name!r}: {problem}" for problem in problems),
    )
    return [control, *(replace(control, source=source, problems=()) for source in on[1:])]


def _choosable(element: ElementTree.Element, *, nested: bool) -> tuple[ConfigLabel, ...]:
    """The labels that a person could choose, so that what is predicted can be shown (1.23.2: Choice.jsx, NewTaxonomy.tsx)."""
    found = _labels(element, ())
    above = {label.path[:-1] for label in found}
    kind = element.tag.lower()
    if kind == "choices" and not nested:
        return tuple(label for label in found if len(label.path) == 1)
    if kind == "choices" or (kind == "taxonomy" and is_true(element.get("leafsOnly"))):
        return tuple(label for label in found if label.path not in above)
    return tuple(found)


def _labels(element: ElementTree.Element, above: tuple[str, ...]) -> list[ConfigLabel]:
    """The labels below an element, those of a Taxonomy with the way to them."""
    found: list[ConfigLabel] = []
    for child in element:
        if not isinstance(child.tag, str):
            continue
        value = child.get("value", "") if child.tag.lower() in _LABEL_TAGS else ""
        path = above
        if value:
            written = child.get("alias") or value
            path = (*above, written)
            index = child.get("model_index", "").strip()
            found.append(
                ConfigLabel(
                    value=value,
                    written=written,
                    path=path,
                    predicted_values=tuple(_split(child.get("predicted_values", ""))),
                    point=int(index) if index.isdecimal() and len(index) < 6 else None,
                )
            )
        found += _labels(child, path)
    return found


def _with_labels_of_the_source(control: ControlTag, controls: Sequence[ControlTag]) -> ControlTag:
    """A `<VideoRectangle>` is labelled by the `<Labels>` on the same video."""
    labels = [
        label
        for other in controls
        if other.kind == "labels" and other.source == control.source
        for label in other.labels
    ]
    return replace(control, labels=(*control.labels, *labels))


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def framerate_of(source: Source, data: Mapping[str, Any]) -> float:
    """Frames a second, as Label Studio counts them for this task (1.23.2, Video.js): 24 where it can read none, and of a number
    below 1 the seconds a frame. Raises SenderError."""
    raw: Any = source.framerate
    try:
        rate = float(_looked_up(raw[1:], data) if raw.startswith("$") else raw)
    except (TypeError, ValueError, SenderError):
        rate = math.nan
    if math.isnan(rate) or not rate:
        return _FRAMERATE
    rate = 1 / rate if 0 < rate < 1 else rate
    if not 0 < rate <= 1000:
        raise SenderError(
            f"framerate={raw!r} of <Video name={source.name!r}> is no number of frames a second"
        )
    return rate


def media_references(source: Source, data: Mapping[str, Any]) -> tuple[str, ...]:
    """What a task's data names for a source: one address, or those of a `valueList`. Raises SenderError."""
    if not source.several:
        return (media_reference(source.value, data),)
    found = _value(source.value, data)
    pages = found.split(",") if isinstance(found, str) else found
    if not isinstance(pages, list) or not pages:
        raise SenderError(f"the task's data {source.value[1:]!r} is no list of addresses")
    return tuple(_address(page, f"{source.value[1:]}[{index}]") for index, page in enumerate(pages))


def media_reference(value: str, data: Mapping[str, Any]) -> str:
    """What a task's data names for a `value="…"`: an address, or a path within Label Studio.

    `value` may hold `$key`, `$key.inner[0]` and text around it, as Label Studio allows. Raises SenderError naming
    the missing key and the keys that are there."""
    if "$" not in value:
        return value
    return _address(_value(value, data), value[1:])


def _value(value: str, data: Mapping[str, Any]) -> Any:
    if value[1:] in data:
        return data[value[1:]]
    if set(data) == {UNNAMED_KEY}:
        return data[UNNAMED_KEY]
    if re.fullmatch(r"\$[\w.\[\]]+", value):
        return _looked_up(value[1:], data)
    return re.sub(r"\$([\w.\[\]]+)", lambda match: str(_looked_up(match[1], data)), value)


def _address(found: Any, what: str) -> str:
    if isinstance(found, str) and found.strip():
        return found.strip()
    told = "is empty" if found in ("", None) else f"is a {type(found).__name__}, not the address of one file"
    raise SenderError(f"the task's data {what!r} {told}")


def _looked_up(path: str, data: Mapping[str, Any]) -> Any:
    found: Any = data
    for step in filter(None, re.split(r"[.\[\]]+", path)):
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            keys = ", ".join(sorted(map(str, data))[:20]) or "none"
            raise SenderError(f"the task's data has no {path!r}; it has: {keys}")
    return found
