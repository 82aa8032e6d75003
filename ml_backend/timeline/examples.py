"""People's annotations that timelines learn from, as Label Studio told of them. The rim: one SQLite file.

An event brings one annotation, and a classifier is trained on all: so they are kept, in the cache folder. Start training
reads them anew from Label Studio, where that is possible.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bridge.errors import Unavailable

FILE = "timelines.sqlite3"
_BUSY_S = 1.0
_TABLES = """
CREATE TABLE IF NOT EXISTS example
(project TEXT, annotation INTEGER, task INTEGER, data TEXT, result TEXT, PRIMARY KEY (project, annotation));
CREATE TABLE IF NOT EXISTS whole (project TEXT PRIMARY KEY);
"""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """One annotation: the task's `data`, and the annotation's `result` without what has no stretches of frames."""

    annotation_id: int
    task_id: int
    data: Mapping[str, Any]
    result: Sequence[Any]


def annotated(task: Any, annotation: Any) -> Annotated | None:
    """Of what Label Studio sends; None for one that was skipped, or is none."""
    if (
        not isinstance(task, Mapping)
        or not isinstance(annotation, Mapping)
        or annotation.get("was_cancelled")
    ):
        return None
    annotation_id, task_id, data = annotation.get("id"), task.get("id"), task.get("data")
    result = annotation.get("result")
    if not (isinstance(annotation_id, int) and isinstance(task_id, int) and isinstance(data, Mapping)):
        return None
    stretches = [
        region
        for region in (result if isinstance(result, list) else [])
        if isinstance(region, Mapping) and region.get("type") == "timelinelabels"
    ]
    return Annotated(annotation_id=annotation_id, task_id=task_id, data=data, result=stretches)


class Examples:
    """Safe to use from several threads and processes. Every method raises Unavailable when the file cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def put(self, project: str, several: Iterable[Annotated]) -> None:
        rows = [_row(project, one) for one in several]
        self._do(lambda db: db.executemany("INSERT OR REPLACE INTO example VALUES (?, ?, ?, ?, ?)", rows))

    def forget(self, project: str, annotation_ids: Iterable[int]) -> None:
        rows = [(project, id) for id in annotation_ids]
        self._do(lambda db: db.executemany("DELETE FROM example WHERE project = ? AND annotation = ?", rows))

    def replace(self, project: str, several: Sequence[Annotated]) -> None:
        """These and no others: all that the project has."""
        rows = [_row(project, one) for one in several]

        def write(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM example WHERE project = ?", (project,))
            db.execute("INSERT OR REPLACE INTO whole VALUES (?)", (project,))
            db.executemany("INSERT OR REPLACE INTO example VALUES (?, ?, ?, ?, ?)", rows)

        self._do(write)

    def of(self, project: str) -> list[Annotated]:
        """In order of the annotations."""
        query = "SELECT annotation, task, data, result FROM example WHERE project = ? ORDER BY annotation"
        rows: list[Any] = self._do(lambda db: db.execute(query, (project,)).fetchall())
        return [
            Annotated(
                annotation_id=row[0], task_id=row[1], data=json.loads(row[2]), result=json.loads(row[3])
            )
            for row in rows
        ]

    def is_whole(self, project: str) -> bool:
        """Whether all annotations of a project were read once; since then events told of the others."""
        query = "SELECT 1 FROM whole WHERE project = ?"
        return bool(self._do(lambda db: db.execute(query, (project,)).fetchone()))

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                if self._db is None:
                    self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                    self._db = sqlite3.connect(self._folder / FILE, timeout=_BUSY_S, check_same_thread=False)
                    self._db.executescript(_TABLES)
                with self._db:
                    return work(self._db)
            except (sqlite3.Error, OSError) as error:
                raise Unavailable(f"{FILE} in CACHE_DIR cannot be used: {error}") from error


def _row(project: str, one: Annotated) -> tuple[str, int, int, str, str]:
    return project, one.annotation_id, one.task_id, json.dumps(one.data), json.dumps(one.result)
