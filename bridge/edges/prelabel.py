"""What a pre-labelling job keeps in Redis: its order, the ids still to do, what waits to be written, what failed.

Everything is named by task, so that doing a part twice leaves what doing it once leaves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from redis import Redis, WatchError
from rq import Worker

from bridge import jobs
from bridge import prelabel as rules
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.errors import NotFound, SenderError
from bridge.keys import Layout
from bridge.prelabel import COMPLETE, FAILED, QUEUED, RUNNING, STOPPED, UNDER_WAY, Account, Order, Pace, View
from bridge.progress import Progress, span
from bridge.records import format_time, parse_time

KEPT_S = 30 * 24 * 3600
KEPT_JOBS = 500
TOO_LARGE = "a request that was too large"
WANTED_MS = 30_000  # how long an enqueued look at what is wanted keeps others from being enqueued
_SHOWN_FAILURES = 1000
_SCAN = 200  # values of a hash fetched at a time: one with masks can have a megabyte


class Ledger:
    """The account of one job. Raises redis.RedisError."""

    def __init__(self, connection: Redis, id: str) -> None:
        self._redis = connection
        self.id = id
        self._fields = names.prelabel(id)
        self._chunks = names.prelabel_part(id, "chunks")
        self._jobs = names.prelabel_part(id, "jobs")
        self._staged = names.prelabel_part(id, "staged")
        self._written = names.prelabel_part(id, "written")
        self._failed = names.prelabel_part(id, "failed")
        self._tries = names.prelabel_part(id, "tries")
        self._replace = names.prelabel_part(id, "replace")
        self._made = names.prelabel_part(id, "made")

        self._all = [self._fields, self._chunks, self._jobs, self._staged, self._written, self._failed]
        self._all += [self._tries, self._replace, self._made]

    # --- what it is

    def order(self) -> Order:
        """Raises NotFound."""
        found: Any = self._redis.hget(self._fields, "order")
        if found is None:
            raise NotFound(
                f"there is no pre-labelling job {self.id!r}",
                hint="`python -m sidecar prelabel list` shows them; their reports are kept in the bucket",
            )
        return Order.of_json(found)

    def get(self, name: str) -> str:
        found: Any = self._redis.hget(self._fields, name)
        return found.decode() if found is not None else ""

    def put(self, **fields: str | int | float) -> None:
        values: Any = fields
        self._redis.hset(self._fields, mapping=values)

    @property
    def state(self) -> str:
        return self.get("state")

    @property
    def is_running(self) -> bool:
        return self.state in UNDER_WAY

    @property
    def is_split(self) -> bool:
        return self.get("split") == "done"

    def begin(self, now: datetime, account: Account) -> None:
        self.put(
            state=RUNNING,
            message="",
            began_at=format_time(now),
            # What had the version already is found much quicker than predicted: the time left must not come of it.
            done_at_start=account.done - account.already + account.waiting,
            ended_at="",
        )

    def say(self, message: str) -> None:
        if self.get("message") != message:
            self.put(message=message)

    def forget(self) -> None:
        self._redis.delete(*self._all)

    # --- what there is to do

    def add_page(
        self, chunks: Sequence[tuple[int, ...]], *, cursor: int, already: int, replace: Iterable[int]
    ) -> None:
        """A page of the selection, all of it or nothing, so that a split that died goes on after it."""
        pipe = self._redis.pipeline(transaction=True)
        for ids in chunks:
            pipe.hset(self._chunks, str(ids[0]), ",".join(map(str, ids)))
        pipe.hincrby(self._fields, "selected", sum(map(len, chunks)) + already)
        pipe.hincrby(self._fields, "already", already)
        pipe.hset(self._fields, "split", str(cursor))
        if due := list(replace):
            pipe.sadd(self._replace, *due)
        pipe.execute()

    def chunk(self, name: str) -> tuple[int, ...]:
        """The ids of a chunk; () when it is done."""
        found: Any = self._redis.hget(self._chunks, name)
        return tuple(map(int, found.split(b","))) if found else ()

    def chunks(self) -> list[str]:
        found: Any = self._redis.hkeys(self._chunks)
        return sorted((name.decode() for name in found), key=int)

    @property
    def chunks_left(self) -> int:
        return int(self._redis.hlen(self._chunks))

    def chunk_done(self, name: str) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.hdel(self._chunks, name)
        pipe.hdel(self._jobs, name)
        pipe.execute()

    def job_of(self, part: str) -> str:
        """The queue's id of what was enqueued last for a chunk, or for "split" and "finish"."""
        found: Any = self._redis.hget(self._jobs, part)
        return found.decode() if found else ""

    def note_job(self, part: str, job_id: str) -> None:
        self._redis.hset(self._jobs, part, job_id)

    # --- what became of tasks

    def stage(self, rows: Mapping[int, Sequence[dict[str, Any]]]) -> None:
        """Keep what was predicted until it is in Label Studio."""
        if rows:
            mapping: Any = {str(id): json.dumps(made) for id, made in rows.items()}
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(self._staged, mapping=mapping)
            pipe.hincrby(self._fields, "staged_bytes", sum(map(len, mapping.values())))
            pipe.execute()

    def is_staged(self, ids: Sequence[int]) -> set[int]:
        """Those predicted and not yet written, written, or failed: nothing is left to predict for them."""
        if not ids:
            return set()
        pipe = self._redis.pipeline(transaction=False)
        for key in (self._staged, self._written, self._failed):
            pipe.hmget(key, [str(id) for id in ids])
        found = pipe.execute()
        return {id for values in found for id, value in zip(ids, values, strict=True) if value is not None}

    def staged(self, most: int) -> dict[int, list[dict[str, Any]]]:
        """Some of what waits to be written: so many tasks at most, and no more JSON than one import should have; one task
        at least."""
        most_bytes = rules.WRITE_BYTES
        values: dict[bytes, bytes] = {}
        cursor: Any = None
        while cursor != 0 and len(values) < most and sum(map(len, values.values())) < most_bytes:
            found: Any = self._redis.hscan(self._staged, cursor or 0, count=min(most, _SCAN))
            cursor, more = found
            values.update(more)
        chosen: dict[int, bytes] = {}
        room = most_bytes
        for id, made in sorted(values.items(), key=lambda pair: int(pair[0]))[:most]:
            room -= len(made)
            if chosen and room < 0:
                break
            chosen[int(id)] = made
        return {id: json.loads(made) for id, made in chosen.items()}

    @property
    def staged_bytes(self) -> int:
        """About how much was predicted since everything was last written."""
        return int(self.get("staged_bytes") or 0)

    @property
    def waiting(self) -> int:
        return int(self._redis.hlen(self._staged))

    def wrote(self, ids: Iterable[int], *, was: str = "w", replace: bool) -> None:
        """These are in Label Studio. `was`: "w" by us, "a" by somebody else meanwhile."""
        if not (done := [str(id) for id in ids]):
            return
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(self._written, mapping=dict.fromkeys(done, was))
        pipe.hdel(self._staged, *done)
        pipe.hdel(self._failed, *done)
        if replace:
            pipe.sadd(self._replace, *done)
        pipe.execute()

    def fail(self, reasons: Mapping[int, str]) -> None:
        if not reasons:
            return
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(self._failed, mapping={str(id): reason[:500] for id, reason in reasons.items()})
        pipe.hdel(self._staged, *[str(id) for id in reasons])
        pipe.execute()

    def failures(self, most: int | None = None) -> dict[int, str]:
        found: Any = self._redis.hgetall(self._failed)
        ids = sorted((int(id), reason.decode("utf-8", "replace")) for id, reason in found.items())
        return dict(ids[:most])

    def forget_failures(self, chunk_tasks: int) -> None:
        """Have those that failed tried again."""
        open_ids = {id for name in self.chunks() for id in self.chunk(name)}
        ids = [
            id for id in self.failures() if id not in open_ids
        ]  # so no chunk has the name of one that is open
        pipe = self._redis.pipeline(transaction=True)
        for chunk in rules.chunks_of(ids, chunk_tasks):
            pipe.hset(self._chunks, str(chunk[0]), ",".join(map(str, chunk)))
        pipe.delete(self._failed, self._tries)
        pipe.execute()

    def tried(self, id: int) -> int:
        """Count a try that ended without an answer; returns how many there were."""
        return int(self._redis.hincrby(self._tries, str(id), 1))

    def to_replace(self, most: int) -> list[int]:
        found: Any = self._redis.srandmember(self._replace, most)
        return sorted(int(id) for id in found)

    def begin_replacing(self, now_s: float) -> None:
        due: Any = self._redis.scard(self._replace)
        self.put(replace_began=now_s, replace_total=int(due))

    def replaced(self, ids: Iterable[int], deleted: int) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.hincrby(self._fields, "replaced", deleted)
        pipe.srem(self._replace, *[str(id) for id in ids])
        pipe.execute()

    def write_failed(self) -> int:
        """Count an import that Label Studio failed at; returns how many there were in a row."""
        return int(self._redis.hincrby(self._fields, "write_failures", 1))

    def account(self) -> Account:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(self._fields, ["selected", "already", "replaced"])
        for key in (self._written, self._failed, self._staged):
            pipe.hlen(key)
        fields, written, failed, waiting = pipe.execute()
        selected, already, replaced = (int(value or 0) for value in fields)
        return Account(
            selected=selected,
            already=already,
            written=written,
            failed=failed,
            waiting=waiting,
            replaced=replaced,
        )

    def made(self, uid: str, versions: Iterable[str]) -> None:
        """These versions are this job's; that they are ours is remembered for good."""
        if given := list(versions):
            self._redis.sadd(self._made, *given)
            self._redis.sadd(names.prelabel_versions(uid), *given)

    def versions(self) -> list[str]:
        """Those that this job has made, or found made."""
        return _texts(self._redis.smembers(self._made))

    # --- the pace

    def pace(self) -> Pace:
        size = self.get("batch")
        return Pace(size=int(size)) if size else Pace()

    def keep_pace(self, pace: Pace) -> None:
        self.put(batch=pace.size)

    # --- the end

    def end(self, state: str, message: str, now: datetime, **more: str) -> None:
        """Nothing is left to do; what is only needed on the way is forgotten, unless the job was stopped."""
        uid = self.order().uid
        self.put(state=state, message=message, ended_at=format_time(now), **more)
        if state == COMPLETE:
            self._redis.delete(self._chunks, self._jobs, self._staged, self._tries, self._replace)
        for key in self._all:
            self._redis.expire(key, KEPT_S)
        release(self._redis, uid, self.id)

    def view(self, layout: Layout, now: datetime, *, failures: int = _SHOWN_FAILURES) -> View:
        """Raises NotFound."""
        order = self.order()
        found: Any = self._redis.hgetall(self._fields)
        fields = {name.decode(): value.decode() for name, value in found.items()}
        account = self.account()
        began_at = parse_time(fields.get("began_at") or None)
        progress = None
        if began_at is not None and fields.get("state") in UNDER_WAY:
            progress = Progress(
                done=account.done + account.waiting,
                total=account.selected if fields.get("split") == "done" else None,
                unit="tasks",
                began_at=began_at,
                updated_at=now,
                done_at_start=int(fields.get("done_at_start") or 0) + account.already,
            )
        message = fields.get("message", "")
        if fields.get("state") == RUNNING and not message and fields.get("split") == "done":
            message = self._at_the_end(fields, account, now)
        return View(
            order=order,
            state=fields.get("state", ""),
            message=message,
            model_version=fields.get("model_version", ""),
            account=account,
            progress=progress,
            began_at=fields.get("began_at", ""),
            ended_at=fields.get("ended_at", ""),
            report_key=layout.prelabel_report(order.id) if fields.get("reported") else "",
            failures=self.failures(failures) if failures else {},
            warnings=tuple(json.loads(fields.get("warnings") or "[]")),
        )

    def _at_the_end(self, fields: Mapping[str, str], account: Account, now: datetime) -> str:
        """What is still done when every task is predicted; "" before."""
        if self.chunks_left:
            return ""
        if account.waiting:
            return f"writes into Label Studio: {account.waiting} tasks left"
        if began := float(fields.get("replace_began") or 0):
            total = int(fields.get("replace_total") or 0)
            due: Any = self._redis.scard(self._replace)
            done = total - int(due)
            took_s = now.timestamp() - began
            left = f", {span(took_s / done * (total - done))} left" if done > 0 else ""
            return f"deletes older predictions: {done} of {total} tasks{left}"
        return ""


