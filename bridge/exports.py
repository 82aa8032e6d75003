"""Exports, decided: which formats there are and what each needs, an export's identity, its manifest. Pure.

An export is a function of what its id is made of: the project, the format, the options and the newest log object folded.
So running it twice, or on two machines at once, writes the same, and two triggers for the same content are one export.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from bridge.errors import SenderError
from bridge.export_shapes import POLYGON, RECTANGLE
from bridge.keys import project_id_of
from bridge.labeling import Config

Json = dict[str, Any]
VERSION = (
    1  # raised when the same source would be written otherwise: then old exports are not taken for new ones
)
MANIFEST, LEFT_OUT = "manifest.json", "left_out.jsonl"
ANNOTATED, ALL = "annotated", "all"
TASKS = (ANNOTATED, ALL)
_ID = re.compile(r"(\d{1,19})-(\d{1,12})-(\d{13})-([a-z0-9_]{1,20})-([0-9a-f]{12})")


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format. `file` is what a person gets; it is a zip where the converter writes several files.

    `holds`: the shapes it has a place for; empty where every region of an annotation has one. `needs`: each of the
    tag sets, one of which the labeling config must have on an image, in the words of its tags."""

    name: str
    file: str
    content_type: str
    about: str
    holds: frozenset[str] = frozenset()
    needs: tuple[frozenset[str], ...] = ()
    whole_pixels: bool = False

    @property
    def is_for_pictures(self) -> bool:
        return bool(self.holds)


_RECTANGLES = (frozenset({"RectangleLabels"}), frozenset({"Rectangle", "Labels"}))
_POLYGONS = (frozenset({"PolygonLabels"}), frozenset({"Polygon", "Labels"}))
_ZIP = "application/zip"

# A further format is a row here and a writer of its name in workers/export_formats.py.
FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format(
            name="JSON", file="result.json", content_type="application/json", about="Label Studio's own JSON"
        ),
        Format(name="CSV", file="result.csv", content_type="text/csv", about="a row for each annotation"),
        Format(
            name="COCO",
            file="coco.zip",
            content_type=_ZIP,
            about="rectangles and polygons for object detection",
            holds=frozenset({RECTANGLE, POLYGON}),
            needs=_RECTANGLES + _POLYGONS,
        ),
        Format(
            name="VOC",
            file="voc.zip",
            content_type=_ZIP,
            about="Pascal VOC: rectangles, an XML file for each picture",
            holds=frozenset({RECTANGLE}),
            needs=_RECTANGLES,
            whole_pixels=True,
        ),
    )
}


def find_format(name: object) -> Format:
    """The format of a name, whatever its case. Raises SenderError naming those there are."""
    found = FORMATS.get(name.strip().upper()) if isinstance(name, str) else None
    if found is None:
        raise SenderError(f"there is no format {name!r}: the formats are {', '.join(FORMATS)}")
    return found


def check_tasks(tasks: object) -> str:
    """Raises SenderError unless `tasks` is one of TASKS."""
    if tasks not in TASKS:
        raise SenderError(f"tasks is {tasks!r}: it must be one of {', '.join(TASKS)}")
    return str(tasks)


def check_fits(format: Format, config: Config) -> None:
    """Raises SenderError, saying what the format needs, when the labeling config has nothing it can hold."""
    if not format.needs or any(need <= config.image_tags() for need in format.needs):
        return
    needs = ", or ".join(
        " with ".join(f"<{tag}>" for tag in sorted(need, key=lambda tag: tag == "Labels"))
        for need in format.needs
    )
    has = ", ".join(f"<{tag}>" for tag in sorted(config.tags())) or "no controls"
    fitting = [
        one.name
        for one in FORMATS.values()
        if not one.needs or any(n <= config.image_tags() for n in one.needs)
    ]
    raise SenderError(
        f"{format.name} needs {needs} on an <Image>; the labeling config of this project has {has}",
        hint=f"export it as {' or '.join(fitting)}",
    )


@dataclass(frozen=True, kw_only=True)
class Order:
    """What an export is made of. `position` is the source's, from the name of the newest log object to fold.

    `tasks`: annotated (as Label Studio's own export does) or all."""

    uid: str
    format: str
    tasks: str
    source_key: str
    position: int

    @property
    def id(self) -> str:
        """The export's id: project, source position and format to read, and a checksum of everything.

        In the order of their ids, the exports of a project are in the order of their sources."""
        said = json.dumps([VERSION, self.uid, self.format, self.tasks, self.source_key])
        sha = hashlib.sha256(said.encode()).hexdigest()[:12]
        return f"{self.uid.replace('.', '-')}-{self.position:013d}-{self.format.lower()}-{sha}"

    @property
    def source_time(self) -> datetime:
        return datetime.fromtimestamp(self.position / 1000, UTC)

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Json) -> Order:
        """Raises KeyError or TypeError when `fields` did not come from `to_json`."""
        return cls(**{name: fields[name] for name in ("uid", "format", "tasks", "source_key", "position")})


def uid_of_export(export_id: str) -> str:
    """The project an export is of. Raises SenderError when this is no id of an export."""
    found = _ID.fullmatch(export_id)
    if found is None:
        raise SenderError(
            f"{export_id!r} is no id of an export: `python -m sidecar export list PROJECT` shows them"
        )
    uid = f"{found[1]}.{found[2]}"
    project_id_of(uid)
    return uid


def format_names(value: str) -> str:
    """A list such as "json, COCO", as "JSON,COCO". Raises ValueError saying what is allowed."""
    try:
        found = tuple(dict.fromkeys(find_format(one).name for one in value.split(",") if one.strip()))
    except SenderError:
        found = ()
    if not found:
        raise ValueError(f"one or more of {', '.join(FORMATS)}, with commas between")
    return ",".join(found)


_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_CRON_PART = re.compile(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?")


def parse_cron(value: str) -> str:
    """Five fields as cron has them, numbers only. Raises ValueError saying what is wrong."""
    fields = value.split()
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError('five fields: minute hour day month weekday, such as "0 3 * * *" for three at night')
    for text, (name, low, high) in zip(fields, _CRON_FIELDS, strict=True):
        for part in text.split(","):
            found = _CRON_PART.fullmatch(part)
            numbers = [] if found is None else [int(n) for n in found.groups()[:2] if n is not None]
            fits = found is not None and all(low <= n <= high for n in numbers) and numbers == sorted(numbers)
            if found is None or not fits or found[3] == "0":
                raise ValueError(
                    f"a {name} from {low} to {high}, as *, 5, 1-5, */10 or a list with commas, not {part!r}"
                )
    return " ".join(fields)
