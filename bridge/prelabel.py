"""Pre-labelling many tasks as a job: what was asked for, which tasks, how large a request, what an answer means. Pure.

The job itself is workers/prelabel.py, what it keeps in Redis bridge/edges/prelabel.py; docs/prelabel.md is for people.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bridge.errors import SenderError
from bridge.keys import project_id_of
from bridge.progress import Progress
from bridge.records import canonical, format_time, parse_time

QUEUED, RUNNING, STOPPED, COMPLETE, FAILED = "queued", "running", "stopped", "complete", "failed"
UNDER_WAY = (QUEUED, RUNNING)

CHUNK_TASKS = 200  # also how many ids stand in one address: 200 of 8 digits are 2.5 kB, servers take 4
PAGE_TASKS = 1000
WRITE_TASKS = 1000
WRITE_BYTES = (
    16 << 20
)  # of predictions in one import: masks are large, and what stands before Label Studio has limits
# Label Studio recounts the whole project at each import: 3 s for 2,000 tasks, however few are sent (1.23.2).
WRITE_AFTER_S = 30.0
WRITE_SHARE = 10

FIRST_BATCH, LARGEST_BATCH = 8, 128
TARGET_S = 15.0  # of one request; the backend answers with what is done after 85 s (PREDICT_BUDGET_S)

_ID = re.compile(r"([0-9]+\.[0-9]+)-[0-9a-f]{12}")
_MOST_IDS = 1_000_000
FILTER_WORDS = "all, unlabeled, labeled, unpredicted, ids=1,5-9, created_after=2026-11-22, created_before=…"


def new_id(uid: str, now: datetime) -> str:
    """Sorts by time; one project has one job at a time, so a millisecond tells them apart."""
    return f"{uid}-{int(now.timestamp() * 1000):012x}"


def uid_of_prelabel(id: str) -> str:
    """Raises SenderError when it is no id of ours."""
    found = _ID.fullmatch(id)
    if found is None:
        raise SenderError(
            f"{id!r} is no pre-labelling job",
            hint="`python -m sidecar prelabel list` shows them",
        )
    return found[1]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What was asked for. `filters`: every one must hold. `view`: a tab of the data manager whose filters must hold too.

    `model`: a model version, "" for the one that the backend gives. `replace`: take away older predictions of ours."""

    id: str
    uid: str
    filters: tuple[str, ...] = ()
    view: int | None = None
    model: str = ""
    replace: bool = False
    by: str = ""
    asked_at: str = ""
    chunk_tasks: int = CHUNK_TASKS

    @property
    def project_id(self) -> int:
        return project_id_of(self.uid)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "uid": self.uid,
            "filters": list(self.filters),
            "view": self.view,
            "model": self.model,
            "replace": self.replace,
            "by": self.by,
            "asked_at": self.asked_at,
            "chunk_tasks": self.chunk_tasks,
        }

    @classmethod
    def of_json(cls, text: str | bytes) -> Order:
        found = json.loads(text)
        return cls(**{**found, "filters": tuple(found["filters"])})


# --- which tasks


@dataclass(frozen=True, kw_only=True)
class Selection:
    """`ids`: only these, in order; None: any. `items`: conditions in the words of Label Studio's data manager."""

    ids: tuple[int, ...] | None = None
    items: tuple[dict[str, Any], ...] = ()


def condition(name: str, operator: str, type: str, value: Any) -> dict[str, Any]:
    """One condition of the data manager's language."""
    return {"filter": f"filter:tasks:{name}", "operator": operator, "type": type, "value": value}


def selection_of(filters: Sequence[str]) -> Selection:
    """Read filters, all of which must hold. Raises SenderError for one we do not know."""
    ids: tuple[int, ...] | None = None
    items: list[dict[str, Any]] = []
    for text in filters:
        word, equals, value = text.strip().partition("=")
        if word == "all" and not equals:
            continue
        if word == "unlabeled" and not equals:
            items.append(condition("total_annotations", "equal", "Number", 0))
        elif word == "labeled" and not equals:
            items.append(condition("total_annotations", "greater", "Number", 0))
        elif word == "unpredicted" and not equals:
            items.append(condition("total_predictions", "equal", "Number", 0))
        elif word == "ids" and equals:
            given = ids_of(value)
            ids = given if ids is None else tuple(id for id in ids if id in set(given))
        elif word in ("created_after", "created_before") and equals:
            operator = "greater" if word == "created_after" else "less"
            items.append(condition("created_at", operator, "Datetime", _moment(value)))
        else:
            raise SenderError(f"unknown filter {text!r}", hint=f"there are {FILTER_WORDS}")
    return Selection(ids=ids, items=tuple(items))