def versions_of(connection: Redis, uid: str) -> list[str]:
    """The versions of the predictions that our jobs have ever written into a project."""
    return _texts(connection.smembers(names.prelabel_versions(uid)))


def _texts(found: Any) -> list[str]:
    return sorted(one.decode() for one in found)


def active(connection: Redis, uid: str) -> str:
    """The job under way of a project, or ""."""
    found: Any = connection.get(names.prelabel_active(uid))
    id = found.decode() if found else ""
    return id if id and Ledger(connection, id).is_running else ""


def has_worker(connection: Redis) -> bool:
    """Whether anybody listens to the queue of these jobs; who was killed counts until his registration runs out."""
    return bool(Worker.all(queue=queue.open_queue(connection, jobs.PRELABEL)))


def release(connection: Redis, uid: str, id: str) -> None:
    """Let another job of the project begin."""
    key = names.prelabel_active(uid)
    with connection.pipeline() as pipe:
        try:
            pipe.watch(key)  # type: ignore[no-untyped-call]
            if pipe.get(key) == id.encode():
                pipe.multi()
                pipe.delete(key)
                pipe.execute()
        except WatchError:
            return  # another job has begun meanwhile


def _claim(connection: Redis, uid: str, id: str) -> None:
    """Be the job of the project. Raises SenderError while another one is under way, however many ask at once."""
    key = names.prelabel_active(uid)
    with connection.pipeline() as pipe:
        while True:
            try:
                pipe.watch(key)  # type: ignore[no-untyped-call]
                if other := active(connection, uid):
                    raise SenderError(
                        f"project {uid} is being pre-labelled already (job {other})",
                        hint=f"`python -m sidecar prelabel show {other}` says how far it is",
                    )
                pipe.multi()
                pipe.set(key, id)  # what stood there is over, or Redis has forgotten it
                pipe.execute()
                return
            except WatchError:
                continue


