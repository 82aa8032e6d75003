"""Write predictions into Label Studio, each once, and take away what they replace.

Label Studio recounts the whole project at every import, so one worker at a time writes for a project, and takes all that
others have predicted meanwhile. It looks at what is there first: what was written by a run that was killed, or by Label
Studio itself, is not written again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridge.edges.prelabel import Ledger
from bridge.errors import OutsideError
from bridge.prelabel import WRITE_TASKS, has_version
from workers.prelabel_tasks import Tasks, older_of_ours, refused_task, why_dropped

log = logging.getLogger(__name__)
_REPLACE_TASKS = 100
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
        self._ledger, self._tasks, self._beat, self._clock = ledger, tasks, beat, clock
        self._label_config, self._replace = label_config, replace

    def flush(self) -> None:
        """Write what waits. Raises Unavailable where waiting helps; what was not written waits on."""
        while waiting := self._ledger.staged(WRITE_TASKS):
            began = self._clock()
            self._write(waiting)
            now = self._clock()
            self._ledger.put(wrote_at=round(now, 3), write_s=round(now - began, 3))
            self._beat()

    def _write(self, waiting: Mapping[int, Rows]) -> None:
        ids = list(waiting)
        there = self._tasks.versions(ids)
        already = [id for id in ids if _is_there(waiting[id], there.get(id))]
        self._ledger.wrote(already, was="a", replace=self._replace)
        left = {id: waiting[id] for id in ids if id not in set(already)}
        if not left:
            return
        rows = [_body(id, row) for id, made in left.items() for row in made]
        try:
            created = self._tasks.write(rows)
        except OutsideError as error:
            if not refused_task(error):
                raise
            self._refused(left, str(error))
            return
        if created == len(rows):
            self._ledger.wrote(left, replace=self._replace)
        else:
            log.warning("Label Studio wrote %d of %d predictions: looking for the others", created, len(rows))
            self._fewer(left)

    def _fewer(self, left: Mapping[int, Rows]) -> None:
        """Label Studio drops without a word what does not fit its config: find those, and try them one by one."""
        there = self._tasks.versions(list(left))
        written = [id for id, rows in left.items() if _is_there(rows, there.get(id))]
        self._ledger.wrote(written, replace=self._replace)
        for id in left.keys() - set(written):
            self._alone(id, left[id])
            self._beat()

    def _alone(self, id: int, rows: Rows) -> None:
        """One task by itself. What Label Studio would drop again is not sent again."""
        bodies = [_body(id, row) for row in rows]
        for body in bodies:
            if why := why_dropped(self._label_config, body):
                self._ledger.fail({id: f"Label Studio does not take the prediction: {why}"})
                return
        try:
            created = self._tasks.write(bodies)
        except OutsideError as error:
            if not refused_task(error):
                raise
            gone = id not in self._tasks.alive([id])
            self._ledger.fail({id: GONE if gone else str(error)})
            return
        if created == len(bodies):
            self._ledger.wrote([id], replace=self._replace)
        else:
            self._ledger.fail({id: "Label Studio dropped the prediction without saying why"})

    def _refused(self, left: Mapping[int, Rows], why: str) -> None:
        """None of it was written: because of tasks deleted meanwhile, or of one that only trying each will show."""
        alive = self._tasks.alive(list(left))
        gone = [id for id in left if id not in alive]
        self._ledger.fail(dict.fromkeys(gone, GONE))
        if gone:
            return  # the others still wait, and go with the next import
        log.warning("Label Studio refused an import: %s", why)
        for id, rows in left.items():
            self._alone(id, rows)
            self._beat()

    def replace_older(self, new: Sequence[str], ours: set[str]) -> None:
        """Delete older predictions of ours from tasks that have the new one."""
        while due := self._ledger.to_replace(_REPLACE_TASKS):
            deleted = 0
            for prediction in older_of_ours(self._tasks.predictions_of(due), ours=ours, new=new):
                deleted += self._tasks.delete_prediction(prediction["id"])
                self._beat()
            self._ledger.replaced(due, deleted)


def _is_there(rows: Rows, versions: object) -> bool:
    return all(has_version(versions, str(row["model_version"])) for row in rows)


def _body(id: int, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"task": id, **{name: value for name, value in row.items() if value is not None}}