def ids_of(text: str) -> tuple[int, ...]:
    """`1,5-9` as ids in order, each once. Raises SenderError."""
    found: set[int] = set()
    for part in text.split(","):
        one = re.fullmatch(r"\s*([0-9]{1,12})\s*(?:-\s*([0-9]{1,12})\s*)?", part)
        first, last = (int(one[1]), int(one[2] or one[1])) if one else (1, 0)
        if last < first or len(found) + last - first >= _MOST_IDS:
            raise SenderError(f"ids={text[:80]}: give task ids such as ids=1,5-9")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def ids_text(ids: Iterable[int]) -> str:
    """The other way round: `ids=1,5-9`."""
    runs: list[list[int]] = []
    for id in sorted(set(ids)):
        if runs and runs[-1][1] == id - 1:
            runs[-1][1] = id
        else:
            runs.append([id, id])
    return "ids=" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def view_items(view: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The conditions of a tab. Raises SenderError for those that are joined by "or": ours must hold beside them."""
    data = view.get("data")
    filters = data.get("filters") if isinstance(data, Mapping) else None
    items = list(filters.get("items") or []) if isinstance(filters, Mapping) else []
    if len(items) > 1 and isinstance(filters, Mapping) and filters.get("conjunction") == "or":
        raise SenderError(
            f"the filters of tab {view.get('id')} are joined by 'or', which cannot be narrowed further",
            hint="save a tab for each of them, and pre-label one after the other",
        )
    return tuple(items)


def _moment(value: str) -> str:
    try:
        found = parse_time(value if "T" in value or " " in value else f"{value}T00:00:00Z")
    except ValueError:
        found = None
    if found is None:
        raise SenderError(f"{value!r} is no time", hint="such as 2026-11-22 or 2026-11-22T10:00:00Z")
    return format_time(found)


def version_asked(asked: str, possible: Sequence[str]) -> str:
    """The model version that somebody means: a whole one, or its weights alone, as `model list` shows them.

    A job compares whole versions. Raises SenderError that lists what there is."""
    if asked in possible:
        return asked
    found = [one for one in possible if one.startswith(f"{asked}.t")]
    if len(found) == 1:
        return found[0]
    listed = f"it lists {', '.join(found or possible)}" if possible else "it lists none"
    if found:
        raise SenderError(f"{asked!r} may be several model versions of the ML backend", hint=listed)
    raise SenderError(f"the ML backend has no model version {asked!r}", hint=listed)


def has_version(joined: object, version: str) -> bool:
    """Whether a task has a prediction of this version, from what Label Studio 1.23.2 tells of its versions: all of them
    joined by commas, taken apart at every comma, each part once, in any order. So a version that holds commas itself is
    there when its parts are; ours end in a digest of everything else."""
    return _parts(version) <= _parts(joined)


def has_others(joined: object, version: str) -> bool:
    """Whether there are predictions of other versions too."""
    return not _parts(joined) <= _parts(version)


def _parts(joined: object) -> set[str]:
    texts = joined if isinstance(joined, list | tuple) else [joined]
    # PostgreSQL: with a space after each comma.
    return {part.strip() for text in texts if isinstance(text, str) and text for part in text.split(",")}


def chunks_of(ids: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(ids), size):
        yield tuple(ids[start : start + size])


# --- how large a request, and when to write


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many tasks go into one request."""

    size: int = FIRST_BATCH

    def after(self, tasks: int, seconds: float) -> Pace:
        """After an answer for so many tasks: twice as many where that stays below the target, fewer above it."""
        if seconds > TARGET_S:
            return Pace(size=max(1, int(tasks * TARGET_S / seconds)))
        if tasks >= self.size and 2 * seconds <= TARGET_S:
            return Pace(size=min(LARGEST_BATCH, 2 * self.size))
        return self

    def at_most(self, tasks: int) -> Pace:
        """After an answer in whose time only so many were begun."""
        return Pace(size=max(1, min(self.size, tasks)))

    def smaller(self, tasks: int) -> Pace:
        """After a request of so many tasks that was not answered as it should."""
        return Pace(size=max(1, min(self.size, tasks) // 2))


def is_time_to_write(
    *, waiting: int, since_write_s: float, last_write_s: float, waiting_bytes: int = 0
) -> bool:
    """Whether what was predicted so far is worth an import: Label Studio shall not spend its time recounting."""
    return (waiting >= WRITE_TASKS or waiting_bytes >= WRITE_BYTES) or (
        waiting > 0 and since_write_s >= max(WRITE_AFTER_S, WRITE_SHARE * last_write_s)
    )


# --- what an answer means


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What is to be written for a task: one or more predictions, each with `result`, `score`, `model_version`."""

    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Later:
    """Not done for a reason that passes."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """This task cannot be predicted."""

    reason: str


class Unfilled(Exception):
    """No control of the labeling config can be filled: empty predictions would be written for every task."""


def read_item(item: object, *, version: str, asked: str) -> Predicted | Later | Wrong:
    """One item of an answer to /predict. `version`: where the item names none; `asked`: the only one wanted, or "".

    An item without `result` was not done; an empty result with an `error` says what is wrong with the task. Raises Unfilled."""
    items = item if isinstance(item, list) else [item]
    rows = []
    for one in items:
        if not isinstance(one, dict):
            return Wrong(reason="the ML backend answered something that is no prediction")
        error = one.get("error")
        result = one.get("result")
        if result is None:
            return Later(reason=str(error or "the ML backend left it out"))
        if error and not result:
            return Wrong(reason=str(error))
        if not result and one.get("unfilled") is True:
            raise Unfilled
        if not isinstance(result, list) or not all(isinstance(region, dict) for region in result):
            return Wrong(reason="the ML backend answered a result that is no list of regions")
        made = str(one.get("model_version") or version)
        if asked and made != asked:
            return Wrong(reason=f"the ML backend answered with model version {made}, not {asked}")
        rows.append({"result": result, "score": _score(one.get("score")), "model_version": made})
    return (
        Predicted(rows=tuple(rows)) if rows else Wrong(reason="the ML backend answered an empty list for it")
    )


def _score(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]


# --- how a job is


@dataclass(frozen=True, kw_only=True)
class Account:
    """How many tasks: `selected` so far, `already` had this version, `written`, `failed`, `waiting` to be written."""

    selected: int = 0
    already: int = 0
    written: int = 0
    failed: int = 0
    waiting: int = 0
    replaced: int = 0

    @property
    def done(self) -> int:
        return self.already + self.written + self.failed

    def to_json(self) -> dict[str, int]:
        return {
            "selected": self.selected,
            "already": self.already,
            "written": self.written,
            "failed": self.failed,
            "waiting": self.waiting,
            "replaced": self.replaced,
        }


@dataclass(frozen=True, kw_only=True)
class View:
    """A job as people see it. `failures`: task id -> why, of as many as were asked for; `warnings`: what the ML backend
    says of the labeling config."""

    order: Order
    state: str
    message: str
    model_version: str
    account: Account
    progress: Progress | None
    began_at: str
    ended_at: str
    report_key: str
    failures: dict[int, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        return self.state not in UNDER_WAY

    @property
    def left_s(self) -> float | None:
        """Unknown while it waits for something, or does what is not counted in tasks predicted: `message` says what."""
        return None if self.progress is None or self.message else self.progress.left_s

    def to_json(self) -> dict[str, Any]:
        progress = self.progress
        return {
            "id": self.order.id,
            "project": self.order.uid,
            "state": self.state,
            "message": self.message,
            "model_version": self.model_version,
            "filters": list(self.order.filters),
            "view": self.order.view,
            "replace": self.order.replace,
            "by": self.order.by,
            "asked_at": self.order.asked_at,
            "began_at": self.began_at,
            "ended_at": self.ended_at,
            "counts": self.account.to_json(),
            "progress": None if progress is None else progress.to_json() | {"left_s": self.left_s},
            "report": self.report_key,
            "warnings": list(self.warnings),
            "failures": {str(id): reason for id, reason in self.failures.items()},
        }


def not_shown(
    project: Mapping[str, Any], backends: Sequence[Mapping[str, Any]], versions: Sequence[str]
) -> str:
    """Why annotators do not find the predictions of these versions on the tasks they open; "" when they do.

    Label Studio 1.23.2 shows those of one version: of the project's `model_version`, or, where that is the title of a
    backend, of the version that this one names (tasks/models.py, get_predictions_for_prelabeling)."""
    chosen = project.get("model_version")
    if not project.get("show_collab_predictions", True):
        return "annotators see no predictions: tick Settings > Annotation > Use predictions to prelabel tasks in Label Studio"
    if not chosen:
        return (
            "annotators see no predictions yet: `python -m sidecar connect` has them shown, or choose a version under "
            "Settings > Annotation in Label Studio"
        )
    shown = next((one.get("model_version") for one in backends if one.get("title") == chosen), chosen)
    if not shown or not versions or shown in versions:
        return ""
    return (
        f"annotators see the predictions of {shown}, not of {', '.join(versions)}: choose it under Settings > Annotation in "
        "Label Studio, or in the backend's extra params (docs/models.md)"
    )


def report_lines(view: View, failures: Mapping[int, str]) -> bytes:
    """The report as JSON lines: what became of the job, then a line for each task that failed, by id."""
    first = view.to_json() | {"kind": "prelabel"}
    for name in ("failures", "progress"):
        first.pop(name)
    lines = [canonical(first)]
    lines += [canonical({"task": id, "reason": failures[id]}) for id in sorted(failures)]
    return b"\n".join(lines) + b"\n"


def by_reason(failures: Mapping[int, str]) -> list[tuple[str, list[int]]]:
    """The tasks of each reason, the most frequent first."""
    found: dict[str, list[int]] = {}
    for id, reason in sorted(failures.items()):
        found.setdefault(reason, []).append(id)
    return sorted(found.items(), key=lambda pair: -len(pair[1]))
