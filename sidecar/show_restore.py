"""What the command line says of a restore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.progress import span
from bridge.records import format_time
from sidecar.progress_bar import size_words
from sidecar.restoring import Plan, storage_words

SHOWN = 20


def plan_lines(plan: Plan) -> list[str]:
    source, order = plan.source, plan.order
    counts = source.counts
    lines = [f"restore {order.id}: project {order.uid} as of {format_time(order.at)}"]
    if plan.absent_since is not None:
        lines.append(
            f"  the last moment it was there: Label Studio was found without it at {format_time(plan.absent_since)}"
        )
    if plan.finished:
        lines.append(
            f"  restored before as project {plan.made}: it is compared with the record, and not changed"
        )
    elif plan.made:
        lines.append(f"  goes on with project {plan.made}, which an earlier run began")
    lines.append(f"  into {order.to}, as a new project {order.title!r}")
    lines.append(
        f"  {counts['tasks']} tasks, {counts['annotations']} annotations ({counts['skipped']} skipped, "
        f"{counts['ground_truth']} ground truth), {counts['predictions']} predictions, {counts['drafts']} drafts, "
        f"{counts['views']} views"
    )
    if source.uploads:
        size = size_words(sum(media.size_bytes for media in source.uploads))
        lines.append(f"  {len(source.uploads)} uploaded files, {size}")
    lines += [f"  author {email} is user {id} there" for email, id in plan.matched.items()]
    lines += [
        f"  author {email} is made a user there; they set a password themselves" for email in plan.create
    ]
    lines += [f"  storage: {storage_words(one)}" for one in source.storages]
    if not source.whole:
        lines.append("  the project had not been read whole by then: only what the record has comes back")
    if order.bulk:
        lines.append("  in bulk: fast, and every annotation gets a new unique_id")
    lines += left_out_lines([one.to_json() for one in source.left_out], len(source.left_out))
    lines += [f"  cannot begin: {reason}" for reason in plan.stops]
    return lines


def left_out_lines(left_out: list[Mapping[str, Any]] | list[dict[str, Any]], count: int) -> list[str]:
    """What does not come back, the first of it by name."""
    lines = [f"  not restored: {one['kind']} {one['id']}: {one['reason']}" for one in left_out[:SHOWN]]
    return lines + ([f"  … and {count - SHOWN} more, in the report"] if count > SHOWN else [])


def report_lines(report: Mapping[str, Any]) -> list[str]:
    project, counts, unique = report["project"], report["counts"], report["unique_ids"]
    verb = "compared" if report["compared_only"] else "restored"
    there = ", ".join(
        f"{counts[name]} {name}" for name in ("tasks", "annotations", "predictions", "drafts", "views")
    )
    kept = ", ".join(f"{number} {name}" for name, number in unique.items())
    where = f"project {project['id']} ({project['uid']}, {project['title']!r}) of {project['to']}"
    lines = [
        f"{verb} as {where} in {span(report['seconds'])}",
        f"  there now: {there}",
        f"  unique_id: {kept} (derived: taken in that Label Studio, or not in the record)",
    ]
    lines += left_out_lines(report["left_out"], report["left_out_count"])
    for one in report["differences"][:SHOWN]:
        what = (
            f"{one['field']}: {one['recorded']!r:.80} recorded, {one['found']!r:.80} there"
            if one["field"]
            else one["what"]
        )
        lines.append(f"  differs: {one['kind']} {one['id']}: {what}")
    if report["difference_count"] > SHOWN:
        lines.append(f"  … and {report['difference_count'] - SHOWN} more differences, in the report")
    if not report["difference_count"]:
        lines.append("  every field is as the record says")
    return lines