def ask(connection: Redis, order: Order) -> Ledger:
    """Begin a job. Raises SenderError while another one of the project is under way."""
    ledger = Ledger(connection, order.id)
    ledger.put(order=json.dumps(order.to_json()), state=QUEUED, message="", split="0")
    # Listed before it is the project's: whatever happens from here on, the sweep and people find it.
    connection.zadd(names.PRELABELS, {order.id: int(order.id.rpartition("-")[2], 16)})
    try:
        _claim(connection, order.uid, order.id)
    except SenderError:
        connection.zrem(names.PRELABELS, order.id)
        ledger.forget()
        raise
    _forget_oldest(connection)
    ledger.note_job("split", queue.enqueue(connection, jobs.prelabel(order.uid, order.id), at_front=True))
    return ledger


def _forget_oldest(connection: Redis) -> None:
    """Keep the list short; what is under way stays on it, or nobody would take up what it loses."""
    found: Any = connection.zrange(names.PRELABELS, 0, -KEPT_JOBS - 1)
    if over := [id for id in found if not Ledger(connection, id.decode()).is_running]:
        connection.zrem(names.PRELABELS, *over)


def stop(connection: Redis, id: str, now: datetime) -> None:
    """What is being predicted at this moment is still written. Raises NotFound, SenderError."""
    ledger = Ledger(connection, id)
    ledger.order()
    if not ledger.is_running:
        raise SenderError(f"job {id} is {ledger.state}: there is nothing to stop")
    ledger.end(STOPPED, "stopped by a person; `prelabel resume` goes on where it was", now)
    write_the_rest(connection, ledger)


