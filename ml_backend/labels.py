"""Which label of the labeling config a class of the model becomes. Pure.

A label claims classes by its `predicted_values` (a comma list, in which a class that holds commas itself is written as it
is); one without a match there is compared by its own name. Upper and lower case, surrounding spaces and the way an
accent is coded do not count. Several classes may become one label; a class that two labels claim goes to the first,
and the second is reported.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

_MOST_PARTS = 12  # of a class's name, between its commas


@dataclass(frozen=True, kw_only=True)
class ConfigLabel:
    """One `<Label>` or `<Choice>`. `written` is what Label Studio stores in a region: the alias, or the value.

    `path`: of a Taxonomy's choice, what is written of all above it and of itself. `point`: a key point's number."""

    value: str
    written: str
    predicted_values: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    point: int | None = None


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """Class name of the model -> its label; and what a person should know about it.

    `point_of`: for key points, (class name, number of the point) -> its label; `label_of` is then the parent
    rectangle's."""

    label_of: Mapping[str, ConfigLabel] = field(default_factory=dict)
    point_of: Mapping[tuple[str, int], ConfigLabel] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def written(self) -> dict[str, str]:
        """Class name -> label as regions hold it."""
        return {name: label.written for name, label in self.label_of.items()}


def match_labels(labels: Sequence[ConfigLabel], class_names: Sequence[str]) -> LabelMap:
    """Raises nothing: what does not fit is in `problems`."""
    by_key: dict[str, list[str]] = {}
    for name in class_names:
        by_key.setdefault(key_of(name), []).append(name)
    owner: dict[str, ConfigLabel] = {}
    problems: list[str] = []
    named: list[ConfigLabel] = []
    for label in labels:
        listed = _listed_classes(label.predicted_values, by_key)
        known = [key for key, there in listed if there]
        unknown = [text for text, there in listed if not there]
        if unknown:
            problems.append(f"label {label.value!r}: the model has no class {', '.join(map(repr, unknown))}")
        if not known:
            named.append(label)
        for key in known:
            _claim(owner, key, label, problems)
    for label in named:
        for key in dict.fromkeys((key_of(label.value), key_of(label.written))):
            if key in by_key:
                _claim(owner, key, label, problems)
    found = {name: label for key, label in owner.items() for name in by_key[key]}
    return LabelMap(label_of=found, problems=tuple(problems))


def match_points(
    labels: Sequence[ConfigLabel], class_names: Sequence[str], point_names: Sequence[str]
) -> LabelMap:
    """`point_of` for the labels of a `<KeyPointLabels>`: by `model_index`, or by the name of a point of the model.

    `predicted_values` says of which classes; without it, of all. Raises nothing."""
    by_key = {key_of(name): index for index, name in reversed(list(enumerate(point_names))) if name}
    found: dict[tuple[str, int], ConfigLabel] = {}
    problems: list[str] = []
    for label in labels:
        classes, unknown = _classes(label, class_names)
        if unknown:
            problems.append(f"label {label.value!r}: the model has no class {', '.join(map(repr, unknown))}")
            if not classes:
                continue
        index = label.point
        if index is None:
            index = by_key.get(key_of(label.value), by_key.get(key_of(label.written)))
        if index is None or index >= len(point_names):
            told = "no model_index" if index is None else f"model_index={index}"
            problems.append(
                f"label {label.value!r} has {told}; the model's points are {_points(point_names)}"
            )
            continue
        for name in classes:
            first = found.setdefault((name, index), label)
            if first is not label:
                problems.append(
                    f"labels {first.value!r} and {label.value!r} both claim point {index} of {name!r}: "
                    f"{first.value!r} gets it"
                )
    return LabelMap(point_of=found, problems=tuple(problems))


def how_to_match(labels: Sequence[ConfigLabel], class_names: Sequence[str], *, tag: str) -> str:
    """For a config of which no label matches: both lists, and a line that would match."""
    value = labels[0].value if labels else "…"
    example = class_names[0] if class_names else "…"
    line = f"<{tag} value={quoteattr(value)} predicted_values={quoteattr(example)}/>"
    return (
        f"no label matches a class of the model. Labels: {_listed([label.value for label in labels])}. "
        f"Classes: {_listed(class_names)}. Give a label its classes, for example {line}"
    )


def how_to_point(
    labels: Sequence[ConfigLabel], class_names: Sequence[str], point_names: Sequence[str]
) -> str:
    """The same for key points."""
    value = labels[0].value if labels else "…"
    example = class_names[0] if class_names else "…"
    line = f'<Label value={quoteattr(value)} predicted_values={quoteattr(example)} model_index="0"/>'
    return (
        f"no label matches a point of the model. Labels: {_listed([label.value for label in labels])}. "
        f"Classes: {_listed(class_names)}. Points: {_points(point_names)}. Give a label its point, for example {line}"
    )


def chosen_classes(
    asked: Sequence[str], class_names: Sequence[str]
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """`model_classes` (names or numbers) as names of the model, None for all; and those that it has not."""
    if not asked:
        return None, ()
    found: dict[str, None] = {}
    unknown: list[str] = []
    for item, is_key in _listed_classes(asked, {key_of(name) for name in class_names}):
        names = [name for name in class_names if is_key and key_of(name) == item]
        if not names and item.isdecimal() and len(item) < 6 and int(item) < len(class_names):
            names = [class_names[int(item)]]
        found |= dict.fromkeys(names)
        if not names:
            unknown.append(item)
    return tuple(found), tuple(unknown)


def key_of(name: str) -> str:
    """What of a name counts when names are compared."""
    parts = [part.strip() for part in unicodedata.normalize("NFC", name).casefold().split(",")]
    return unicodedata.normalize("NFC", ",".join(filter(None, parts)))


def _claim(owner: dict[str, ConfigLabel], key: str, label: ConfigLabel, problems: list[str]) -> None:
    first = owner.setdefault(key, label)
    if (first.written, first.path) != (label.written, label.path):
        problems.append(
            f"labels {_called(first)} and {_called(label)} both claim the class {key!r}: {_called(first)} gets it"
        )


def _called(label: ConfigLabel) -> str:
    """A label in words; a choice below others with the way to it, since leaves of one name are common."""
    return repr(" / ".join(label.path) if len(label.path) > 1 else label.value)


def _listed_classes(listed: Sequence[str], known: Container[str]) -> list[tuple[str, bool]]:
    """The keys of the classes that a comma list names, with True; what names none as it is, with False. A class with commas in
    its name is several items of the list: from each item on, the longest name that is known counts."""
    found: list[tuple[str, bool]] = []
    at = 0
    while at < len(listed):
        ends = range(min(len(listed), at + _MOST_PARTS), at, -1)
        end = next((end for end in ends if key_of(",".join(listed[at:end])) in known), None)
        found.append((listed[at], False) if end is None else (key_of(",".join(listed[at:end])), True))
        at = at + 1 if end is None else end
    return found


def _classes(label: ConfigLabel, class_names: Sequence[str]) -> tuple[list[str], list[str]]:
    if not label.predicted_values:
        return list(class_names), []
    listed = _listed_classes(label.predicted_values, {key_of(name) for name in class_names})
    keys = {key for key, there in listed if there}
    unknown = [text for text, there in listed if not there]
    return [name for name in class_names if key_of(name) in keys], unknown


def _points(names: Sequence[str]) -> str:
    return _listed([f"{index} {name}".strip() for index, name in enumerate(names)])


def _listed(names: Sequence[str], limit: int = 30) -> str:
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown or "none"
