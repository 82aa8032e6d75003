"""A request that is too large for its time goes to the pre-labelling job, and says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import Unavailable
from ml_backend.handover import NOT_HERE, Handover, handed_over, is_late, nobody, words
from ml_backend.inference_log import NoInferenceLog
from ml_backend.metrics import Metrics
from ml_backend.model import Answer, Offer
from ml_backend.predict import TaskResult
from ml_backend.problems import TaskProblem
from ml_backend.protocol import PredictRequest, SetupRequest
from ml_backend.service import Backend, Limits
from ml_backend.versions import VersionBook

UID = "7.1795327200"


class Job:
    """Takes what it is given, or fails."""

    def __init__(self, *, there: bool = True, error: Exception | None = None) -> None:
        self.there, self.error = there, error
        self.given: list[tuple[str, list[int]]] = []

    def __call__(self, project: str, ids: Sequence[int]) -> bool:
        if self.error is not None:
            raise self.error
        self.given.append((project, list(ids)))
        return self.there


def test_nothing_is_too_much_before_anything_was_measured() -> None:
    assert not Handover(nobody, budget_s=85).is_too_much(UID, 1_000_000)


def test_too_much_is_what_the_last_requests_say_takes_longer_than_there_is() -> None:
    handover = Handover(nobody, budget_s=85)
    handover.took(UID, 10, 1.0)
    assert not handover.is_too_much(UID, 850)
    assert handover.is_too_much(UID, 851)


def test_a_request_of_many_tasks_counts_for_more_than_single_ones() -> None:
    handover = Handover(nobody, budget_s=85)
    handover.took(UID, 500, 5.0)  # 0.01 s a task
    for _ in range(5):
        handover.took(UID, 1, 0.2)  # the fixed part of a request
    assert not handover.is_too_much(UID, 2000)


def test_a_request_in_which_nothing_was_done_says_nothing() -> None:
    handover = Handover(nobody, budget_s=1)
    handover.took(UID, 0, 85)
    assert not handover.is_too_much(UID, 10)


def test_a_project_of_long_videos_makes_no_project_of_pictures_slow() -> None:
    handover = Handover(nobody, budget_s=85)
    handover.took(UID, 1, 60.0)
    handover.took("8.1795327200", 10, 1.0)
    assert handover.is_too_much(UID, 2)
    assert not handover.is_too_much("8.1795327200", 100)
    assert not handover.is_too_much("9.1795327200", 100)


def test_tasks_of_a_project_are_given_to_the_job() -> None:
    job = Job()
    assert Handover(job, budget_s=1).take(UID, [1, 2])
    assert job.given == [(UID, [1, 2])]


@pytest.mark.parametrize(
    ("project", "ids"),
    [("", [1]), ("7", [1]), (UID, []), (UID, [1, None]), (UID, ["a"])],
)
def test_what_no_project_of_label_studio_asked_for_is_not_handed_over(
    project: str, ids: list[object]
) -> None:
    job = Job()
    assert not Handover(job, budget_s=1).take(project, ids)
    assert not job.given


def test_without_a_worker_or_redis_it_stays_here() -> None:
    assert not Handover(Job(there=False), budget_s=1).take(UID, [1])
    assert not Handover(Job(error=Unavailable("Redis is away")), budget_s=1).take(UID, [1])
    assert not Handover(budget_s=1).take(UID, [1])


def test_a_task_that_is_handed_over_has_no_result_to_store() -> None:
    assert "result" not in NOT_HERE
    found = handed_over(3)
    assert found.problem is not None
    assert (found.task_id, found.problem.passing, is_late(found)) == (3, True, False)


def test_the_caller_is_told_where_the_rest_is() -> None:
    assert "3 of 5 tasks" in words(3, 5)
    assert "prelabel list" in words(3, 5)


# --- in the backend


class SlowModel:
    """Does so many tasks of a request, and is late for the others."""

    def __init__(self, done: int, state: str = "ready") -> None:
        self.done = done
        self.state = state
        self.asked: list[int] = []

    def start(self) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return {"state": self.state}

    def setup(self, request: SetupRequest, *, wait_s: float) -> Offer:
        return Offer(model_version="v1")

    def predict(self, request: PredictRequest, *, deadline: float) -> Answer:
        self.asked.append(len(request.tasks))
        late = TaskProblem("late", "not begun in time", passing=True)
        results = [
            TaskResult(task_id=task["id"], problem=None if place < self.done else late)
            for place, task in enumerate(request.tasks)
        ]
        return Answer(results=results, model_version="v1")

    def versions(self, configs: Sequence[tuple[str, str]]) -> list[str]:
        return []

    def published(self) -> list[str]:
        return []

    def learn(self, action: str, event: Mapping[str, Any]) -> str | None:
        return None


class Seconds:
    """A clock that goes on by ten seconds with each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10
        return self.now


