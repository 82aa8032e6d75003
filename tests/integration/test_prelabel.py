"""Pre-labelling as a job: into a real Redis and bucket, with a Label Studio in memory and an ML backend over HTTP."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest
import redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from bridge import jobs
from bridge import prelabel as rules
from bridge.edges import prelabel as registry
from bridge.edges import queue, stream
from bridge.edges import redis as names
from bridge.edges.prelabel import Ledger
from bridge.edges.s3 import S3Store
from bridge.errors import SenderError, Unavailable
from bridge.prelabel import Order, View
from bridge.settings import WorkersSettings
from tests.conftest import sample
from tests.fakes import Clock, record
from tests.prelabelling import UID, Backend, Shared, Studio, do_chunk, region, serving, take_jobs
from workers import archive, context, prelabel, prelabel_predict, prelabel_sweep

MADE = "shapes.t0.3,0.5.m1"  # with a comma, as ours have where controls differ in their threshold


class Workplace:
    """Workers with their surroundings, and what a test wants to know of them."""

    def __init__(self, here: context.Context, studio: Studio, backend: Backend, clock: Clock) -> None:
        self.here, self.studio, self.backend, self.clock = here, studio, backend, clock

    def ask(self, **more: Any) -> str:
        now = self.clock()
        order = Order(
            id=rules.new_id(UID, now), uid=UID, **{"chunk_tasks": 10, "filters": ("unlabeled",), **more}
        )
        registry.ask(self.here.redis, order)
        return order.id

    def work(self) -> None:
        """Until the queue is empty; jobs that wait for a further try are not waited for."""
        worker = SimpleWorker(
            [queue.open_queue(self.here.redis, jobs.PRELABEL)],
            connection=self.here.redis,
            serializer=JSONSerializer,
        )
        worker.work(burst=True, logging_level="CRITICAL")

    def sweep(self) -> list[str]:
        return prelabel_sweep.Sweep(self.here.redis).tick()

    def view(self, id: str) -> View:
        return Ledger(self.here.redis, id).view(self.here.layout(UID), self.clock())

    def run(self, **more: Any) -> View:
        id = self.ask(**more)
        self.work()
        return self.view(id)

    def report(self, id: str) -> list[dict[str, Any]]:
        body = self.here.store.get(self.here.layout(UID).prelabel_report(id))
        return [json.loads(line) for line in body.splitlines()]

    def predicted(self) -> Counter[tuple[int, str]]:
        return Counter((one["task"], one["model_version"]) for one in self.studio.predictions)


@pytest.fixture
def work(
    redis_client: redis.Redis, store: S3Store, workers_settings: WorkersSettings, _no_context_left: None
) -> Iterator[Workplace]:
    studio, backend, clock = Studio(45), Backend(), Clock()
    with serving(backend) as url:
        here = context.Context(
            dataclasses.replace(workers_settings, ml_backend_url=url),
            connection=redis_client,
            store=store,
            label_studio=studio,  # type: ignore[arg-type]
            now=clock,
        )
        context.install(here)
        yield Workplace(here, studio, backend, clock)


def each_once(ids: range, version: str = MADE) -> Counter[tuple[int, str]]:
    return Counter({(id, version): 1 for id in ids})


def test_every_task_gets_one_prediction_and_the_report_says_so(work: Workplace) -> None:
    view = work.run()
    assert view.state == "complete"
    assert work.predicted() == each_once(range(1, 46))
    assert view.account.to_json() == {
        "selected": 45,
        "already": 0,
        "written": 45,
        "failed": 0,
        "waiting": 0,
        "replaced": 0,
    }
    (line,) = work.report(view.order.id)
    assert (line["state"], line["model_version"], line["counts"]["written"]) == ("complete", MADE, 45)
    assert view.report_key


def test_all_of_a_small_job_is_written_in_one_import(work: Workplace) -> None:
    work.run()
    assert work.studio.imports == [45]


def test_requests_grow_while_the_backend_is_quick(work: Workplace) -> None:
    work.run(chunk_tasks=45)
    assert [len(ids) for ids in work.backend.asked] == [8, 16, 21]


def test_the_backend_is_told_that_a_job_asks(work: Workplace) -> None:
    view = work.run()
    assert {one["prelabel"] for one in work.backend.params} == {view.order.id}


def test_tasks_that_have_this_version_are_not_predicted_again(work: Workplace) -> None:
    for id in (1, 2, 3):
        work.studio.add_prediction(id, MADE)
    work.studio.add_prediction(4, MADE + "0")  # another version, though it begins alike
    view = work.run()
    assert (view.account.already, view.account.written) == (3, 42)
    assert sorted(chain(*work.backend.asked)) == list(range(4, 46))
    again = work.run()
    assert (again.account.already, again.account.written) == (45, 0)


def test_a_task_with_many_versions_is_read_whole(work: Workplace) -> None:
    for number in range(30):
        work.studio.add_prediction(1, f"a-version-with-a-long-name.{number}")
    work.studio.add_prediction(1, MADE)  # the last of them: Label Studio cuts the list
    assert work.run(filters=("ids=1-3",)).account.already == 1


def test_annotated_tasks_are_left_out_unless_asked_for(work: Workplace) -> None:
    work.studio.tasks[5]["total_annotations"] = 1
    assert work.run().account.selected == 44
    assert work.run(filters=("ids=4-6", "labeled")).account.written == 1
    assert work.studio.versions_of(5) == [MADE]


def test_the_filters_of_a_tab_are_followed(work: Workplace) -> None:
    item = rules.condition("id", "greater", "Number", 40)
    work.studio.views[3] = {
        "id": 3,
        "project": 7,
        "data": {"filters": {"conjunction": "and", "items": [item]}},
    }
    assert work.run(filters=(), view=3).account.written == 5
    work.studio.views[4] = {"id": 4, "project": 8, "data": {}}
    view = work.run(filters=(), view=4)
    assert (view.state, "another project" in view.message) == ("failed", True)


def test_older_predictions_of_ours_go_and_those_of_others_stay(work: Workplace) -> None:
    work.backend.version, work.backend.listed = "shapes.0", ["shapes.0"]
    work.run(filters=("ids=1-10",))
    work.studio.add_prediction(1, "somebody else's")
    work.backend.version, work.backend.listed = MADE, [MADE]  # started anew: it lists its newest only
    view = work.run(filters=("ids=1-10",), replace=True)
    assert view.account.replaced == 10
    assert work.predicted() == each_once(range(1, 11)) + Counter({(1, "somebody else's"): 1})


def test_what_a_killed_replacement_left_is_replaced_later(work: Workplace) -> None:
    work.backend.version = "shapes.0"
    work.run(filters=("ids=1-3",))
    work.backend.version = MADE
    work.run(filters=("ids=1-3",))
    view = work.run(filters=("ids=1-3",), replace=True)
    assert (view.account.already, view.account.replaced) == (3, 3)
    assert work.predicted() == each_once(range(1, 4))


def test_a_task_that_cannot_be_predicted_costs_only_itself_and_is_named(work: Workplace) -> None:
    good = work.backend.item
    work.backend.item = lambda task: (
        {"result": [], "score": 0, "error": "no such image"} if task["id"] == 7 else good(task)
    )
    view = work.run()
    assert (view.account.written, view.account.failed) == (44, 1)
    assert view.failures == {7: "no such image"}
    assert work.report(view.order.id)[1:] == [{"task": 7, "reason": "no such image"}]
    assert not work.studio.versions_of(7)


def test_failures_are_tried_again_on_resume(work: Workplace) -> None:
    good = work.backend.item
    work.backend.item = lambda task: (
        {"result": [], "error": "no such image"} if task["id"] in (7, 30) else good(task)
    )
    id = work.ask()
    work.work()
    work.backend.item = good
    registry.resume(work.here.redis, id, work.clock())
    work.work()
    assert work.view(id).account.failed == 0
    assert work.predicted() == each_once(range(1, 46))
    with pytest.raises(SenderError, match="nothing to go on with"):
        registry.resume(work.here.redis, id, work.clock())


def test_what_was_not_done_in_time_is_asked_for_again(work: Workplace) -> None:
    good = work.backend.item
    seen: Counter[int] = Counter()

    def slow(task: dict[str, Any]) -> Any:
        seen[task["id"]] += 1
        return good(task) if task["id"] % 5 or seen[task["id"]] > 1 else {"error": "not begun in time"}

    work.backend.item = slow
    view = work.run()
    assert (view.account.written, view.account.failed) == (45, 0)


def test_a_busy_backend_is_waited_for(work: Workplace) -> None:
    work.backend.statuses = [503, 503]
    view = work.run()
    assert view.account.written == 45
    assert view.message == ""


def test_a_backend_that_stays_away_makes_the_job_wait_and_the_sweep_comes_again(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prelabel_predict, "PATIENCE_S", 0)
    work.backend.statuses = [503] * 5
    id = work.ask()
    work.work()
    view = work.view(id)
    assert (view.state, view.account.written) == ("running", 0)
    assert view.message.startswith("waits: POST /predict")
    for job_id in queue.open_queue(work.here.redis, jobs.PRELABEL).scheduled_job_registry.get_job_ids():
        queue.open_queue(work.here.redis, jobs.PRELABEL).scheduled_job_registry.remove(
            job_id, delete_job=True
        )
    assert work.sweep() == [id]
    work.work()
    assert work.view(id).state == "complete"
    assert work.predicted() == each_once(range(1, 46))


def test_a_request_that_breaks_is_halved_until_the_one_at_fault_is_found(work: Workplace) -> None:
    class Poison(Backend):
        def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
            status, answer = super().answer(method, path, body)
            poisoned = path == "/predict" and any(task["id"] == 13 for task in body["tasks"])
            return (500, {"error": "out of memory"}) if poisoned else (status, answer)

    backend = Poison()
    with serving(backend) as url:
        work.here.settings = dataclasses.replace(work.here.settings, ml_backend_url=url)
        view = work.run()
    assert view.account.written == 44
    assert list(view.failures) == [13]
    assert "500 out of memory" in view.failures[13]


def test_a_backend_that_answers_too_few_results_loses_no_task(work: Workplace) -> None:
    work.backend.drop_results = 3
    view = work.run()
    assert (view.account.written, view.account.failed) == (45, 0)
    assert work.predicted() == each_once(range(1, 46))


def test_a_hanging_request_ends_and_its_task_is_named(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prelabel, "PREDICT_TIMEOUT_S", 2.0)
    work.backend.hangs = lambda ids: 21 in ids
    view = work.run(filters=("ids=18-24",))
    assert view.account.written == 6
    assert "no answer within 2 s" in view.failures[21]


def test_a_wrong_password_ends_the_job_with_what_to_do(work: Workplace) -> None:
    work.backend.password = "Basic something"
    view = work.run()
    assert view.state == "failed"
    assert "BASIC_AUTH_USER" in view.message
    work.backend.password = None
    registry.resume(work.here.redis, view.order.id, work.clock())
    work.work()
    assert work.view(view.order.id).account.written == 45


def test_a_version_that_the_backend_does_not_list_is_refused(work: Workplace) -> None:
    view = work.run(model="shapes.9")
    assert (view.state, view.account.selected) == ("failed", 0)
    assert "shapes.9" in view.message
    assert MADE in view.message


def test_a_backend_that_ignores_the_wanted_version_writes_nothing(work: Workplace) -> None:
    work.backend.listed = [MADE, "shapes.0"]
    view = work.run(model="shapes.0", filters=("ids=1-3",))
    assert work.backend.params[0]["model_version"] == "shapes.0"
    assert view.account.failed == 3
    assert not work.studio.predictions


def test_what_label_studio_drops_silently_is_found_and_the_rest_is_written(work: Workplace) -> None:
    good = work.backend.item
    work.backend.item = lambda task: (
        {"result": [region("nope")], "score": 1, "model_version": MADE} if task["id"] == 9 else good(task)
    )
    once = {12}

    def drops(row: dict[str, Any]) -> bool:
        if row["task"] in once:
            once.discard(row["task"])
            return True
        return bool(row["result"] and row["result"][0]["from_name"] == "nope")

    work.studio.drops = drops
    view = work.run()
    assert (view.account.written, view.account.failed) == (44, 1)
    assert view.failures[9].startswith("Label Studio does not take the prediction: ")
    assert work.predicted() == each_once(range(1, 46)) - Counter({(9, MADE): 1})


def test_a_task_deleted_meanwhile_is_named_and_the_others_are_written(work: Workplace) -> None:
    work.studio.before_import = lambda: work.studio.tasks.pop(20, None)  # type: ignore[assignment,return-value]
    view = work.run()
    assert (view.account.written, view.failures) == (44, {20: "the task is gone from Label Studio"})


def test_a_label_studio_with_small_pages_loses_and_doubles_nothing(work: Workplace) -> None:
    work.studio.page_max = 4  # TASK_API_PAGE_SIZE_MAX
    for id in range(1, 11):
        work.studio.add_prediction(id, MADE)
    view = work.run(filters=("ids=1-45",))
    assert (view.account.already, view.account.written, view.failures) == (10, 35, {})
    assert work.predicted() == each_once(range(1, 46))


def test_a_label_studio_whose_database_is_locked_is_waited_for(work: Workplace) -> None:
    answers = ["500 database is locked"] * 3
    work.studio.refuses = lambda rows: answers.pop() if answers else ""
    id = work.ask()
    while answers:
        work.work()
        assert (work.view(id).state, work.view(id).message[:6]) == ("running", "waits:")
        _all_retries_now(work)
    work.work()
    assert (work.view(id).state, work.view(id).account.failed) == ("complete", 0)
    assert work.predicted() == each_once(range(1, 46))


def test_a_prediction_at_which_label_studio_fails_costs_only_its_task(work: Workplace) -> None:
    work.studio.refuses = lambda rows: "500 broken" if any(row["task"] == 9 for row in rows) else ""
    id = work.ask()
    for _ in range(10):
        work.work()
        if work.view(id).is_over:
            break
        _all_retries_now(work)
    view = work.view(id)
    assert (view.state, view.account.written, list(view.failures)) == ("complete", 44, [9])
    assert "500 broken" in view.failures[9]
    assert work.predicted() == each_once(range(1, 46)) - Counter({(9, MADE): 1})


def test_a_label_studio_that_fails_at_everything_fails_no_task(work: Workplace) -> None:
    work.studio.refuses = lambda rows: "500 disk full"
    id = work.ask()
    for _ in range(10):
        work.work()
        _all_retries_now(work)
    view = work.view(id)
    assert (view.state, view.account.waiting + view.account.failed) == ("running", 45)
    assert view.account.failed < 20
    assert "disk full" in view.message


def test_imports_shrink_to_what_a_proxy_before_label_studio_lets_through(work: Workplace) -> None:
    work.studio.refuses = lambda rows: "413 Request Entity Too Large" if len(rows) > 7 else ""
    view = work.run()
    assert (view.state, view.account.written, view.account.failed) == ("complete", 45, 0)
    assert set(work.studio.imports) == {5}  # 45, 22, 11, 5
    assert work.predicted() == each_once(range(1, 46))


def test_large_predictions_go_in_several_imports(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = {**region(), "rle": [7] * 10_000}
    work.backend.item = lambda task: {"result": [mask], "score": 0.5, "model_version": MADE}
    monkeypatch.setattr(rules, "WRITE_BYTES", 100_000)
    assert work.run(filters=("ids=1-44",)).account.written == 44
    assert work.predicted() == each_once(range(1, 45))
    assert max(work.studio.imports) == 100_000 // len(json.dumps(mask)) == 3
    monkeypatch.setattr(rules, "WRITE_BYTES", 10)
    assert work.run(filters=("ids=45",)).account.written == 1  # one that is larger than all that should be


def test_large_predictions_are_not_gathered_for_long() -> None:
    assert rules.is_time_to_write(
        waiting=3, since_write_s=0, last_write_s=30, waiting_bytes=rules.WRITE_BYTES
    )


def test_a_config_that_the_model_cannot_fill_ends_the_job_before_anything_is_written(work: Workplace) -> None:
    work.backend.item = lambda task: {"result": [], "score": 0.0, "model_version": MADE, "unfilled": True}
    work.backend.warnings = [
        "<RectangleLabels name=label> stays empty: no label matches a class of the model"
    ]
    view = work.run()
    assert (view.state, view.account.written, work.studio.predictions) == ("failed", 0, [])
    assert "no label matches a class" in view.message


def test_what_the_backend_says_of_the_config_is_shown(work: Workplace) -> None:
    work.backend.warnings = ["label 'Cta': the model has no class 'cta'"]
    view = work.run()
    assert (view.state, view.warnings) == ("complete", tuple(work.backend.warnings))
    assert work.report(view.order.id)[0]["warnings"] == work.backend.warnings


def test_a_config_that_the_backend_refuses_ends_the_job(work: Workplace) -> None:
    work.backend.setup_status = 400
    view = work.run()
    assert (view.state, "no XML" in view.message) == ("failed", True)


def test_what_waits_is_written_though_no_part_of_a_stopped_job_comes_again(work: Workplace) -> None:
    id = work.ask()
    prelabel.run(UID, id)
    Ledger(work.here.redis, id).stage({3: [{"result": [], "score": 0.0, "model_version": MADE}]})
    open_queue = queue.open_queue(work.here.redis, jobs.PRELABEL)
    open_queue.empty()  # as where every try of its chunks is used up
    registry.stop(work.here.redis, id, work.clock())
    work.work()
    assert work.predicted() == each_once(range(3, 4))
    assert work.view(id).state == "stopped"


def test_what_is_predicted_does_not_wait_for_a_backend_that_went_away(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prelabel_predict, "PATIENCE_S", 0)
    monkeypatch.setattr(rules, "WRITE_AFTER_S", 0.0)
    work.backend.statuses = [200, *[503] * 20]
    id = work.ask(filters=("ids=1-10",))
    work.work()
    view = work.view(id)
    assert (view.state, view.account.written, view.account.waiting) == ("running", 8, 0)
    assert view.message.startswith("waits:")


def test_only_one_of_many_who_ask_at_once_after_a_stale_job_begins(work: Workplace) -> None:
    work.here.redis.set(names.prelabel_active(UID), "forgotten")
    at_once, outcomes = threading.Barrier(8), []

    def ask(number: int) -> None:
        at_once.wait(30)
        try:
            registry.ask(work.here.redis, Order(id=f"{UID}-{number:012x}", uid=UID))
        except SenderError:
            outcomes.append("refused")
        else:
            outcomes.append("begun")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert Counter(outcomes) == {"begun": 1, "refused": 7}
    assert registry.newest(work.here.redis) == [registry.active(work.here.redis, UID)]


def test_a_long_job_stays_listed_however_many_short_ones_come(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "KEPT_JOBS", 2)
    long = work.ask()
    for number in range(4):
        uid = f"{20 + number}.1795327200"
        registry.ask(work.here.redis, Order(id=f"{uid}-{2**44 + number:012x}", uid=uid))
        registry.stop(work.here.redis, f"{uid}-{2**44 + number:012x}", work.clock())
    assert long in registry.newest(work.here.redis)


def test_tasks_that_need_no_predicting_do_not_shorten_the_time_that_is_left(work: Workplace) -> None:
    for id in range(1, 36):
        work.studio.add_prediction(id, MADE)
    id = work.ask()
    prelabel.run(UID, id)
    Ledger(work.here.redis, id).stage({36: [], 37: []})
    work.clock.sleep(10)
    assert work.view(id).left_s == pytest.approx(40, abs=1)  # two in ten seconds, of ten


def test_the_end_of_a_job_says_what_it_is_at(work: Workplace) -> None:
    id = work.ask()
    prelabel.run(UID, id)
    ledger = Ledger(work.here.redis, id)
    for name in ledger.chunks():
        ledger.chunk_done(name)
    ledger.stage({3: [{"result": [], "model_version": MADE}]})
    view = work.view(id)
    assert (view.message, view.left_s) == ("writes into Label Studio: 1 tasks left", None)
    ledger.wrote(range(1, 46), replace=True)
    ledger.begin_replacing(work.clock().timestamp() - 10)
    ledger.replaced(range(1, 10), 9)
    assert work.view(id).message == "deletes older predictions: 9 of 45 tasks, 40 s left"


def test_an_import_whose_answer_was_lost_is_not_repeated(work: Workplace) -> None:
    work.studio.after_write, work.studio.fail = True, [Unavailable("the connection broke")]
    id = work.ask()
    work.work()
    assert work.view(id).message == "waits: the connection broke"
    _all_retries_now(work)
    work.work()
    assert work.view(id).state == "complete"
    assert work.predicted() == each_once(range(1, 46))


def test_a_stopped_job_writes_what_it_has_and_goes_on_later(work: Workplace) -> None:
    good, id = work.backend.item, work.ask()

    def stopping(task: dict[str, Any]) -> Any:
        if task["id"] == 15:
            registry.stop(work.here.redis, id, work.clock())
        return good(task)

    work.backend.item = stopping
    work.work()
    view = work.view(id)
    assert view.state == "stopped"
    assert 0 < view.account.written < 45
    assert len(work.studio.predictions) == view.account.written
    work.backend.item = good
    registry.resume(work.here.redis, id, work.clock())
    work.work()
    assert work.view(id).state == "complete"
    assert work.predicted() == each_once(range(1, 46))
    assert len(list(chain(*work.backend.asked))) == 45, "what was predicted before is not predicted again"


def test_a_job_that_is_stopped_at_its_end_replaces_nothing_until_it_is_resumed(work: Workplace) -> None:
    work.backend.version = "shapes.0"
    work.run(filters=("ids=1-10",))
    work.backend.version = MADE
    id = work.ask(filters=("ids=1-10",), replace=True)
    work.studio.before_import = lambda: registry.stop(work.here.redis, id, work.clock())
    work.work()
    view = work.view(id)
    assert (view.state, view.account.written, view.account.replaced) == ("stopped", 10, 0)
    work.studio.before_import = lambda: None
    registry.resume(work.here.redis, id, work.clock())
    prelabel.finish(UID, id)  # one that was left in the queue comes before the job begins anew
    assert work.view(id).state == "queued"
    work.work()
    view = work.view(id)
    assert (view.state, view.account.replaced) == ("complete", 10)
    assert work.predicted() == each_once(range(1, 11))


def test_every_job_can_run_twice(work: Workplace) -> None:
    id = work.ask()
    prelabel.run(UID, id)
    prelabel.run(UID, id)
    for name in ("1", "11", "11", "1"):
        prelabel.chunk(UID, id, name)
    prelabel.finish(UID, id)  # too early: does nothing
    assert work.view(id).state == "running"
    work.work()
    prelabel.finish(UID, id)
    assert work.view(id).state == "complete"
    assert work.predicted() == each_once(range(1, 46))


def test_one_job_of_a_project_at_a_time(work: Workplace) -> None:
    id = work.ask()
    with pytest.raises(SenderError, match=f"already .job {id}"):
        work.ask()
    registry.stop(work.here.redis, id, work.clock())
    other = work.ask()
    with pytest.raises(SenderError, match=other):
        registry.resume(work.here.redis, id, work.clock())


def test_what_is_wanted_while_a_job_runs_is_done_after_it(work: Workplace) -> None:
    first = work.ask(filters=("ids=1-5",))
    registry.want(work.here.redis, UID, [4, 5, 6])
    registry.want(work.here.redis, UID, [7])
    work.work()
    second, _ = registry.newest(work.here.redis, UID)
    assert second != first
    assert work.view(second).order.filters == ("ids=4-7",)
    assert work.predicted() == each_once(range(1, 8))


def test_new_tasks_are_predicted_together(work: Workplace) -> None:
    made = [dataclasses.replace(record("task", str(id)), event="TASKS_CREATED") for id in (3, 4)]
    edited = record("task", "9")
    prelabel_sweep.new_tasks(work.here.redis, UID, [*made, edited])
    prelabel_sweep.new_tasks(work.here.redis, UID, made[:1])
    assert len(queue.open_queue(work.here.redis, jobs.PRELABEL).jobs) == 1
    work.work()
    assert work.predicted() == each_once(range(3, 5))
    assert not work.here.redis.exists(names.prelabel_wanted(UID))
    (id,) = registry.newest(work.here.redis, UID)
    assert work.view(id).order.by == "new tasks"


@pytest.mark.parametrize("wanted", [True, False])
def test_tasks_that_a_webhook_tells_of_are_wanted_where_the_setting_says_so(
    work: Workplace, wanted: bool
) -> None:
    work.here.settings = dataclasses.replace(work.here.settings, prelabel_new_tasks=wanted)
    told = sample("TASKS_CREATED")
    entry = stream.Entry(
        event_id="e1",
        received_at=work.clock(),
        source="webhook",
        action=told["action"],
        body=json.dumps(told).encode(),
    )
    stream.append(work.here.redis, UID, entry)
    archive.drain(UID)
    found = work.here.redis.smembers(names.prelabel_wanted(UID))
    assert sorted(map(int, found)) == ([task["id"] for task in told["tasks"]] if wanted else [])


def test_a_project_made_anew_under_the_same_id_is_refused(work: Workplace) -> None:
    id = f"7.1000000000-{0:012x}"
    registry.ask(work.here.redis, Order(id=id, uid="7.1000000000"))
    work.work()
    assert Ledger(work.here.redis, id).state == "failed"


def _all_retries_now(work: Workplace) -> None:
    waiting = queue.open_queue(work.here.redis, jobs.PRELABEL).scheduled_job_registry
    for job_id in waiting.get_job_ids():
        waiting.remove(job_id, delete_job=True)
    prelabel_sweep.Sweep(work.here.redis).tick()


@pytest.fixture
def shared() -> Iterator[Any]:
    """A Label Studio in a process of its own, for several workers."""
    with Shared(ctx=multiprocessing.get_context("spawn")) as manager:
        yield manager.Studio(45)  # type: ignore[attr-defined]


def _process(target: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


def _ended(process: multiprocessing.process.BaseProcess) -> None:
    process.join(90)
    if process.is_alive():
        process.kill()
        process.join()
        pytest.fail("it did not end")


def test_two_workers_share_a_job(work: Workplace, shared: Any) -> None:
    id = work.ask(chunk_tasks=3)
    workers = [_process(take_jobs, work.here.settings, shared) for _ in range(2)]
    for one in workers:
        _ended(one)
    assert Counter(shared.made()) == each_once(range(1, 46))
    assert work.view(id).state == "complete"
    assert work.view(id).account.written == 45


def test_a_worker_killed_within_a_chunk_loses_nothing_and_repeats_little(
    work: Workplace, shared: Any
) -> None:
    work.here._given_label_studio = shared
    id = work.ask(chunk_tasks=30)
    prelabel.run(UID, id)
    at_it = threading.Event()

    def hang(ids: list[int]) -> bool:
        if 20 in ids:
            at_it.set()
        return 20 in ids and not work.backend.release.is_set()

    work.backend.hangs = hang
    process = _process(do_chunk, work.here.settings, shared, id, "1")
    assert at_it.wait(90)
    process.kill()
    process.join()
    work.backend.release.set()
    assert work.view(id).account.waiting == 8  # of the request before the one that it was killed in
    work.here.redis.delete(names.prelabel_lock(id, "chunk-1"))  # as when it has run out
    work.work()
    assert work.view(id).state == "complete"
    assert Counter(shared.made()) == each_once(range(1, 46))
    asked = Counter(id for ids in work.backend.asked for id in ids)
    assert [id for id in range(1, 46) if asked[id] > 1] == work.backend.asked[1]
