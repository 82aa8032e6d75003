"""Verify a project's record: log, derived parts, Label Studio. Reads only; `bridge/verify.py` says what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.edges import verify_derived as derived
from bridge.edges.verify_derived import Check, Look
from bridge.edges.verify_label_studio import LabelStudioCheck
from bridge.edges.verify_log import Log, Say
from bridge.edges.verify_snapshots import can_read_tables, snapshots
from bridge.errors import OutsideError
from bridge.keys import Layout
from bridge.store import ObjectStore
from bridge.verify import Problem, Report, persisting

if TYPE_CHECKING:
    from bridge.edges.label_studio import LabelStudio

# An event is in the log a second or two after it happened, and in current/ some seconds later.
SETTLE_S = 5.0
_CHECKS: dict[str, Check] = {
    "snapshots": snapshots,
    "exports": derived.exports,
    "current": derived.current,
    "media": derived.media,
    "metrics": derived.metrics,
}


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What to verify and with what. `label_studio` is None where it shall not be asked. Tests hand in `sleep`."""

    store: ObjectStore
    layout: Layout
    label_studio: LabelStudio | None
    deep: bool = False
    say: Say = lambda words: None
    sleep: Callable[[float], None] = time.sleep
    settle_s: float = SETTLE_S

    def run(self) -> Report:
        """Look at everything. Raises Unavailable or Refused where the bucket does not answer; a Label Studio that does
        not is a problem of the report."""
        report = Report(uid=self.layout.uid, deep=self.deep)
        log = Log(self.store, self.layout)
        log.read(report, self.say)
        report.problems += _unique(self._derived(log), report)
        if self.deep and not can_read_tables():
            report.notes.append("the tables of snapshots/ were not read: pyarrow is not installed here")
        self._label_studio(log, report)
        return report

    def _derived(self, log: Log) -> Iterator[Problem]:
        """What two looks find; nothing is looked at twice that was as it should be."""
        first = {name: self._look(log, name) for name in _CHECKS}
        if any(first.values()):
            self._settle(log)
        for name, problems in first.items():
            if problems:
                yield from persisting(problems, self._look(log, name))

    def _look(self, log: Log, name: str) -> list[Problem]:
        self.say(f"looking at {name}/")
        look = Look(
            store=self.store,
            layout=self.layout,
            state=log.state,
            log_keys=log.keys,
            deep=self.deep,
            log_is_damaged=log.damaged,
        )
        return list(_CHECKS[name](look))

    def _settle(self, log: Log) -> None:
        self.sleep(self.settle_s)
        log.catch_up()

    def _label_studio(self, log: Log, report: Report) -> None:
        if self.label_studio is None:
            report.skipped["label_studio"] = "not asked"
            return
        log.catch_up()
        check = LabelStudioCheck(
            self.label_studio, self.layout.uid, log.state, settle=lambda: self._settle(log), say=self.say
        )
        try:
            check.run(report)
        except OutsideError as error:
            words = f"could not be compared: {error}"
            report.problems.append(
                Problem(part="label_studio", where="Label Studio", what="unreachable", words=words)
            )


def _unique(problems: Iterable[Problem], report: Report) -> list[Problem]:
    """Each once; what only says that a newer version of us made it is a note."""
    found = {problem.name: problem for problem in problems}
    for problem in found.values():
        if problem.what == "newer":
            report.notes.append(f"{problem.where} {problem.words}")
    return [problem for problem in found.values() if problem.what != "newer"]
