"""The state of a project -> tasks in the shape of Label Studio's own JSON export, one after the other. Pure."""

from __future__ import annotations

import json
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from bridge.export_shapes import ImageRef
from bridge.state import StateView, Thing

Json = dict[str, Any]
_NAME_MAX_BYTES = 200
_OURS = ("task_created_at",)  # what our records add to Label Studio's fields
# In the order and with the values that Label Studio 1.23.2 writes; what a webhook or the API does not tell is filled in.
_TASK_FIELDS: Json = {
    "id": None,
    "annotations": [],
    "drafts": [],
    "predictions": [],
    "data": {},
    "meta": {},
    "created_at": None,
    "updated_at": None,
    "allow_skip": True,
    "inner_id": None,
    "total_annotations": 0,
    "cancelled_annotations": 0,
    "total_predictions": 0,
    "comment_count": 0,
    "unresolved_comment_count": 0,
    "last_comment_updated_at": None,
    "project": None,
    "updated_by": None,
    "comment_authors": [],
}
_ANNOTATION_FIELDS: Json = {
    "id": None,
    "completed_by": None,
    "result": [],
    "was_cancelled": False,
    "ground_truth": False,
    "created_at": None,
    "updated_at": None,
    "draft_created_at": None,
    "lead_time": None,
    "prediction": {},
    "result_count": 0,
    "unique_id": None,
    "import_id": None,
    "last_action": None,
    "bulk_created": False,
    "task": None,
    "project": None,
    "updated_by": None,
    "parent_prediction": None,
    "parent_annotation": None,
    "last_created_by": None,
}


@dataclass(kw_only=True)
class Contents:
    """What hangs together in a state: the living tasks with what is on each. `homeless`: annotations without a task."""

    tasks: list[Thing]
    annotations: dict[int, list[Thing]]
    predictions: dict[int, list[Thing]]
    drafts: dict[int, list[Thing]]
    homeless: list[Thing]


def contents_of(state: StateView, *, all_tasks: bool) -> Contents:
    """Tasks in order of their ids: those with an annotation, as Label Studio exports them, or all."""
    by_task: dict[str, dict[int, list[Thing]]] = {}
    for kind in ("annotation", "prediction", "draft"):
        by_task[kind] = defaultdict(list)
        for thing in state.alive(kind):
            task = thing.data.get("task")
            by_task[kind][task if isinstance(task, int) else -1].append(thing)
    tasks = [thing for thing in state.alive("task") if isinstance(thing.data.get("id"), int)]
    ids = {thing.data["id"] for thing in tasks}
    annotations = by_task["annotation"]
    return Contents(
        tasks=[thing for thing in tasks if all_tasks or annotations.get(thing.data["id"])],
        annotations=annotations,
        predictions=by_task["prediction"],
        drafts=by_task["draft"],
        homeless=[thing for id, things in annotations.items() if id not in ids for thing in things],
    )


def task_json(task: Thing, contents: Contents) -> Json:
    """One task with its annotations, as Label Studio's export has it: predictions by id, people by id."""
    data = task.data
    id = data["id"]
    annotations = [annotation_json(one) for one in contents.annotations.get(id, [])]
    predictions = [one.data["id"] for one in contents.predictions.get(id, []) if "id" in one.data]
    skipped = sum(bool(one["was_cancelled"]) for one in annotations)
    known = {name: data[name] for name in _TASK_FIELDS if name in data}
    upload = upload_name(data)
    return (
        _TASK_FIELDS
        | known
        | {
            "annotations": annotations,
            "drafts": [_plain(one) for one in contents.drafts.get(id, [])],
            "predictions": predictions,
            "meta": data.get("meta") or {},
            "updated_by": _person(data.get("updated_by")),
            "total_annotations": len(annotations) - skipped,
            "cancelled_annotations": skipped,
            "total_predictions": len(predictions),
        }
        | ({} if upload is None else {"file_upload": upload})
    )


def annotation_json(thing: Thing) -> Json:
    """One annotation as Label Studio's export has it."""
    plain = _plain(thing)
    plain.setdefault("result_count", _distinct_ids(plain.get("result") or []))
    return _ANNOTATION_FIELDS | {name: value for name, value in plain.items() if name in _ANNOTATION_FIELDS}


def _distinct_ids(result: list[Any]) -> int:
    """As Label Studio counts: one for each id, and one for all entries without an id (tasks/models.py)."""
    return len({entry.get("id") for entry in result if isinstance(entry, Mapping)})


def _person(said: Any) -> int | None:
    """Who changed a task last: a number by webhook and export, a list of one object by the API."""
    if isinstance(said, list) and said and isinstance(said[0], Mapping):
        said = said[0].get("user_id")
    return said if isinstance(said, int) else None


