"""Pre-label many tasks: find them, predict them in chunks on as many workers as there are, write, report.

`run` splits the selection into chunks, each a job of its own; whoever ends the last one enqueues `finish`. What was done is
kept by task in Redis (bridge/edges/prelabel.py), and Label Studio is asked before it is written to: a chunk that runs
twice, or half, writes no prediction twice. The scheduler enqueues again what was lost (workers/prelabel_sweep.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge import jobs
from bridge import prelabel as rules
from bridge.edges import prelabel as registry
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.edges.ml_backend import MlBackend
from bridge.edges.prelabel import Ledger
from bridge.errors import BridgeError, NotFound, OutsideError, Refused, SenderError, Unavailable
from bridge.keys import project_uid
from bridge.prelabel import COMPLETE, FAILED, RUNNING, STOPPED, Order, Selection, Unfilled
from bridge.records import format_time, parse_time
from workers import context
from workers.kept_lock import held
from workers.prelabel_predict import Predictions, Stopped
from workers.prelabel_tasks import Tasks, split_page
from workers.prelabel_write import GONE, Writer
from workers.progress import Reporter

log = logging.getLogger(__name__)
FINISH_WAIT_S = 900.0
PREDICT_TIMEOUT_S = 150.0  # above any sensible PREDICT_BUDGET_S: Label Studio itself waits 100 s


def run(uid: str, id: str) -> None:
    """Find the tasks, and enqueue them in chunks. Raises Unavailable where waiting helps."""
    here = context.current()
    ledger = Ledger(here.redis, id)
    with held(here.redis, names.prelabel_lock(id, "split")) as ours:
        if not ours or not _is_running(ledger):
            return
        try:
            _split(here, ledger)
        except BridgeError as error:
            _trouble(here, ledger, error)


def chunk(uid: str, id: str, name: str) -> None:
    """Predict one chunk; then write what waits, when it is time or nothing is left to predict."""
    here = context.current()
    ledger = Ledger(here.redis, id)
    with held(here.redis, names.prelabel_lock(id, f"chunk-{name}")) as ours:
        if not ours:
            return  # another worker is at it; should it die, the sweep comes again
        try:
            ids = ledger.chunk(name)
            if ids and _is_running(ledger) and _predict_or_write(here, ledger, ids):
                ledger.chunk_done(name)
            _write_by_the_way(here, ledger)
        except BridgeError as error:
            _trouble(here, ledger, error)
    _enqueue_finish(here, ledger)


def finish(uid: str, id: str) -> None:
    """Write what waits, replace, report. Does nothing while a chunk is left; of a job that was stopped or failed, writes
    what waits."""
    here = context.current()
    ledger = Ledger(here.redis, id)
    if ledger.state in (STOPPED, FAILED):
        _write_the_rest(here, ledger)
        return
    if not _is_ready(ledger):
        return
    with held(here.redis, names.prelabel_write_lock(uid), wait_s=FINISH_WAIT_S) as ours:
        if not ours:
            raise Unavailable(f"another worker has been writing into project {uid} for {FINISH_WAIT_S:.0f} s")
        if not _is_ready(ledger):
            return
        try:
            _finish(here, ledger)
        except BridgeError as error:
            _trouble(here, ledger, error)
    if here.redis.exists(names.prelabel_wanted(uid)):
        registry.enqueue_wanted(here.redis, uid)


def begin_wanted(uid: str) -> None:
    """Begin a job for the tasks that were wanted, unless one is under way: its end comes here again."""
    here = context.current()
    here.redis.delete(names.prelabel_pending(uid))
    if registry.active(here.redis, uid):
        return
    found: Any = here.redis.smembers(names.prelabel_wanted(uid))
    ids = sorted(int(one) for one in found)
    if not ids:
        here.redis.srem(names.PRELABEL_WANTED, uid)
        return
    now = here.now()
    order = Order(
        id=rules.new_id(uid, now),
        uid=uid,
        filters=(rules.ids_text(ids),),
        by=" and ".join(registry.wanted_by(here.redis, uid)),
        asked_at=format_time(now),
    )
    try:
        registry.ask(here.redis, order)
    except SenderError:
        return  # somebody was faster
    here.redis.srem(names.prelabel_wanted(uid), *[str(id) for id in ids])


# --- finding the tasks


def _split(here: context.Context, ledger: Ledger) -> None:
    order = ledger.order()
    tasks = Tasks(here.label_studio, order.project_id)
    if ledger.state == rules.QUEUED:
        _begin(here, ledger, order, tasks)
    if not ledger.is_running:
        return
    _enqueue_chunks(here, ledger, ledger.chunks())
    if not ledger.is_split:
        version = ledger.get("model_version")
        selection = rules.selection_of(order.filters)
        if order.view is not None:
            items = (*selection.items, *tasks.conditions_of_view(order.view))
            selection = Selection(ids=selection.ids, items=items)
        after = int(ledger.get("split") or 0)
        for ids in tasks.pages(selection, after, rules.PAGE_TASKS):
            if not ledger.is_running:
                return
            if ids:
                _add_page(here, ledger, order, tasks, ids, version)
        ledger.put(split="done")
    _enqueue_finish(here, ledger)


def _begin(here: context.Context, ledger: Ledger, order: Order, tasks: Tasks) -> None:
    """Ask Label Studio and the backend what there is. Raises Refused and SenderError for what a person must mend."""
    project = tasks.project()
    born = parse_time(project["created_at"])
    if born is None or project_uid(order.project_id, born) != order.uid:
        raise Refused(f"Label Studio's project {order.project_id} is another one than {order.uid}")
    label_config = str(project.get("label_config") or "")
    with closing(_backend(here)) as backend:
        offer = backend.setup(project=order.uid, label_config=label_config)
        version = offer.version
        if order.model and order.model != version:
            version = rules.version_asked(order.model, backend.possible(order.uid) or [version])
    if not ledger.is_running:
        return  # stopped meanwhile
    ledger.put(model_version=version, label_config=label_config, warnings=json.dumps(offer.warnings))
    ledger.made(order.uid, [version])
    ledger.begin(here.now(), ledger.account())


def _add_page(
    here: context.Context, ledger: Ledger, order: Order, tasks: Tasks, ids: Sequence[int], version: str
) -> None:
    left, already, beside = split_page(ids, tasks.versions(ids), version)
    chunks = list(rules.chunks_of(left, order.chunk_tasks))
    ledger.add_page(chunks, cursor=ids[-1], already=len(already), replace=beside if order.replace else ())
    _enqueue_chunks(here, ledger, [str(one[0]) for one in chunks])


def _enqueue_chunks(here: context.Context, ledger: Ledger, names_: Sequence[str]) -> None:
    order = ledger.order()
    for name in names_:
        if (ids := ledger.chunk(name)) and not queue.is_under_way(here.redis, ledger.job_of(name) or "-"):
            job = jobs.prelabel_chunk(order.uid, order.id, name, len(ids))
            ledger.note_job(name, queue.enqueue(here.redis, job))


# --- predicting


def _predict_or_write(here: context.Context, ledger: Ledger, ids: Sequence[int]) -> bool:
    """Predict a chunk. Where the backend is away, what is predicted already does not wait for it as well."""
    try:
        return _predict(here, ledger, ids)
    except Unavailable:
        _write_by_the_way(here, ledger)
        raise


def _predict(here: context.Context, ledger: Ledger, ids: Sequence[int]) -> bool:
    """Predict what of a chunk is not predicted. False when the job was stopped."""
    order = ledger.order()
    known = ledger.is_staged(ids)
    left = [id for id in ids if id not in known]
    found = Tasks(here.label_studio, order.project_id).to_predict(left)
    there = {task["id"] for task in found}
    ledger.fail({id: GONE for id in left if id not in there})
    label_config = ledger.get("label_config")
    asked = (
        ledger.get("model_version") if order.model else ""
    )  # the whole version, where its weights alone were named
    say = _reporter(here, ledger)

    def after_batch() -> bool:
        account = ledger.account()
        say(account.done + account.waiting)
        return ledger.is_running

    with closing(_backend(here)) as backend:
        work = Predictions(
            ask=lambda batch: backend.predict(
                batch, project=order.uid, label_config=label_config, model=asked, by=order.id
            ),
            keep=ledger,
            version=ledger.get("model_version"),
            asked=asked,
            pace=ledger.pace(),
            after_batch=after_batch,
            say=ledger.say,
        )
        try:
            done = work.run(found)
        except Stopped:
            return False
        except Unfilled:
            told = backend.setup(project=order.uid, label_config=label_config).warnings
            raise Refused(
                "the model can fill no control of the labeling config: "
                + ("; ".join(told) or "nothing was written")
            ) from None
        finally:
            ledger.keep_pace(work.pace)
            ledger.made(order.uid, work.versions)
    ledger.say("")
    return done


def _reporter(here: context.Context, ledger: Ledger) -> Reporter:
    account = ledger.account()
    total = account.selected if ledger.is_split else None
    return Reporter("tasks", total=total, now=here.now, done_at_start=account.done + account.waiting)


def _backend(here: context.Context) -> MlBackend:
    settings = here.settings
    if settings.ml_backend_url is None:
        raise Refused("ML_BACKEND_URL is not set", hint="set it for the workers, and start them again")
    return MlBackend(
        settings.ml_backend_url,
        user=settings.basic_auth_user,
        password=settings.basic_auth_pass,
        predict_timeout_s=PREDICT_TIMEOUT_S,
    )


# --- writing, and the end


def _writer(here: context.Context, ledger: Ledger, order: Order) -> Writer:
    say = _reporter(here, ledger)
    return Writer(
        ledger,
        Tasks(here.label_studio, order.project_id),
        label_config=ledger.get("label_config"),
        replace=order.replace,
        beat=lambda: say(ledger.account().done),
        clock=lambda: here.now().timestamp(),
    )


def _write_by_the_way(here: context.Context, ledger: Ledger) -> None:
    """Write what waits when it is time, and nobody else is at it; the rest is written at the end."""
    if not (waiting := ledger.waiting):
        return
    last = float(ledger.get("wrote_at") or 0)
    if not last:
        began = parse_time(ledger.get("began_at") or None)
        last = began.timestamp() if began is not None else 0.0
    since = here.now().timestamp() - last
    if ledger.is_running and not rules.is_time_to_write(
        waiting=waiting,
        since_write_s=since,
        last_write_s=float(ledger.get("write_s") or 0),
        waiting_bytes=ledger.staged_bytes,
    ):
        return
    order = ledger.order()
    # While the job runs, the end comes by; of one that was stopped, this may be the last look at what waits.
    wait_s = 0.0 if ledger.is_running else FINISH_WAIT_S
    with held(here.redis, names.prelabel_write_lock(order.uid), wait_s=wait_s) as ours:
        if ours:
            _writer(here, ledger, order).flush()


def _write_the_rest(here: context.Context, ledger: Ledger) -> None:
    """What a job that is over has predicted. Raises Unavailable where waiting helps."""
    if not ledger.waiting:
        return
    order = ledger.order()
    with held(here.redis, names.prelabel_write_lock(order.uid), wait_s=FINISH_WAIT_S) as ours:
        if ours:
            try:
                _writer(here, ledger, order).flush()
            except Refused as error:
                log.error("what %s has predicted cannot be written: %s", ledger.id, error)


def _finish(here: context.Context, ledger: Ledger) -> None:
    order = ledger.order()
    ledger.say("")
    writer = _writer(here, ledger, order)
    writer.flush()
    with closing(_backend(here)) as backend:
        _look_for_warnings(ledger, order, backend, writer.tasks)
        if order.replace:
            ours = {*registry.versions_of(here.redis, order.uid), *_listed(backend, order)}
            writer.replace_older(ledger.versions(), ours, go_on=lambda: ledger.is_running)
    if ledger.is_running:
        _report(here, ledger, order, here.now())


def _look_for_warnings(ledger: Ledger, order: Order, backend: MlBackend, tasks: Tasks) -> None:
    """What the backend says of the labeling config, some of it only once its model is loaded, which it need not have been
    at the start; and whether annotators will see what was written."""
    try:
        found = list(backend.setup(project=order.uid, label_config=ledger.get("label_config")).warnings)
        account = ledger.account()
        if account.written + account.already and (
            note := rules.not_shown(tasks.project(), tasks.backends(), ledger.versions())
        ):
            found.append(note)
    except OutsideError as error:
        log.warning("what there is to say of the labeling config is not known: %s", error)
    else:
        ledger.put(warnings=json.dumps(found))


def _listed(backend: MlBackend, order: Order) -> list[str]:
    try:
        return backend.versions(order.uid)
    except OutsideError as error:
        log.warning("the ML backend does not say which versions are its own: %s", error)
        return []


def _report(here: context.Context, ledger: Ledger, order: Order, now: datetime) -> None:
    """The report is in the bucket before the job is called complete."""
    layout = here.layout(order.uid)
    failures = ledger.failures()
    message = _summary(len(failures))
    key = layout.prelabel_report(order.id)
    view = replace(
        ledger.view(layout, now, failures=0),
        state=COMPLETE,
        message=message,
        ended_at=format_time(now),
        report_key=key,
    )
    here.store.put(key, rules.report_lines(view, failures), content_type="application/x-ndjson")
    ledger.end(COMPLETE, message, now, reported="1")
    log.info("pre-labelling %s is complete: %s", order.id, json.dumps(view.account.to_json()))


def _summary(failed: int) -> str:
    if not failed:
        return ""
    return f"{failed} task{'s' if failed > 1 else ''} failed; `prelabel resume` tries again"


def _is_running(ledger: Ledger) -> bool:
    try:
        ledger.order()
    except NotFound:
        log.warning("Redis knows nothing of the pre-labelling job %s any more", ledger.id)
        return False
    return ledger.is_running


def _is_ready(ledger: Ledger) -> bool:
    """Whether only the end is left. One that is queued, perhaps anew, is first begun."""
    return _is_running(ledger) and ledger.state == RUNNING and ledger.is_split and not ledger.chunks_left


def _enqueue_finish(here: context.Context, ledger: Ledger) -> None:
    if not _is_ready(ledger) or queue.is_under_way(here.redis, ledger.job_of("finish") or "-"):
        return
    order = ledger.order()
    ledger.note_job(
        "finish", queue.enqueue(here.redis, jobs.prelabel_finish(order.uid, order.id), at_front=True)
    )


def _trouble(here: context.Context, ledger: Ledger, error: BridgeError) -> None:
    """What waiting mends is raised for the queue, which comes again; what it does not, ends the job."""
    if not ledger.is_running:
        log.info("pre-labelling %s is %s: %s", ledger.id, ledger.state, error)
        return
    if error.retryable:
        ledger.say(f"waits: {error}")
        raise error
    log.error("pre-labelling %s has failed: %s", ledger.id, error)
    ledger.end(FAILED, str(error), here.now())
    registry.write_the_rest(here.redis, ledger)