def backend(model: SlowModel, job: Job, folder: Path) -> tuple[Backend, Metrics]:
    metrics = Metrics()
    made = Backend(
        model=model,
        versions=VersionBook(folder),
        inferences=NoInferenceLog(),
        metrics=metrics,
        limits=Limits(budget_s=85, at_once=4),
        handover=Handover(job, budget_s=85),
        clock=Seconds(),
    )
    return made, metrics


def request(tasks: int, **more: Any) -> PredictRequest:
    made = tuple({"id": id, "data": {}} for id in range(1, tasks + 1))
    return PredictRequest(project=UID, label_config="<View/>", tasks=made, **more)


def test_what_is_late_goes_to_the_job_and_what_is_done_is_answered(tmp_path: Path) -> None:
    job = Job()
    made, metrics = backend(SlowModel(2), job, tmp_path)
    answer = made.predict(request(5))
    assert ["result" in item for item in answer["results"]] == [True, True, False, False, False]
    assert job.given == [(UID, [3, 4, 5])]
    assert "3 of 5 tasks" in answer["warnings"][-1]
    assert "ml_backend_tasks_handed_over_total 3.0" in metrics.text().decode()


def test_a_request_that_is_plainly_too_large_goes_to_the_job_at_once(tmp_path: Path) -> None:
    model, job = SlowModel(10), Job()
    made, _ = backend(model, job, tmp_path)
    made.predict(request(10))  # 10 s: one second a task
    answer = made.predict(request(86))
    assert model.asked == [10]
    assert len(answer["results"]) == 86
    assert not any("result" in item for item in answer["results"])
    assert job.given == [(UID, list(range(1, 87)))]
    made.predict(request(85))
    assert model.asked == [10, 85]


def test_a_request_that_waited_for_the_model_to_be_loaded_says_nothing_of_the_next(tmp_path: Path) -> None:
    """The first task that somebody opens after a start takes as long as loading does."""
    model, job = SlowModel(100, state="loading"), Job()
    made, _ = backend(model, job, tmp_path)
    made.predict(request(1))  # 10 s, by this clock
    model.state = "ready"
    made.predict(request(20))
    assert (model.asked, job.given) == ([1, 20], [])


@pytest.mark.parametrize("more", [{"by_job": True}, {"wanted_version": "v0"}])
def test_what_the_job_asks_itself_is_never_handed_back(tmp_path: Path, more: dict[str, Any]) -> None:
    job = Job()
    made, _ = backend(SlowModel(2), job, tmp_path)
    answer = made.predict(request(5, **more))
    assert not job.given
    assert [item.get("error") for item in answer["results"]][2:] == ["not begun in time"] * 3


def test_where_nobody_takes_them_late_tasks_stay_late(tmp_path: Path) -> None:
    made, _ = backend(SlowModel(2), Job(there=False), tmp_path)
    assert made.predict(request(3))["results"][2]["error"] == "not begun in time"