def _plain(thing: Thing) -> Json:
    return {name: value for name, value in thing.data.items() if name not in _OURS}


def upload_name(data: Mapping[str, Any]) -> str | None:
    """The name of the file a task was uploaded as; webhooks tell only its number, then the picture's address does."""
    said = data.get("file_upload")
    if isinstance(said, str) and not said.isdecimal():
        return posixpath.basename(said) or None
    if said is None:
        return None
    for value in (data.get("data") or {}).values():
        if isinstance(value, str) and "/data/upload/" in value:
            return unquote(posixpath.basename(urlsplit(value).path)) or None
    return None


def to_line(value: object) -> str:
    """One line of JSON that can be written as UTF-8: half an emoji, cut off by a browser, becomes its escape."""
    line = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return line


def image_address(task: Thing, ref: ImageRef) -> str:
    """Where a task's picture lies, as its data says; "" when it does not."""
    value = (task.data.get("data") or {}).get(ref.data_key)
    if isinstance(value, list):
        value = value[ref.index] if ref.index < len(value) else ""
    return value if isinstance(value, str) else ""


def image_name(address: str) -> str:
    """The picture's own file name, fit for a file system; "" when its address has none. Without query: it may hold keys."""
    if address.startswith("data:"):
        return ""
    scheme, separator, rest = address.partition("://")
    if separator and scheme not in ("http", "https"):
        name = posixpath.basename(rest)  # a key in a bucket: every character is itself
    else:
        try:
            parts = urlsplit(address)
            inside = parse_qs(parts.query).get("d") if "/local-files" in parts.path else None
        except ValueError:
            return ""
        name = posixpath.basename(inside[0] if inside else unquote(parts.path))
    kept = "".join(c for c in name if c.isprintable() and c not in '/\\:*?"<>|')
    return _cut(kept.strip(" ."))


def _cut(name: str) -> str:
    """As long as file systems and archives take it; the extension stays."""
    stem, ext = posixpath.splitext(name)
    room = _NAME_MAX_BYTES - len(ext.encode(errors="replace"))
    if room <= 0:
        return ""
    return stem.encode(errors="replace")[:room].decode(errors="ignore") + ext


def shown_address(address: str) -> str:
    """The address less its query and password, where keys are put; "" for a picture inside the address itself."""
    if address.startswith("data:"):
        return ""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    if "/local-files" in parts.path or parts.scheme not in ("http", "https", ""):
        return address
    netloc = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{netloc}{parts.path}" if parts.scheme else parts.path


class Names:
    """Gives each picture a name that no other of the export has: its own where it can, else with the task's id before.

    Names differ without their extension too, whatever the case: Pascal VOC's files are called by it."""

    def __init__(self, contents: Contents, refs: Mapping[int, list[ImageRef]]) -> None:
        self._times = Counter(
            _stem(image_name(image_address(task, ref)))
            for task in contents.tasks
            for ref in refs.get(task.data["id"], [])
        )
        self._given: set[str] = set()

    def give(self, task: Thing, ref: ImageRef) -> str:
        """Asked once for each picture."""
        name = image_name(image_address(task, ref))
        if not name or self._times[_stem(name)] > 1 or _stem(name) in self._given:
            place = f"task-{task.data['id']}" + (f"-{ref.index}" if ref.index else "")
            name = f"{place}-{name}" if name else f"{place}.jpg"
            while _stem(name) in self._given:
                name = f"{place}-{name}"
        self._given.add(_stem(name))
        return name


def _stem(name: str) -> str:
    return posixpath.splitext(name)[0].casefold()


def model_versions(contents: Contents) -> dict[str, int]:
    """How many predictions of the exported tasks came from each model version."""
    ids = {task.data["id"] for task in contents.tasks}
    counted = Counter(
        str(one.data.get("model_version") or "")
        for id, things in contents.predictions.items()
        if id in ids
        for one in things
    )
    return dict(sorted(counted.items()))


def annotators(state: StateView, contents: Contents) -> dict[str, str]:
    """The addresses of those who made the annotations, by their number: a number alone means another person elsewhere."""
    made = {
        one.data.get("completed_by")
        for task in contents.tasks
        for one in contents.annotations.get(task.data["id"], [])
    }
    found: dict[str, str] = {}
    for id in sorted(id for id in made if isinstance(id, int)):
        user = state.thing("user", str(id))
        found[str(id)] = str(user.data.get("email") or "") if user else ""
    return found


def lines(contents: Contents) -> Iterator[tuple[Json, str]]:
    """Each task with the line it is written as."""
    for task in contents.tasks:
        whole = task_json(task, contents)
        yield whole, to_line(whole)
