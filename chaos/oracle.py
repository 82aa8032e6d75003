"""What must hold at the end, decided from the outside: Label Studio's answers, the bodies that passed the proxy, and
what our command line prints. Pure; imports nothing of ours.

Every finding is one line for a person: what it is about, what was expected, what was found.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chaos.hooks import Passage
from chaos.ledger import Ledger

Json = dict[str, Any]

# As the API shows them and a record keeps them. Left out: counters, names and ages that Label Studio works out anew for
# every answer. A task's own updated_at moves with each of its annotations and is no content.
ANNOTATION_FIELDS = (
    *("id", "task", "result", "was_cancelled", "ground_truth", "lead_time", "completed_by", "unique_id"),
    *("created_at", "updated_at", "parent_prediction", "parent_annotation", "import_id"),
)
TASK_FIELDS = ("id", "data", "meta", "inner_id", "created_at")
PREDICTION_FIELDS = ("id", "task", "result", "score", "model_version", "created_at")
DRAFT_FIELDS = ("id", "task", "result", "lead_time", "created_at")
PROJECT_FIELDS = ("id", "title", "description", "label_config", "created_at")
FIELDS = {
    "annotation": ANNOTATION_FIELDS,
    "task": TASK_FIELDS,
    "prediction": PREDICTION_FIELDS,
    "draft": DRAFT_FIELDS,
    "project": PROJECT_FIELDS,
}
_TIMES = ("created_at", "updated_at")
CLOCK_SLACK = timedelta(milliseconds=50)


@dataclass(frozen=True, kw_only=True)
class Account:
    """What was found. `missing`: acknowledged and not in the log. `duplicated`: twice in the state. `differences`:
    where state and Label Studio, or Label Studio and the ledger, do not agree."""

    missing: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.missing or self.duplicated or self.differences)


def label_studio_state(tasks: Sequence[Json], export: Sequence[Json], project: Json) -> dict[str, list[Json]]:
    """What Label Studio shows, by kind, as flat things. `export` adds what /api/tasks leaves out of annotations."""
    exported = {
        (item["id"], item["created_at"]): item for task in export for item in (task.get("annotations") or [])
    }
    found: dict[str, list[Json]] = {"task": [], "annotation": [], "prediction": [], "draft": []}
    found["project"] = [project]
    for task in tasks:
        found["task"].append(task)
        for item in task.get("annotations") or []:
            more = exported.get((item["id"], item["created_at"]), {})
            found["annotation"].append({**more, **item})
        found["prediction"] += task.get("predictions") or []
    drafts = {item["id"]: item for task in [*tasks, *export] for item in (task.get("drafts") or [])}
    found["draft"] = list(drafts.values())
    return found


def differences(label_studio: Mapping[str, Sequence[Json]], state: Mapping[str, Sequence[Json]]) -> list[str]:
    """Field by field, both ways. Absent and null are one; so are 1 and 1.0, and a time however it is written."""
    found = []
    for kind, fields in FIELDS.items():
        there = {str(item["id"]): item for item in label_studio.get(kind, ())}
        kept = {str(item["id"]): item for item in state.get(kind, ())}
        found += [f"{kind} {id} is in Label Studio and not in the state" for id in there if id not in kept]
        found += [f"{kind} {id} is in the state and not in Label Studio" for id in kept if id not in there]
        for id in there.keys() & kept.keys():
            for name in fields:
                expected, got = _plain(there[id], name), _plain(kept[id], name)
                if expected != got:
                    found.append(f"{kind} {id}.{name}: Label Studio {_short(expected)}, state {_short(got)}")
    return sorted(found)


def doubled(state: Mapping[str, Sequence[Json]]) -> list[str]:
    """Ids and unique_ids that the state holds twice."""
    found = []
    for kind, items in state.items():
        ids = Counter(str(item.get("id")) for item in items)
        found += [f"{kind} {id} is {count} times in the state" for id, count in ids.items() if count > 1]
        uniques = Counter(item["unique_id"] for item in items if item.get("unique_id"))
        found += [f"{kind} {id} is {count} times in the state" for id, count in uniques.items() if count > 1]
    return found


def missing(passages: Iterable[Passage], log: Iterable[Json]) -> list[str]:
    """What acknowledged bodies said and no record says. Records are lines of the log: {"kind", "op", "id",
    "created_at", "version", "received_at", "data", …}."""
    puts: dict[tuple[str, str, str, str], list[Json]] = {}
    deletes: dict[tuple[str, str], list[datetime]] = {}
    for record in log:
        if record["op"] == "put":
            key = (record["kind"], str(record["id"]), _time(record["created_at"]), _time(record["version"]))
            puts.setdefault(key, []).append(record["data"])
        else:
            deletes.setdefault((record["kind"], str(record["id"])), []).append(_when(record["received_at"]))
    found = []
    for passage in passages:
        if not passage.acknowledged:
            continue
        for kind, thing in _shown(passage.payload):
            key = (kind, str(thing["id"]), _time(thing["created_at"]), _time(thing["updated_at"]))
            if not any(_same(kind, thing, data) for data in puts.get(key, ())):
                found.append(f"{_about(passage)}: {kind} {thing['id']} as of {thing['updated_at']}")
        begun = datetime.fromtimestamp(passage.sent_at).astimezone() - CLOCK_SLACK
        ended = datetime.fromtimestamp(passage.answered_at).astimezone() + CLOCK_SLACK
        for kind, id in _ended(passage.payload):
            if not any(begun <= at <= ended for at in deletes.get((kind, id), ())):
                found.append(f"{_about(passage)}: the end of {kind} {id}")
    return found


def forgotten_by_label_studio(ledger: Ledger, label_studio: Mapping[str, Sequence[Json]]) -> list[str]:
    """Whether Label Studio still says at the end what it said to the annotators: else the test itself is wrong."""
    there = {item["id"]: item for item in label_studio["annotation"]}
    found = []
    for id, said in ledger.saved_as.items():
        if id in ledger.removed_ids or said["task"] in ledger.emptied_tasks:
            continue
        now = there.get(id)
        if now is None:
            found.append(f"Label Studio has no annotation {id} any more, though nobody deleted it")
        elif (now["created_at"], now["updated_at"]) == (said["created_at"], said["updated_at"]):
            for name in ("result", "lead_time", "was_cancelled"):
                if _plain(now, name) != _plain(said, name):
                    found.append(f"Label Studio shows another {name} of annotation {id} than it answered")
    return found


def _shown(payload: Json) -> Iterator[tuple[str, Json]]:
    """The annotations, and the tasks that a body is about, each whole."""
    action = str(payload.get("action"))
    if action.endswith("_DELETED"):
        return
    for item in _listed(payload.get("annotation")):
        yield "annotation", item
    if action == "TASKS_CREATED":
        for item in _listed(payload.get("tasks")):
            yield "task", item


def _ended(payload: Json) -> Iterator[tuple[str, str]]:
    if payload.get("action") == "ANNOTATIONS_DELETED":
        yield from (("annotation", str(item["id"])) for item in _listed(payload.get("annotations")))
    if payload.get("action") == "TASKS_DELETED":
        yield from (("task", str(item["id"])) for item in _listed(payload.get("tasks")))


def _listed(value: Any) -> list[Json]:
    return [value] if isinstance(value, dict) else list(value or [])


def _same(kind: str, thing: Json, data: Json) -> bool:
    """A reading of the same revision counts as well as its webhook; it carries no unique_id."""
    return all(_plain(thing, name) == _plain(data, name) for name in FIELDS[kind] if name != "unique_id")


def _about(passage: Passage) -> str:
    return f"webhook {passage.number} ({passage.payload.get('action')}, {passage.mode.value}, {passage.event_id})"


def _plain(item: Json, name: str) -> Any:
    """A field's value so that equal things are equal; {} is no meta, and people are ids."""
    value = item.get(name)
    if name in _TIMES:
        return _time(value)
    if name == "completed_by" and isinstance(value, dict):
        return value.get("id")
    if name == "meta" and value == {}:
        return None
    return _numbers(value)


def _numbers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return value


def _when(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _time(text: str | None) -> str:
    return "" if text is None else str(_when(text).timestamp())


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 160 else text[:157] + "…"
