"""A metrics summary as lines for a terminal of 100 columns. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

_HEAD = ("predicted", "annotated", "kept", "moved", "relabelled", "removed", "added")


def lines(summary: Mapping[str, Any]) -> Iterator[str]:
    counts = summary["annotations"]
    yield f"Project {summary['project']}, metrics of {summary['made_at'][:19].replace('T', ' ')} UTC"
    if not summary["baseline_complete"]:
        yield click.style(
            "The baseline is not complete: annotations and predictions are missing here.", fg="yellow"
        )
    yield (
        f"  annotations  {counts['all']}: {counts['compared']} compared, {counts['no_prediction']} without a prediction, "
        f"{counts['skipped']} skipped, {counts['copied']} copied from predictions"
    )
    seconds = summary["human_seconds"]
    yield (
        f"  seconds      {_seconds(seconds['with_prelabel'])} with a prediction; "
        f"{_seconds(seconds['without_prelabel'])} without"
    )
    if not summary["versions"]:
        yield "  No model version has predicted anything yet."
    for version in summary["versions"]:
        yield ""
        yield from _version(version)


def _version(version: Mapping[str, Any]) -> Iterator[str]:
    yield click.style(f"Model version {version['model_version'] or '(none)'}", bold=True)
    yield (
        f"  people  {version['annotations']} annotations of {version['tasks']} tasks by {version['annotators']} "
        f"annotators, {_seconds(version['human_seconds'])}; {version['skipped']} skipped, {version['copied']} copied"
    )
    yield (
        f"  all     {_share(version['precision'])} precision, {_share(version['recall'])} recall, "
        f"{_share(version['mean_iou'])} mean IoU"
    )
    yield "          " + ", ".join(f"{version[name]} {name}" for name in _HEAD)
    model = version["model"]
    if model is not None:
        yield (
            f"  model   {model['tasks']} tasks ({model['failed']} failed) in {model['requests']} requests, "
            f"{_number(model['seconds_a_task'])} s a task, {model['regions']} regions, mean score {_share(model['mean_score'])}"
        )
        if model.get("steps"):  # not there in a summary made by an older worker
            steps = ", ".join(
                f"{step.removesuffix('_s')} {_number(found['median'])} (95 %: {_number(found['p95'])})"
                for step, found in model["steps"].items()
            )
            yield f"  seconds {steps}; {' + '.join(model['engines']) or 'no engine'}"
        if model["labels"]:
            yield "  found   " + ", ".join(f"{count} {label}" for label, count in model["labels"].items())
    if version["labels"]:
        head = "".join(f"{name[:7]:>8}" for name in _HEAD)
        yield f"  {'label':<18}{head}{'prec.':>7}{'recall':>7}{'IoU':>7}"
    for label in version["labels"]:
        numbers = "".join(f"{label[name]:>8}" for name in _HEAD)
        shares = "".join(f"{_share(label[name]):>7}" for name in ("precision", "recall", "mean_iou"))
        yield f"  {_fit(label['label'] or '(no label)', 18)}{numbers}{shares}"
    for type, sums in version["others"].items():
        yield f"  {type}: {sums['predicted']} predicted, {sums['annotated']} annotated (counted, not compared)"


def _seconds(found: Mapping[str, Any]) -> str:
    if not found["count"]:
        return "no times"
    return f"median {found['median']:g} s, mean {found['mean']:g} s ({found['count']})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _fit(text: str, width: int) -> str:
    return f"{text if len(text) < width else text[: width - 2] + '…':<{width}}"
