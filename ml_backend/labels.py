"""Which label of the labeling config a class of the model becomes. Pure.

A label claims classes by its `predicted_values` (a comma list); one without a match there is compared by its own
name. Upper and lower case and surrounding spaces do not count. Several classes may become one label; a class
that two labels claim goes to the first, and the second is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr


@dataclass(frozen=True, kw_only=True)
class ConfigLabel:
    """One `<Label>` or `<Choice>`. `written` is what Label Studio stores in a region: the alias, or the value."""

    value: str
    written: str
    predicted_values: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """Class name of the model -> label as written into regions; and what a person should know about it."""

    label_of: dict[str, str]
    problems: tuple[str, ...] = ()


def match_labels(labels: Sequence[ConfigLabel], class_names: Sequence[str]) -> LabelMap:
    """Raises nothing: what does not fit is in `problems`."""
    by_key: dict[str, list[str]] = {}
    for name in class_names:
        by_key.setdefault(_key(name), []).append(name)
    owner: dict[str, ConfigLabel] = {}
    problems: list[str] = []
    named: list[ConfigLabel] = []
    for label in labels:
        known = [value for value in label.predicted_values if _key(value) in by_key]
        unknown = [value for value in label.predicted_values if _key(value) not in by_key]
        if unknown:
            problems.append(f"label {label.value!r}: the model has no class {', '.join(map(repr, unknown))}")
        if not known:
            named.append(label)
        for value in known:
            _claim(owner, _key(value), label, problems)
    for label in named:
        for key in dict.fromkeys((_key(label.value), _key(label.written))):
            if key in by_key:
                _claim(owner, key, label, problems)
    found = {name: label.written for key, label in owner.items() for name in by_key[key]}
    return LabelMap(label_of=found, problems=tuple(problems))


def how_to_match(labels: Sequence[ConfigLabel], class_names: Sequence[str], *, tag: str) -> str:
    """For a config of which no label matches: both lists, and a line that would match."""
    value = labels[0].value if labels else "…"
    example = class_names[0] if class_names else "…"
    line = f"<{tag} value={quoteattr(value)} predicted_values={quoteattr(example)}/>"
    return (
        f"no label matches a class of the model. Labels: {_listed([label.value for label in labels])}. "
        f"Classes: {_listed(class_names)}. Give a label its classes, for example {line}"
    )


def _claim(owner: dict[str, ConfigLabel], key: str, label: ConfigLabel, problems: list[str]) -> None:
    first = owner.setdefault(key, label)
    if first.written != label.written:
        problems.append(
            f"labels {first.value!r} and {label.value!r} both claim the class {key!r}: {first.value!r} gets it"
        )


def _key(name: str) -> str:
    return name.strip().casefold()


def _listed(names: Sequence[str], limit: int = 30) -> str:
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown or "none"
