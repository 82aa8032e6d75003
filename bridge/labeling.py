"""Reading a labeling config: its controls, what they are put on, and their labels. Pure.

Only what exports need to know; Label Studio has checked the config before. A label's `alias` is what regions hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from xml.etree import ElementTree

from bridge.errors import SenderError

_MAX_CHARS = 4_000_000
_LABEL_TAGS = ("Label", "Choice")
_VARIABLE = re.compile(r"\{\{.*?\}\}")  # what a <Repeater> puts its counter for


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a control is put on: an `<Image>`, a `<Text>` … `data_key` names the field of the task's data."""

    tag: str
    name: str
    data_key: str

    @property
    def is_image(self) -> bool:
        return self.tag.lower() == "image"


@dataclass(frozen=True, kw_only=True)
class Control:
    """One control tag. `labels` maps a label, as regions hold it, to its `category` attribute ("" without one)."""

    tag: str
    name: str
    to_names: tuple[str, ...]
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The controls and sources by name."""

    controls: dict[str, Control] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)

    def control(self, from_name: object) -> Control | None:
        """The control a region names, also one inside a `<Repeater>` (`box_{{idx}}` is meant by box_3)."""
        if not isinstance(from_name, str):
            return None
        if from_name in self.controls:
            return self.controls[from_name]
        fitting = [c for name, c in self.controls.items() if _fits(name, from_name)]
        return max(fitting, key=lambda control: len(control.name), default=None)

    def source(self, to_name: object) -> Source | None:
        """The source a region is on."""
        if not isinstance(to_name, str):
            return None
        if to_name in self.sources:
            return self.sources[to_name]
        return next((one for name, one in self.sources.items() if _fits(name, to_name)), None)

    def tags(self) -> frozenset[str]:
        """The tags of the controls, as written."""
        return frozenset(control.tag for control in self.controls.values())

    def image_tags(self) -> frozenset[str]:
        """The tags of those controls that are put on an image."""
        return frozenset(
            control.tag
            for control in self.controls.values()
            if any((source := self.source(name)) and source.is_image for name in control.to_names)
        )


def _fits(pattern: str, name: str) -> bool:
    if "{{" not in pattern:
        return False
    return re.fullmatch(".+".join(re.escape(part) for part in _VARIABLE.split(pattern)), name) is not None


@lru_cache(maxsize=16)
def parse_config(text: str) -> Config:
    """Raises SenderError when the text is not XML."""
    if len(text) > _MAX_CHARS:
        raise SenderError(f"the labeling config has {len(text)} characters; {_MAX_CHARS} at most")
    try:
        root = ElementTree.fromstring(text.strip() or "<View/>")
    except (ElementTree.ParseError, ValueError) as error:
        raise SenderError(f"the labeling config is not XML: {error}") from error
    controls: dict[str, Control] = {}
    sources: dict[str, Source] = {}
    for element in root.iter():
        name, value = element.get("name"), element.get("value") or element.get("valueList")
        if not name or not isinstance(element.tag, str) or element.tag == "Filter":
            continue
        if element.get("toName"):
            controls[name] = _control(element, name)
        elif value:
            sources[name] = Source(tag=element.tag, name=name, data_key=value.lstrip("$"))
    return Config(controls=controls, sources=sources)


def _control(element: ElementTree.Element, name: str) -> Control:
    labels: dict[str, str] = {}
    for child in element.iter():
        label = child.get("alias") or child.get("value")
        if child.tag in _LABEL_TAGS and label:
            labels[label] = (child.get("category") or "").strip()
    to_names = tuple(one.strip() for one in element.get("toName", "").split(","))
    return Control(tag=element.tag, name=name, to_names=to_names, labels=labels)
