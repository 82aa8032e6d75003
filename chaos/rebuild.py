"""The second scenario: Label Studio's data is gone, a fresh one on the same address counts its ids from 1.

The record must not follow it into nothing, a new project under the old id must not write into it, and a restore must
bring all of it back, pictures too. What is compared is what Label Studio's own API said before and says after.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos import record
from chaos.label_studio import LABEL_CONFIG, Person, box
from chaos.storm import Storm
from chaos.world import IN_BUCKET, UPLOADED, Failed, World

Json = dict[str, Any]
_UPLOAD = re.compile(r"upload-\d+")
VIEW = {"title": "Chaos view", "type": "list"}
PROJECT_FIELDS = (
    *("title", "description", "label_config", "expert_instruction", "show_instruction", "show_skip_button"),
    *("enable_empty_annotation", "maximum_annotations", "color", "sampling", "skip_queue", "is_published"),
)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A project as its users see it, with nothing that another installation must number anew."""

    project: Json
    tasks: dict[str, list[Json]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    views: list[str] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)
    storages: list[tuple[str, str]] = field(default_factory=list)


def run(world: World, storm: Storm) -> dict[str, Any]:
    """Lose Label Studio, reconcile, restore, compare. Returns {"ok", "findings", figures}."""
    owner, findings, figures = world.owner, list[str](), dict[str, float | int]()
    uid = record.uid_of(world, storm.project)
    owner.call("POST", "/api/dm/views", json={"project": storm.project, "data": VIEW})
    record.reconcile(world, str(storm.project))
    world.settle()
    before = look(owner, storm.project)
    shown = sum(bool(content) for content in before.pictures.values())
    if shown != IN_BUCKET + UPLOADED:
        raise Failed(f"Label Studio shows {shown} pictures before its loss, of {IN_BUCKET + UPLOADED}")
    kept = record.state(world, uid)
    world.say(
        "chaos", f"Label Studio's data is deleted now: {len(before.tasks)} pictures' tasks, record {uid}"
    )

    start_a_fresh_one(world)
    stranger = owner.call(
        "POST", "/api/projects", json={"title": "Somebody else's", "label_config": LABEL_CONFIG}
    )["id"]
    owner.call(
        "POST", f"/api/projects/{stranger}/import", json=[{"data": {"image": "/static/none/other.png"}}]
    )
    if stranger != storm.project:
        findings.append(f"the fresh Label Studio counts its projects from {stranger}, not {storm.project}")
    world.must("connect", str(stranger))
    for _ in range(2):
        report = record.reconcile(world, uid)
    if not report["absent_since"]:
        findings.append("reconcile does not say that the project is absent")
    if report["counts"].get("task deleted") or report["counts"].get("annotation deleted"):
        findings.append(f"reconcile has deleted in the record: {report['counts']}")
    record.reconcile(world, str(stranger))
    world.settle()
    findings += _same_record("after the loss and a reconcile", kept, record.state(world, uid))

    begun = time.monotonic()
    restored, trouble = record.restore(world, uid)
    findings += trouble
    figures["restore_seconds"] = round(time.monotonic() - begun, 1)
    world.say("chaos", f"restored as project {restored} in {figures['restore_seconds']} s")
    after = look(owner, restored)
    findings += compare(before, after)
    figures |= {
        "tasks": sum(map(len, before.tasks.values())),
        "annotations": sum(len(task["annotations"]) for tasks in before.tasks.values() for task in tasks),
        "pictures": shown,
    }
    again, trouble = record.restore(world, uid)
    findings += trouble
    if again != restored:
        findings.append(f"a second restore made project {again} beside {restored}")
    findings += [f"after a second restore: {line}" for line in compare(before, look(owner, restored))]
    findings += _same_record("after the restore", kept, record.state(world, uid))
    findings += _goes_on(world, restored)
    return {"ok": not findings, "findings": findings, "uid": uid, "restored": restored, "figures": figures}


def start_a_fresh_one(world: World) -> None:
    """Label Studio as its first start left it, on the same address: no projects, ids from 1, the same owner."""
    data = world.setup.folder / "label-studio"
    world.processes.kill("label-studio")
    shutil.rmtree(data)
    shutil.copytree(world.pristine, data)
    world.processes.start("label-studio")


