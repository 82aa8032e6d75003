"""A restore as it was asked for, and what of a project's state is to come back. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bridge.events import upload_paths
from bridge.records import format_time, parse_time
from bridge.state import State

EVENT = "PROJECT_RESTORED"
TITLE_MAX = 50  # Label Studio's own limit
MARK = "[restore "


@dataclass(frozen=True, kw_only=True)
class Order:
    """One restore as it was asked for; kept in the bucket. `users` maps an e-mail address or id of the record ("none":
    no author) to an e-mail address of the target. `bulk`: annotations come with their tasks, fast, and get new
    `unique_id`s."""

    id: str
    uid: str
    at: datetime
    to: str
    title: str
    users: Mapping[str, str] = field(default_factory=dict)
    create_users: bool = True
    bulk: bool = False
    asked_at: datetime

    @property
    def marker(self) -> str:
        """Stands in the description while the project is not whole."""
        return f"{MARK}{self.id}]"

    @property
    def description(self) -> str:
        """The project's description while the project is not whole."""
        return (
            f"Being restored from the record of project {self.uid}, as of {format_time(self.at)}: "
            f"not complete yet. {self.marker}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "uid": self.uid,
            "at": format_time(self.at),
            "to": self.to,
            "title": self.title,
            "users": dict(self.users),
            "create_users": self.create_users,
            "bulk": self.bulk,
            "asked_at": format_time(self.asked_at),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Order:
        """Raises ValueError, KeyError or TypeError when `fields` did not come from `to_json`."""
        at, asked_at = parse_time(fields["at"]), parse_time(fields["asked_at"])
        if at is None or asked_at is None:
            raise ValueError("a restore without its times")
        return cls(
            id=str(fields["id"]),
            uid=str(fields["uid"]),
            at=at,
            to=str(fields["to"]),
            title=str(fields["title"]),
            users=dict(fields["users"]),
            create_users=bool(fields["create_users"]),
            bulk=bool(fields["bulk"]),
            asked_at=asked_at,
        )


def restore_id(uid: str, at: datetime, to: str, nonce: str = "") -> str:
    """Sixteen hex digits: the same for the same project, moment and target, so that a second run goes on with the first."""
    return hashlib.sha256("\n".join((uid, format_time(at), to, nonce)).encode()).hexdigest()[:16]


def fit_title(title: str, taken: Sequence[str], at: datetime) -> str:
    """The recorded title, or, where the target has a project of that title, one that says of when it is."""
    wanted = title or "Restored"
    if wanted not in taken:
        return wanted[:TITLE_MAX]
    base = f" (as of {at:%Y-%m-%d %H:%M})"
    number = 1
    while True:
        suffix = base if number == 1 else f"{base[:-1]}, {number})"
        found = wanted[: TITLE_MAX - len(suffix)] + suffix
        if found not in taken:
            return found
        number += 1


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One thing that does not come back, and why. `lost`: the record has it and the restored project does not."""

    kind: str
    id: str
    reason: str
    lost: bool = True

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "id": self.id, "reason": self.reason, "lost": self.lost}


@dataclass(frozen=True, kw_only=True)
class Media:
    """The copy of one uploaded file."""

    path: str
    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class TaskSource:
    """One task as recorded, with what belongs to it, each in order of id."""

    id: int
    data: Mapping[str, Any]
    annotations: Sequence[Mapping[str, Any]] = ()
    predictions: Sequence[Mapping[str, Any]] = ()
    drafts: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class Source:
    """All that is to come back, in order of id. `users`: by their recorded id. `media`: by upload path."""

    project: Mapping[str, Any]
    tasks: Sequence[TaskSource]
    views: Sequence[Mapping[str, Any]]
    storages: Sequence[Mapping[str, Any]]
    users: Mapping[int, Mapping[str, Any]]
    media: Mapping[str, Media]
    left_out: Sequence[LeftOut]
    whole: bool  # whether the project had been read whole by then

    @property
    def uploads(self) -> list[Media]:
        """The files that tasks name and the bucket has, each once."""
        paths = dict.fromkeys(
            path for task in self.tasks for path in upload_paths(task.data.get("data") or {})
        )
        return [self.media[path] for path in paths if path in self.media]

    @property
    def authors(self) -> list[int | None]:
        """The recorded ids of everyone who made an annotation; None for one that has no author any more."""
        found = dict.fromkeys(one.get("completed_by") for task in self.tasks for one in task.annotations)
        return sorted(found, key=lambda id: (id is None, id or 0))

    @property
    def counts(self) -> dict[str, int]:
        annotations = [one for task in self.tasks for one in task.annotations]
        return {
            "tasks": len(self.tasks),
            "annotations": len(annotations),
            "skipped": sum(bool(one.get("was_cancelled")) for one in annotations),
            "ground_truth": sum(bool(one.get("ground_truth")) for one in annotations),
            "predictions": sum(len(task.predictions) for task in self.tasks),
            "drafts": sum(len(task.drafts) for task in self.tasks),
            "uploads": len(self.uploads),
            "views": len(self.views),
        }


def source_of(state: State, unreadable: Sequence[str] = ()) -> Source | None:
    """What a state says is to come back, or None when it holds no project. `unreadable`: log objects that are damaged."""
    project = next((thing.data for thing in state.things.get("project", {}).values() if thing.data), None)
    if project is None:
        return None
    left_out = [
        LeftOut(kind="log", id=key, reason="this log object is damaged: what it alone said is missing")
        for key in unreadable
    ]
    tasks = {int(task["id"]): task for task in (thing.data for thing in state.alive("task"))}
    of: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    for kind in ("annotation", "prediction", "draft"):
        mine = of.setdefault(kind, {})
        for thing in state.alive(kind):
            data = thing.data
            if data.get("task") in tasks:
                mine.setdefault(data["task"], []).append(data)
            else:
                left_out.append(
                    LeftOut(
                        kind=kind, id=str(data.get("id")), reason=f"the record has no task {data.get('task')}"
                    )
                )
    media = {
        str(data["path"]): Media(
            path=str(data["path"]),
            key=str(data["key"]),
            sha256=str(data["sha256"]),
            size_bytes=int(data["size_bytes"]),
        )
        for data in (thing.data for thing in state.alive("media"))
    }
    missing = dict.fromkeys(
        path for task in tasks.values() for path in upload_paths(task.get("data") or {}) if path not in media
    )
    left_out += [
        LeftOut(kind="media", id=path, reason="the record has no copy of this file") for path in missing
    ]
    return Source(
        project=project,
        tasks=[
            TaskSource(
                id=id,
                data=task,
                annotations=of["annotation"].get(id, []),
                predictions=of["prediction"].get(id, []),
                drafts=of["draft"].get(id, []),
            )
            for id, task in tasks.items()
        ],
        views=[thing.data for thing in state.alive("view")],
        storages=[thing.data for thing in state.alive("storage")],
        # Those too who have left since: what they made is still theirs.
        users={int(data["id"]): data for data in (thing.data for _, thing in state.every("user")) if data},
        media=media,
        left_out=left_out,
        whole=state.baseline_completed_at is not None,
    )