def write_the_rest(connection: Redis, ledger: Ledger) -> None:
    """Have what a job that is no longer under way has predicted written, though none of its chunks comes again."""
    if ledger.waiting:
        uid = ledger.order().uid
        ledger.note_job(
            "finish", queue.enqueue(connection, jobs.prelabel_finish(uid, ledger.id), at_front=True)
        )


def resume(connection: Redis, id: str, now: datetime) -> None:
    """Go on with a stopped or failed job, or try the failures of a complete one again. Raises NotFound, SenderError."""
    ledger = Ledger(connection, id)
    order = ledger.order()
    state = ledger.state
    if state in UNDER_WAY:
        raise SenderError(f"job {id} is {state} already")
    if state == COMPLETE and not ledger.account().failed:
        raise SenderError(f"job {id} is complete, and no task failed: there is nothing to go on with")
    _claim(connection, order.uid, id)
    if state in (COMPLETE, FAILED):
        ledger.forget_failures(order.chunk_tasks)
    ledger.put(state=QUEUED, message="", ended_at="", replace_began=0, write_failures=0)
    ledger.note_job("split", queue.enqueue(connection, jobs.prelabel(order.uid, id), at_front=True))


def want(connection: Redis, uid: str, ids: Iterable[int], *, by: str = TOO_LARGE) -> None:
    """Have these tasks pre-labelled soon, together with what others want of the project until then. `by`: why."""
    if not (given := [str(id) for id in ids]):
        return
    pipe = connection.pipeline(transaction=True)
    pipe.sadd(names.prelabel_wanted(uid), *given)
    pipe.sadd(names.prelabel_wanted_by(uid), by)
    pipe.sadd(names.PRELABEL_WANTED, uid)
    pipe.execute()
    if not active(connection, uid):
        enqueue_wanted(connection, uid)


def wanted_by(connection: Redis, uid: str) -> list[str]:
    """Why tasks of a project are wanted; each reason is told once."""
    if found := _texts(connection.smembers(names.prelabel_wanted_by(uid))):
        connection.srem(names.prelabel_wanted_by(uid), *found)
    return found


def enqueue_wanted(connection: Redis, uid: str) -> None:
    """Have a worker look at what is wanted of a project, once for many who want something."""
    if connection.set(names.prelabel_pending(uid), 1, nx=True, px=WANTED_MS):
        queue.enqueue(connection, jobs.prelabel_wanted(uid), at_front=True)


def newest(connection: Redis, uid: str | None = None, most: int = KEPT_JOBS) -> list[str]:
    """Ids of jobs, the newest first; of one project, or of all."""
    found: Any = connection.zrevrange(names.PRELABELS, 0, -1)
    ids = [id.decode() for id in found]
    return [id for id in ids if uid is None or id.startswith(f"{uid}-")][:most]
