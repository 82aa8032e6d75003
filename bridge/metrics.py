"""How good the predictions were: the state of a project -> a row an annotation, and a summary a model version. Pure.

A row says which prediction the person had before them and what they did to it (bridge/agreement.py). The rules, and an
example worked out by hand, are in docs/metrics.md.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from bridge.agreement import OUTCOMES, Comparison, Match, compare
from bridge.records import Record, format_time, parse_time
from bridge.state import StateView

DECIMALS = 4
# The ML backend's clock may be behind Label Studio's when a task is predicted as soon as it is made.
CLOCKS_DIFFER = timedelta(minutes=1)

STEPS = ("decode_s", "queue_s", "inference_s", "encode_s")
"""Of a task's way through the ML backend: picture, wait for a batch, model, regions (ml_backend/timings.py)."""

Outcome = Literal["compared", "no prediction", "skipped", "copied"]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a person may have had before them. `id` is Label Studio's, None for what only the ML backend told us.

    `source`: prediction (read from Label Studio), snapshot (Label Studio's copy inside the annotation), inference."""

    id: int | None
    model_version: str
    created_at: datetime
    regions: tuple[Any, ...]
    source: str

    @property
    def region_ids(self) -> set[str]:
        return {str(item["id"]) for item in self.regions if isinstance(item, Mapping) and item.get("id")}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One annotation. `chosen_by`: parent, region ids, time, or "" without a prediction."""

    annotation: int
    task: int
    completed_by: int | None
    created_at: datetime
    updated_at: datetime
    lead_time_s: float | None
    ground_truth: bool
    outcome: Outcome
    prediction: Prediction | None = None
    chosen_by: str = ""
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """One line of metrics/annotations-….jsonl."""
        found = self.comparison
        return {
            "annotation": self.annotation,
            "task": self.task,
            "completed_by": self.completed_by,
            "created_at": format_time(self.created_at),
            "updated_at": format_time(self.updated_at),
            "lead_time_s": self.lead_time_s,
            "ground_truth": self.ground_truth,
            "outcome": self.outcome,
            "prediction": self.prediction
            and {
                "id": self.prediction.id,
                "model_version": self.prediction.model_version,
                "created_at": format_time(self.prediction.created_at),
                "source": self.prediction.source,
                "chosen_by": self.chosen_by,
            },
            "counts": found and found.counts(),
            "regions": found and [_match_json(match) for match in found.matches],
            "others": found and {name: list(counts) for name, counts in found.others.items()},
        }


def rows_of(state: StateView) -> Iterator[Row]:
    """A row for every annotation that is there, in the order of their ids."""
    predictions = _predictions(state)
    task_born = {id: task.record.created_at for id, task in state.every("task") if task.record is not None}
    for thing in state.alive("annotation"):
        record, data = thing.record, thing.data
        if record is None or record.created_at is None or not isinstance(data.get("task"), int):
            continue
        born = task_born.get(str(data["task"]))
        prediction, chosen_by = choose(data, record.created_at, predictions.get(data["task"], []), born)
        yield _row(record, data, prediction, chosen_by)


def _row(record: Record, data: Mapping[str, Any], prediction: Prediction | None, chosen_by: str) -> Row:
    outcome: Outcome = "no prediction" if prediction is None else "compared"
    if data.get("was_cancelled"):
        outcome = "skipped"
    elif _is_copy(data):
        outcome = "copied"
    comparison = None
    if prediction is not None and outcome == "compared":
        result = data.get("result")
        comparison = compare(
            prediction.regions, result if isinstance(result, list) else [], linked=chosen_by == "parent"
        )
    completed_by, lead_time = data.get("completed_by"), data.get("lead_time")
    assert record.created_at is not None
    return Row(
        annotation=int(record.id),
        task=data["task"],
        completed_by=completed_by if isinstance(completed_by, int) else None,
        created_at=record.created_at,
        updated_at=record.version or record.seen_at,
        lead_time_s=float(lead_time) if isinstance(lead_time, int | float) and lead_time > 0 else None,
        ground_truth=bool(data.get("ground_truth")),
        outcome=outcome,
        prediction=prediction,
        chosen_by=chosen_by,
        comparison=comparison,
    )


def _is_copy(data: Mapping[str, Any]) -> bool:
    """Whether Label Studio's action "create annotations from predictions" made it and nobody has touched it since: that
    action alone names a parent and leaves out who updated it and how long it took (tests/samples/ANNOTATIONS_CREATED)."""
    return (
        data.get("parent_prediction") is not None
        and data.get("updated_by") is None
        and data.get("lead_time") is None
    )


# --- which prediction


def choose(
    annotation: Mapping[str, Any],
    created_at: datetime,
    known: Sequence[Prediction],
    task_born: datetime | None = None,
) -> tuple[Prediction | None, str]:
    """The prediction that the person who made an annotation had before them, and how it was found.

    1. the one the annotation names as its parent; 2. of those made before the annotation, the one that shares the most
    region ids with it; 3. the newest of those. One made after the annotation is never taken, nor one older than the
    task: it belongs to an earlier task of the same id."""
    snapshot = _snapshot(annotation)
    candidates = [*known] if snapshot is None else [*known, snapshot]
    parent = annotation.get("parent_prediction")
    by_id = [p for p in candidates if parent is not None and p.id == parent and _can_be(p, task_born)]
    if by_id:
        return max(by_id, key=_age), "parent"
    before = [p for p in candidates if p.created_at <= created_at and _can_be(p, task_born)]
    if not before:
        return None, ""
    result = annotation.get("result")
    ids = (
        {str(r["id"]) for r in result if isinstance(r, Mapping) and r.get("id")}
        if isinstance(result, list)
        else set()
    )
    best = max(before, key=lambda p: (len(p.region_ids & ids), *_age(p)))
    return best, "region ids" if best.region_ids & ids else "time"


def _age(prediction: Prediction) -> tuple[datetime, bool]:
    """Newest last; what Label Studio had is preferred to what the model said."""
    return prediction.created_at, prediction.source == "prediction"


def _can_be(prediction: Prediction, task_born: datetime | None) -> bool:
    return task_born is None or prediction.created_at >= task_born - CLOCKS_DIFFER


def _snapshot(annotation: Mapping[str, Any]) -> Prediction | None:
    """Label Studio's copy of the prediction inside the annotation; there when the project's model version is exactly the
    prediction's (label_studio 1.23.2, tasks/api.py), else `{}`."""
    data = annotation.get("prediction")
    return (
        _prediction(data, "snapshot")
        if isinstance(data, Mapping) and isinstance(data.get("id"), int)
        else None
    )


def _predictions(state: StateView) -> dict[int, list[Prediction]]:
    """By task. Those that were deleted since count too: they were there when the person looked."""
    found: dict[int, list[Prediction]] = {}
    for kind in ("prediction", "inference"):
        for _, thing in state.every(kind):
            for life in thing.incarnations.values():
                data = {} if life.newest is None else life.newest.data
                prediction = _prediction(data, kind)
                if prediction is not None and isinstance(data.get("task"), int):
                    found.setdefault(data["task"], []).append(prediction)
    return found


def _prediction(data: Mapping[str, Any], source: str) -> Prediction | None:
    """None for an inference that failed, that an older ML backend wrote without its regions, or that only answered what a
    person was drawing: nobody had it before them."""
    regions = data.get("regions" if source == "inference" else "result")
    try:
        created_at = parse_time(data.get("created_at"))
    except (ValueError, TypeError):
        return None
    if created_at is None or not isinstance(regions, list) or "problem" in data or data.get("interactive"):
        return None
    return Prediction(
        id=data["id"] if isinstance(data.get("id"), int) else None,
        model_version=str(data.get("model_version") or ""),
        created_at=created_at,
        regions=tuple(regions),
        source=source,
    )


# --- the summary


@dataclass(kw_only=True)
class Tally:
    """Counts of one label, or of all. Predicted = kept + moved + relabelled + removed, under the predicted label;
    annotated = kept + moved + relabelled + added, under the annotated one."""

    predicted: int = 0
    annotated: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    ious: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        right = self.outcomes["kept"] + self.outcomes["moved"]
        return {
            "predicted": self.predicted,
            "annotated": self.annotated,
            **{outcome: self.outcomes[outcome] for outcome in OUTCOMES},
            "precision": _share(right, self.predicted),
            "recall": _share(right, self.annotated),
            "mean_iou": _rounded(statistics.fmean(self.ious)) if self.ious else None,
        }


@dataclass(kw_only=True)
class _Version:
    rows: Counter[str] = field(default_factory=Counter)
    tasks: set[int] = field(default_factory=set)
    people: set[int] = field(default_factory=set)
    all: Tally = field(default_factory=Tally)
    labels: dict[tuple[str, str, str], Tally] = field(default_factory=dict)
    others: dict[str, list[int]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    ground_truth: int = 0


class Summing:
    """Takes rows one by one and keeps no row; `to_json` is the summary."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._versions: dict[str, _Version] = {}
        self._seconds: dict[bool, list[float]] = {True: [], False: []}

    def add(self, row: Row) -> None:
        self._outcomes[row.outcome] += 1
        decided = row.outcome in ("compared", "no prediction")
        if decided and row.lead_time_s is not None:
            self._seconds[row.prediction is not None].append(row.lead_time_s)
        if row.prediction is None:
            return
        version = self._versions.setdefault(row.prediction.model_version, _Version())
        version.rows[row.outcome] += 1
        if row.comparison is None:
            return
        version.tasks.add(row.task)
        version.ground_truth += row.ground_truth
        if row.completed_by is not None:
            version.people.add(row.completed_by)
        if row.lead_time_s is not None:
            version.seconds.append(row.lead_time_s)
        for match in row.comparison.matches:
            _count(version, match)
        for name, (predicted, annotated) in row.comparison.others.items():
            sums = version.others.setdefault(name, [0, 0])
            sums[0] += predicted
            sums[1] += annotated

    def to_json(self, inferences: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """`inferences`: what `inferences_of` found. Versions in the order of their names."""
        names = sorted(self._versions.keys() | inferences.keys())
        return {
            "annotations": {
                "all": self._outcomes.total(),
                "compared": self._outcomes["compared"],
                "no_prediction": self._outcomes["no prediction"],
                "skipped": self._outcomes["skipped"],
                "copied": self._outcomes["copied"],
            },
            "human_seconds": {
                "with_prelabel": _seconds(self._seconds[True]),
                "without_prelabel": _seconds(self._seconds[False]),
            },
            "versions": [
                _version_json(name, self._versions.get(name, _Version()), inferences.get(name))
                for name in names
            ],
        }


def _count(version: _Version, match: Match) -> None:
    """A relabelled region is a wrong one of its predicted label and a missed one of its annotated label."""
    for label, side in ((match.predicted, "predicted"), (match.annotated, "annotated")):
        if label is None:
            continue
        tally = version.labels.setdefault((match.type, match.control, label), Tally())
        for one in (tally, version.all):
            setattr(one, side, getattr(one, side) + 1)
        if match.outcome != "relabelled" and (match.predicted is None or side == "predicted"):
            tally.outcomes[match.outcome] += 1
        elif match.outcome == "relabelled":
            tally.outcomes["relabelled"] += 1
    version.all.outcomes[match.outcome] += 1
    if match.iou is not None and match.outcome in ("kept", "moved"):
        version.all.ious.append(match.iou)
        version.labels[match.type, match.control, match.annotated or ""].ious.append(match.iou)


def _version_json(name: str, version: _Version, model: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "model_version": name,
        "annotations": version.rows["compared"],
        "skipped": version.rows["skipped"],
        "copied": version.rows["copied"],
        "ground_truth": version.ground_truth,
        "tasks": len(version.tasks),
        "annotators": len(version.people),
        **version.all.to_json(),
        "labels": [
            {"type": type, "control": control, "label": label, **tally.to_json()}
            for (type, control, label), tally in sorted(version.labels.items())
        ],
        "others": {
            type: {"predicted": sums[0], "annotated": sums[1]}
            for type, sums in sorted(version.others.items())
        },
        "human_seconds": _seconds(version.seconds),
        "model": model,
    }


def inferences_of(state: StateView) -> dict[str, dict[str, Any]]:
    """What each model version did, from the ML backend's records: one a task; a request's share one time."""
    records: dict[str, list[Mapping[str, Any]]] = {}
    for _, thing in state.every("inference"):
        data = thing.data
        if data:
            records.setdefault(str(data.get("model_version") or ""), []).append(data)
    return {version: _inferences_json(found) for version, found in records.items()}


def _inferences_json(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    requests: dict[str, tuple[float, int]] = {}
    labels: Counter[str] = Counter()
    scores: list[float] = []
    steps: dict[str, list[float]] = {}
    batches: list[float] = []
    engines: Counter[str] = Counter()
    tasks, failed, interactive = 0, 0, 0
    for data in records:
        if data.get("interactive"):
            interactive += 1
            continue
        tasks += 1
        timing = data.get("timing")
        if isinstance(timing, Mapping):
            for step in STEPS:
                if isinstance(timing.get(step), int | float):
                    steps.setdefault(step, []).append(float(timing[step]))
            if isinstance(timing.get("batch"), int) and timing["batch"] > 0:
                batches.append(timing["batch"])
            engines.update(name for name in timing.get("engines") or [] if isinstance(name, str))
        failed += "problem" in data
        labels.update(data.get("labels") or {})
        scores += data.get("scores") or []
        seconds, shared_by = data.get("request_seconds"), data.get("request_tasks")
        if isinstance(seconds, int | float) and isinstance(shared_by, int) and shared_by > 0:
            requests[str(data.get("id")).rpartition("-")[0]] = (seconds, shared_by)
    tenths = Counter(min(int(score * 10), 9) for score in scores)
    return {
        "requests": len(requests),
        "tasks": tasks,
        "failed": failed,
        "interactive": interactive,
        "request_seconds": _seconds([seconds for seconds, _ in requests.values()])
        | _percentiles([seconds for seconds, _ in requests.values()]),
        "steps": {step: _seconds(found) | _percentiles(found) for step, found in sorted(steps.items())},
        "batch": {
            "mean": _rounded(statistics.fmean(batches)) if batches else None,
            "most": max(batches, default=None),
        },
        "engines": dict(sorted(engines.items())),
        "seconds_a_task": _rounded(
            sum(seconds for seconds, _ in requests.values()) / sum(shared for _, shared in requests.values())
        )
        if requests
        else None,
        "regions": len(scores),
        "labels": dict(sorted(labels.items())),
        "mean_score": _rounded(statistics.fmean(scores)) if scores else None,
        "score_tenths": [tenths[tenth] for tenth in range(10)],
    }


def _percentiles(found: Sequence[float]) -> dict[str, float | None]:
    """The value that 95, and 99, of a hundred do not pass: the nearest one there is."""
    ordered = sorted(found)
    return {
        f"p{share}": _rounded(ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)]) if ordered else None
        for share in (95, 99)
    }


def _seconds(found: Sequence[float]) -> dict[str, Any]:
    if not found:
        return {"count": 0, "median": None, "mean": None}
    return {
        "count": len(found),
        "median": _rounded(statistics.median(found)),
        "mean": _rounded(statistics.fmean(found)),
    }


def _share(part: int, whole: int) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(value: float) -> float:
    return round(value, DECIMALS)


def _match_json(match: Match) -> dict[str, Any]:
    return {
        "outcome": match.outcome,
        "type": match.type,
        "control": match.control,
        "predicted": match.predicted,
        "annotated": match.annotated,
        "predicted_id": match.predicted_id,
        "annotated_id": match.annotated_id,
        "iou": None if match.iou is None else _rounded(match.iou),
        "score": match.score,
        "found_by": match.found_by,
    }
