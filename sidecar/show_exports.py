"""Exports in words, for the command line. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.edges.exports import View
from bridge.export_manifest import Counts
from bridge.exports import LEFT_OUT


def state_words(view: View) -> str:
    """Such as `running: 40 of 500 tasks written, 12 s left`."""
    told = view.message or (str(view.progress["words"]) if view.progress else "")
    return f"{view.state}: {told}" if told else view.state


def size(size_bytes: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def lines(view: View) -> Iterator[str]:
    """One export."""
    yield f"{view.id}  {view.format}, {view.tasks} tasks: {state_words(view)}"
    manifest = view.manifest
    if manifest is None:
        yield f"  see how it is: python -m sidecar export show {view.id}"
        return
    counts = manifest.counts
    yield (
        f"  in it       {counts.tasks} tasks, {counts.annotations_in_output} of {counts.annotations} annotations, "
        f"{counts.regions_in_output} of {counts.regions} regions"
    )
    yield from _notes(counts)
    yield f"  baseline    {manifest.baseline.text}"
    yield f"  source      {manifest.source['log_key']}"
    if manifest.same_as:
        yield f"  same as     {manifest.same_as}: nothing in it has changed since"
    for file in manifest.files:
        yield f"  file        {file.name}  {size(file.size_bytes)}  sha256 {file.sha256}"
    yield f"  fetch it:   python -m sidecar export download {view.id}"


def _notes(counts: Counts) -> Iterator[str]:
    for reason, number in counts.regions_left_out.items():
        yield f"  left out    {number} regions: {reason}"
    for reason, number in counts.annotations_left_out.items():
        yield f"  left out    {number} annotations: {reason}"
    for what, number in counts.regions_changed.items():
        yield f"  changed     {number} regions: {what}"
    if counts.regions_left_out or counts.annotations_left_out:
        yield f"              each is named in {LEFT_OUT}"


def list_lines(views: Sequence[View]) -> Iterator[str]:
    """A line an export."""
    if not views:
        yield "no exports: `python -m sidecar export PROJECT --format JSON` asks for one"
    for view in views:
        told = state_words(view)
        if view.manifest is not None:
            counts, baseline = view.manifest.counts, view.manifest.baseline
            told = f"complete: {counts.tasks} tasks, {counts.regions_in_output} of {counts.regions} regions"
            told += "" if baseline.complete else f"; baseline {baseline.text}"
        yield f"{view.id}  {view.format:<5} {told}"