def look(owner: Person, project: int) -> Seen:
    """Everything that a restore must bring back, the bytes of the pictures as Label Studio serves them."""
    people = {user["id"]: user["email"] for user in owner.call("GET", "/api/users/")}
    exported = {
        item["id"]: item for task in owner.export(project) for item in (task.get("annotations") or [])
    }
    seen = Seen(
        project={
            name: value
            for name, value in owner.call("GET", f"/api/projects/{project}/").items()
            if name in PROJECT_FIELDS
        },
        views=sorted(
            view["data"].get("title", "")
            for view in owner.call("GET", "/api/dm/views", params={"project": project})
        ),
        hooks=sorted(
            hook["url"] for hook in owner.call("GET", "/api/webhooks/", params={"project": project})
        ),
        storages=sorted(
            (one["bucket"], one["prefix"] or "")
            for one in owner.call("GET", "/api/storages/s3", params={"project": project})
        ),
    )
    for task in owner.tasks(project):
        key = picture_key(task["data"]["image"])
        seen.tasks.setdefault(key, []).append(_task(task, exported, people))
        if not task["data"]["image"].startswith("/static/"):
            shown = owner.call("GET", f"/api/tasks/{task['id']}/")["data"]["image"]
            answer = owner.ask("GET", shown)
            seen.pictures[key] = answer.content if answer.status_code == 200 else b""
    return seen


def picture_key(image: str) -> str:
    """A name for a picture in both installations: an upload's path has another number and another random word."""
    found = _UPLOAD.search(image)
    return found[0] if found else image


def _task(task: Json, exported: Mapping[int, Json], people: Mapping[int, str]) -> Json:
    data = {**task["data"], "image": picture_key(task["data"]["image"])}
    meta = {name: value for name, value in (task.get("meta") or {}).items() if name != record.META}
    annotations = []
    for item in task["annotations"]:
        annotations.append(
            {name: item[name] for name in ("result", "was_cancelled", "ground_truth", "lead_time")}
            | {
                "by": people.get(item["completed_by"], item["completed_by"]),
                "unique_id": exported.get(item["id"], {}).get("unique_id"),
            }
        )
    predictions = [
        {name: item[name] for name in ("result", "score", "model_version")} for item in task["predictions"]
    ]
    return {
        "data": data,
        "meta": meta,
        "annotations": _sorted(annotations),
        "predictions": _sorted(predictions),
    }


def compare(before: Seen, after: Seen) -> list[str]:
    """What did not come back, or came otherwise. Pure."""
    found = []
    for name, value in before.project.items():
        if after.project.get(name) != value:
            found.append(f"project.{name} was {_short(value)} and is {_short(after.project.get(name))}")
    for name in ("views", "hooks", "storages"):
        if getattr(before, name) != getattr(after, name):
            found.append(f"{name} were {getattr(before, name)} and are {getattr(after, name)}")
    for key in before.tasks.keys() | after.tasks.keys():
        was, now = _sorted(before.tasks.get(key, [])), _sorted(after.tasks.get(key, []))
        if len(was) != len(now):
            found.append(f"tasks of {key}: {len(was)} were there, {len(now)} are")
            continue
        for one, other in zip(was, now, strict=True):
            found += [
                f"task of {key}, {name}: was {_short(one[name])}, is {_short(other[name])}"
                for name in one
                if _plain(one[name]) != _plain(other[name])
            ]
    for key, content in before.pictures.items():
        if not content or after.pictures.get(key) != content:
            found.append(
                f"the picture {key} had {len(content)} bytes and has {len(after.pictures.get(key, b''))}"
            )
    return sorted(found)


def _goes_on(world: World, project: int) -> list[str]:
    """An annotation in the restored project reaches the record that this project has of its own."""
    owner = world.owner
    task = owner.tasks(project)[0]["id"]
    made = owner.call("POST", f"/api/tasks/{task}/annotations", json={"result": [box(7, "owl", "after")]})
    world.settle()
    kept = record.state(world, record.uid_of(world, project))
    if not any(item["id"] == made["id"] for item in kept.get("annotation", ())):
        return [f"annotation {made['id']}, made after the restore, is not in the restored project's record"]
    return []


def _same_record(
    when: str, before: Mapping[str, Sequence[Json]], after: Mapping[str, Sequence[Json]]
) -> list[str]:
    """The project's own row may say that it is absent; what people made may not change."""
    found = []
    for kind in ("task", "annotation", "prediction", "draft"):
        was = {item["id"]: item for item in before.get(kind, ())}
        now = {item["id"]: item for item in after.get(kind, ())}
        found += [f"{when} the record has lost {kind} {id}" for id in was.keys() - now.keys()]
        found += [
            f"{when} the record has {kind} {id}, which is not its own" for id in now.keys() - was.keys()
        ]
        found += [
            f"{when} the record says something else of {kind} {id}"
            for id in was.keys() & now.keys()
            if was[id] != now[id]
        ]
    return found


def _sorted(items: Sequence[Json]) -> list[Json]:
    return sorted(items, key=lambda item: json.dumps(_plain(item), sort_keys=True))


def _plain(value: Any) -> Any:
    """1 and 1.0 are one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:197] + "…"
