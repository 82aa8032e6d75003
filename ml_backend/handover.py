"""A request that cannot be done in time goes to the pre-labelling job (docs/prelabel.md) instead of failing silently.

Label Studio sends all selected tasks in one request, gives up after 100 s, and tells nobody. Whoever selected two thousand
gets their predictions a little later, from the job, and is told so in the answer, the log and the metrics.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from bridge.errors import OutsideError
from bridge.keys import project_id_of
from ml_backend.predict import TaskResult
from ml_backend.problems import TaskProblem

log = logging.getLogger(__name__)
_FADES = 0.9  # of what earlier requests weigh, with each further one
_PROJECTS = 500  # remembered; one with videos needs a thousand times as long as one with pictures

Give = Callable[[str, Sequence[int]], bool]
"""Has the job do these tasks of a project; False when nobody would. Raises OutsideError."""


def nobody(project: str, ids: Sequence[int]) -> bool:
    """For a backend without Redis."""
    return False


class Handover:
    """Safe to use from several threads."""

    def __init__(self, give: Give = nobody, *, budget_s: float) -> None:
        self._give = give
        self._budget_s = budget_s
        self._lock = threading.Lock()
        self._took: OrderedDict[str, tuple[float, float]] = OrderedDict()  # project -> seconds, tasks

    def took(self, project: str, tasks: int, seconds: float) -> None:
        """Remember how long a request took. Many tasks in one request count for more than one alone."""
        if tasks:
            with self._lock:
                seconds_before, tasks_before = self._took.pop(project, (0.0, 0.0))
                self._took[project] = (_FADES * seconds_before + seconds, _FADES * tasks_before + tasks)
                while len(self._took) > _PROJECTS:
                    self._took.popitem(last=False)

    def is_too_much(self, project: str, tasks: int) -> bool:
        """Whether so many would not be done in time, as far as the project's last requests tell."""
        with self._lock:
            seconds_before, tasks_before = self._took.get(project, (0.0, 0.0))
            return tasks_before > 0 and tasks * seconds_before / tasks_before > self._budget_s

    def take(self, project: str, ids: Sequence[object]) -> bool:
        """Hand these tasks over; False when that is not possible."""
        given = [id for id in ids if isinstance(id, int)]
        if not given or len(given) < len(ids):
            return False
        try:
            project_id_of(project)
            return self._give(project, given)
        except ValueError:
            return False  # a request that no project made
        except OutsideError as error:
            log.warning("project %s: %d tasks cannot be handed over: %s", project, len(given), error)
            return False


def handed_over(id: object) -> TaskResult:
    """What Label Studio is told of such a task: no result, so that it stores nothing."""
    problem = TaskProblem(
        "handed_over", "the pre-labelling job does it", hint="`python -m sidecar prelabel list`", passing=True
    )
    return TaskResult(task_id=id, problem=problem)


NOT_HERE = {"score": 0.0, "error": "the pre-labelling job does it"}
"""An answer without `result`: Label Studio stores nothing for the task."""


def is_late(result: TaskResult) -> bool:
    """Whether a task was not begun in time."""
    return result.problem is not None and result.problem.reason == "late"


def words(tasks: int, of: int) -> str:
    return (
        f"{tasks} of {of} tasks of this request are more than can be predicted in time: a job predicts them in the "
        "background, and writes them into Label Studio (`python -m sidecar prelabel list` shows how far it is)"
    )


def give_by_redis(redis_url: str) -> Give:
    """Through the queue `prelabel`, where a worker listens to it."""
    import redis
    from rq import Worker

    from bridge import jobs
    from bridge.edges import prelabel
    from bridge.edges import redis as redis_edge
    from bridge.edges.queue import open_queue

    connection = redis_edge.ingest_client(redis_url, timeout_s=2.0)

    def give(project: str, ids: Sequence[int]) -> bool:
        try:
            if not Worker.count(queue=open_queue(connection, jobs.PRELABEL)):
                return False
            prelabel.want(connection, project, ids)
        except redis.RedisError as error:
            raise OutsideError(f"Redis: {error}") from error
        return True

    return give
