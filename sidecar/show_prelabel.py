"""Pre-labelling jobs in words, for the command line. Pure, but for the bar that draws itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import TextIO

from bridge.prelabel import COMPLETE, View, by_reason
from sidecar.progress_bar import time_words

_WIDTH = 24
_REASONS, _IDS = 10, 12


def state_words(view: View) -> str:
    """Such as `running: 40 of 2000 tasks, 12 s left`."""
    told = view.message or (view.progress.words() if view.progress else "")
    return f"{view.state}: {told}" if told else view.state


def bar_line(view: View) -> str:
    """One line: the bar, tasks done of all, failures, the time left; what it waits for, where it waits."""
    progress = view.progress
    if progress is None or not progress.total:
        return state_words(view)
    share = min(1.0, progress.done / progress.total)
    filled = int(_WIDTH * share)
    left = "?" if view.left_s is None else time_words(view.left_s)
    failed = f"  {view.account.failed} failed" if view.account.failed else ""
    told = f"  {view.message}" if view.message else f"  {left} left"
    return (
        f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}  "
        f"{progress.done} of {progress.total} tasks{failed}{told}"
    )


class Teller:
    """Says how a job is: a bar drawn over and over on a terminal, else a line for each tenth of the way."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._said = ""

    def __call__(self, view: View) -> None:
        if view.is_over:
            return  # how it ended is told next
        if self._terminal:
            # A line that is wider than the window goes on below, where nothing wipes it away.
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r{bar_line(view)[:width]}\x1b[K")
            self._stream.flush()
            return
        progress = view.progress
        tenth = int(10 * progress.done / progress.total) if progress and progress.total else 0
        key = f"{view.state} {view.message} {tenth}"
        if key != self._said:
            self._said = key
            self._stream.write(f"{state_words(view)}\n")
            self._stream.flush()

    def close(self) -> None:
        """Leave a clean line for what is printed next."""
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def lines(view: View) -> Iterator[str]:
    """One job."""
    order, account = view.order, view.account
    yield f"{order.id}  {state_words(view)}"
    wanted = [_short(one) for one in order.filters] + (
        [f"tab {order.view}"] if order.view is not None else []
    )
    yield f"  tasks       {account.selected} selected ({', '.join(wanted) or 'all'})"
    yield f"  asked       {_asked(view)}"
    if view.model_version:
        yield f"  model       {view.model_version}"
    yield f"  written     {account.written}"
    if account.already:
        yield f"  there       {account.already} had a prediction of this version already"
    if account.replaced:
        yield f"  replaced    {account.replaced} older predictions of ours were deleted"
    if account.waiting:
        yield f"  waiting     {account.waiting} predicted, and not in Label Studio yet"
    if account.failed:
        yield f"  failed      {account.failed}"
        yield from _failures(view)
    if view.report_key:
        yield f"  report      {view.report_key}"
    for warning in [one for one in view.warnings if one not in view.message][:_REASONS]:
        yield f"  warning     {warning}"
    if view.state == COMPLETE and not account.selected:
        yield "  hint        no task was selected: `--filter all` takes every task of the project"
    if (view.state == COMPLETE and account.failed) or view.state in ("stopped", "failed"):
        yield f"  go on:      python -m sidecar prelabel resume {order.id}"
    elif not view.is_over:
        yield f"  see it:     python -m sidecar prelabel show {order.id}"


def _failures(view: View) -> Iterator[str]:
    reasons = by_reason(view.failures)
    for reason, ids in reasons[:_REASONS]:
        named = ", ".join(map(str, ids[:_IDS])) + (", …" if len(ids) > _IDS else "")
        yield f"    {len(ids)} x {reason}"
        yield f"        task {named}" if len(ids) == 1 else f"        tasks {named}"
    if len(reasons) > _REASONS:
        yield f"    and {len(reasons) - _REASONS} more reasons: the report names every task"


def _asked(view: View) -> str:
    """Such as `2026-11-22 10:00 UTC by command line`."""
    order = view.order
    return f"{order.asked_at[:16].replace('T', ' ')} UTC" + (f" by {order.by}" if order.by else "")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def list_lines(views: Sequence[View]) -> Iterator[str]:
    """A line a job."""
    if not views:
        yield "no pre-labelling jobs: `python -m sidecar prelabel PROJECT` begins one"
    for view in views:
        account = view.account
        told = f"{account.written} written, {account.already} there, {account.failed} failed of {account.selected}"
        yield (
            f"{view.order.id}  {told if view.is_over else state_words(view)}"
            + (f"  ({view.state})" if view.is_over else "")
            + f"  asked {_asked(view)}"
        )
