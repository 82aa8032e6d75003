"""Write predictions into Label Studio, each once, and take away what they replace.

Label Studio recounts the whole project at every import, so one worker at a time writes for a project, and takes all that
others have predicted meanwhile. It looks at what is there first: what was written by a run that was killed, or by Label
Studio itself, is not written again.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridge.edges.prelabel import Ledger
from bridge.errors import OutsideError, Refused, Unavailable
from bridge.prelabel import WRITE_TASKS, has_version
from workers.prelabel_tasks import Tasks, older_of_ours, why_dropped

log = logging.getLogger(__name__)
_REPLACE_TASKS = 25  # five seconds of Label Studio's: then it is looked whether to go on
WRITE_TRIES = 5  # imports in a row that Label Studio fails at, before the task at fault is looked for
_BROKEN = 3  # single tasks in a row that it fails at: then it is Label Studio
GONE = "the task is gone from Label Studio"
Rows = Sequence[dict[str, Any]]


class Writer:
    """For one job, under the project's lock. `beat` is called between requests."""

    def __init__(
        self,
        ledger: Ledger,
        tasks: Tasks,
        *,
        label_config: str,
        replace: bool,
        beat: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger, self.tasks, self._beat, self._clock = ledger, tasks, beat, clock
        self._label_config, self._replace = label_config, replace

    def flush(self) -> None:
        """Write what waits. Raises Unavailable where waiting helps; what was not written waits on."""
        while waiting := self._ledger.staged(int(self._ledger.get("write_tasks") or WRITE_TASKS)):
            began = self._clock()
            self._write(waiting)
            now = self._clock()
            self._ledger.put(wrote_at=round(now, 3), write_s=round(now - began, 3), write_failures=0)
            self._beat()
        self._ledger.put(staged_bytes=0)

    def _write(self, waiting: Mapping[int, Rows]) -> None:
        ids = list(waiting)
        there = self.tasks.versions(ids)
        already = [id for id in ids if _is_there(waiting[id], there.get(id))]
        self._ledger.wrote(already, was="a", replace=self._replace)
        left = {id: waiting[id] for id in ids if id not in set(already)}
        if not left:
            return
        rows = [_body(id, row) for id, made in left.items() for row in made]
        try:
            created = self.tasks.write(rows)
        except Refused as error:
            self._not_written(left, error)
            return
        if created == len(rows):
            self._ledger.wrote(left, replace=self._replace)
        else:
            log.warning("Label Studio wrote %d of %d predictions: looking for the others", created, len(rows))
            self._fewer(left)

    def _not_written(self, left: Mapping[int, Rows], error: Refused) -> None:
        status = status_of(error)
        if status == 400:
            self._refused(left, str(error))
        elif status == 413:
            self._too_large(left, error)
        elif status == 500:
            self._failed(left, error)
        else:
            raise error

    def _too_large(self, left: Mapping[int, Rows], error: Refused) -> None:
        """A proxy before Label Studio takes less at a time, from now on half as many tasks."""
        if len(left) > 1:
            self._ledger.put(write_tasks=len(left) // 2)
            log.warning("%d predictions are too much for one import: halving it (%s)", len(left), error)
            return  # they still wait
        what = "its prediction alone is more than may be sent to Label Studio"
        self._ledger.fail(dict.fromkeys(left, f"{what}: {error}"))

    def _failed(self, left: Mapping[int, Rows], error: Refused) -> None:
        """A locked database, which passes; or a prediction that it cannot take, which only trying each will show. It may
        have failed after it had written them."""
        there = self.tasks.versions(list(left))
        written = [id for id, rows in left.items() if _is_there(rows, there.get(id))]
        self._ledger.wrote(written, replace=self._replace)
        rest = [id for id in left if id not in set(written)]
        if not rest:
            return
        if self._ledger.write_failed() < WRITE_TRIES:
            raise Unavailable(str(error)) from error
        broken = 0
        for id in rest:
            broken = 0 if self._alone(id, left[id], keep=broken + 1 >= _BROKEN) else broken + 1
            if broken >= _BROKEN:
                raise Unavailable(f"Label Studio fails at every task: {error}") from error
            self._beat()

    def _fewer(self, left: Mapping[int, Rows]) -> None:
        """Label Studio drops without a word what does not fit its config: find those, and try them one by one."""
        there = self.tasks.versions(list(left))
        written = [id for id, rows in left.items() if _is_there(rows, there.get(id))]
        self._ledger.wrote(written, replace=self._replace)
        for id in left.keys() - set(written):
            self._alone(id, left[id])
            self._beat()

    def _alone(self, id: int, rows: Rows, *, keep: bool = False) -> bool:
        """One task by itself. What Label Studio would drop again is not sent again. False when it fails at it (500): then
        the task has failed, unless it is to be kept."""
        bodies = [_body(id, row) for row in rows]
        for body in bodies:
            if why := why_dropped(self._label_config, body):
                self._ledger.fail({id: f"Label Studio does not take the prediction: {why}"})
                return True
        try:
            created = self.tasks.write(bodies)
        except Refused as error:
            status = status_of(error)
            if status not in (400, 413, 500):
                raise
            if status != 500 or not keep:
                gone = id not in self.tasks.alive([id])
                self._ledger.fail({id: GONE if gone else str(error)})
            return status != 500
        if created == len(bodies):
            self._ledger.wrote([id], replace=self._replace)
        else:
            self._ledger.fail({id: "Label Studio dropped the prediction without saying why"})
        return True

    def _refused(self, left: Mapping[int, Rows], why: str) -> None:
        """None of it was written: because of tasks deleted meanwhile, or of one that only trying each will show."""
        alive = self.tasks.alive(list(left))
        gone = [id for id in left if id not in alive]
        self._ledger.fail(dict.fromkeys(gone, GONE))
        if gone:
            return  # the others still wait, and go with the next import
        log.warning("Label Studio refused an import: %s", why)
        for id, rows in left.items():
            self._alone(id, rows)
            self._beat()

    def replace_older(
        self, new: Sequence[str], ours: set[str], *, go_on: Callable[[], bool] = lambda: True
    ) -> None:
        """Delete older predictions of ours from tasks that have the new one, until told to stop."""
        self._ledger.begin_replacing(self._clock())
        while go_on() and (due := self._ledger.to_replace(_REPLACE_TASKS)):
            deleted = 0
            for prediction in older_of_ours(self.tasks.predictions_of(due), ours=ours, new=new):
                deleted += self.tasks.delete_prediction(prediction["id"])
                self._beat()
            self._ledger.replaced(due, deleted)


def status_of(error: OutsideError) -> int:
    """The HTTP status that Label Studio answered with, as its client words it; 0 when it gave none."""
    found = re.search(r": ([1-5][0-9][0-9]) ", str(error))
    return int(found[1]) if found else 0


def _is_there(rows: Rows, versions: object) -> bool:
    return all(has_version(versions, str(row["model_version"])) for row in rows)


def _body(id: int, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"task": id, **{name: value for name, value in row.items() if value is not None}}
