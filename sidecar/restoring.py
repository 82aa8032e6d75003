"""Restores as the command line asks for them: find the record, show what would be done, hand it to the worker, wait.

The work itself is a job of its own queue (workers/restore.py): a closed terminal does not stop it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bridge import jobs, restore_people
from bridge.edges import job_list, queue
from bridge.edges import redis as names
from bridge.edges import restore as kept
from bridge.edges.log import read_state
from bridge.errors import BridgeError, NotFound, Refused, SenderError, Unavailable
from bridge.keys import Layout, project_id_of
from bridge.records import format_time
from bridge.restore import Order, Source, fit_title, restore_id, source_of
from bridge.settings import LabelStudioSettings
from sidecar.clients import Clients

if TYPE_CHECKING:
    from bridge.edges.label_studio import LabelStudio

POLL_S = 0.5
# Between a job's end and its report in the bucket, or the queue taking up a killed worker's job.
PATIENCE_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a restore would do; `made`: the uid of the project that an earlier run made. `stops`: why it cannot begin."""

    order: Order
    source: Source
    absent_since: datetime | None
    matched: Mapping[str, int] = field(default_factory=dict)
    create: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    made: str | None = None
    finished: bool = False

    def to_json(self) -> dict[str, Any]:
        source = self.source
        return {
            "restore": self.order.id,
            "uid": self.order.uid,
            "at": format_time(self.order.at),
            "absent_since": None if self.absent_since is None else format_time(self.absent_since),
            "to": self.order.to,
            "title": self.order.title,
            "bulk": self.order.bulk,
            "counts": source.counts,
            "upload_bytes": sum(media.size_bytes for media in source.uploads),
            "storages": [storage_words(one) for one in source.storages],
            "users": {"matched": dict(self.matched), "create": list(self.create)},
            "cannot": list(self.stops),
            "left_out": [one.to_json() for one in source.left_out],
            "whole": source.whole,
            "continues": self.made,
            "finished": self.finished,
        }


def storage_words(storage: Mapping[str, Any]) -> str:
    place = (
        f"{storage.get('bucket')}/{storage.get('prefix') or ''}"
        if storage.get("bucket")
        else storage.get("path")
    )
    return f"{storage.get('direction')} {storage.get('type')} {place}"


def find_uid(clients: Clients, given: str) -> str:
    """The uid of a project in the bucket, by uid, id or title: Label Studio need not know it any more.

    Raises NotFound, or SenderError where several are meant."""
    prefix = clients.settings.s3.bucket_prefix
    try:
        project_id_of(given)
    except ValueError:
        pass
    else:
        if next(iter(clients.store.keys(Layout(given, prefix).log_prefix)), None) is None:
            raise NotFound(f"the bucket has no record of project {given}")
        return given
    if given.isdecimal():
        found = list(kept.uids_in_bucket(clients.store, prefix, f"{given}."))
    else:
        found = [uid for uid in kept.uids_in_bucket(clients.store, prefix) if _title(clients, uid) == given]
    if len(found) > 1:
        raise SenderError(
            f"the bucket has {len(found)} projects {given!r}: give the uid, one of {', '.join(found)}"
        )
    if not found:
        raise NotFound(
            f"the bucket has no record of a project {given!r}",
            hint="give its uid, as under projects/ in the bucket",
        )
    return found[0]


def _title(clients: Clients, uid: str) -> str:
    state = read_state(clients.store, Layout(uid, clients.settings.s3.bucket_prefix), None)
    return next((str(thing.data.get("title")) for thing in state.things.get("project", {}).values()), "")


def target_of(clients: Clients, to: str | None) -> tuple[str, LabelStudio]:
    """The address and a client of the Label Studio to restore into. Raises Refused without a token for it."""
    ours = clients.settings.label_studio
    address = (to or ours.url).rstrip("/")
    if address == ours.url:
        return address, clients.label_studio
    from bridge.edges.label_studio import LabelStudio

    key = clients.settings.restore_api_key
    if key is None:
        raise Refused(
            f"there is no token for {address}; that of {ours.url} is not sent anywhere else",
            hint="put a token of its own into RESTORE_API_KEY, for the sidecar and the workers",
        )
    return address, LabelStudio(LabelStudioSettings(url=address, api_key=key))


def plan(
    clients: Clients,
    uid: str,
    *,
    at: datetime | None = None,
    to: str | None = None,
    title: str = "",
    users: Mapping[str, str] | None = None,
    create_users: bool = True,
    bulk: bool = False,
    again: bool = False,
) -> Plan:
    """Read the record and the target; change nothing. A restore that was begun and not finished is gone on with.

    Raises NotFound, SenderError (a time before the record begins), and what the target raises."""
    layout = Layout(uid, clients.settings.s3.bucket_prefix)
    address, target = target_of(clients, to)
    begun = None if again else _begun(clients, layout, address, at)
    moment = kept.moment(clients.store, layout, begun.at if begun else at)
    source = source_of(moment.state, moment.unreadable)
    if source is None:
        raise SenderError(
            f"the record of {uid} says nothing of the project itself at {format_time(moment.at)}",
            hint="give a later time",
        )
    id = (
        begun.id
        if begun
        else restore_id(uid, moment.at, address, format_time(datetime.now(UTC)) if again else "")
    )
    order = begun or kept.read_order(clients.store, layout, id)
    if order is None:
        titles = [str(project.get("title")) for project in target.projects()]
        wanted = title or str(source.project.get("title") or "")
        order = Order(
            id=id,
            uid=uid,
            at=moment.at,
            to=address,
            title=title[:50] if title else fit_title(wanted, titles, moment.at),
            users=users or {},
            create_users=create_users,
            bulk=bulk,
            asked_at=datetime.now(UTC),
        )
    elif users:
        order = Order.from_json(order.to_json() | {"users": dict(users), "create_users": create_users})
    people = restore_people.resolve(
        source.authors, source.users, order.users, target.users(), create=order.create_users
    )
    made = kept.made_uid(clients.store, layout, id)
    return Plan(
        order=order,
        source=source,
        absent_since=moment.absent_since,
        matched={_name(source, author): new for author, new in people.there.items()},
        create=tuple(people.create),
        stops=tuple(people.unknown),
        made=made,
        finished=made is not None and _complete(clients, made),
    )


def _name(source: Source, author: int | None) -> str:
    return "nobody" if author is None else str(source.users.get(author, {}).get("email") or author)


def _begun(clients: Clients, layout: Layout, address: str, at: datetime | None) -> Order | None:
    """The newest restore to this address that did not come to its end."""
    for order in reversed(kept.orders(clients.store, layout)):
        if order.to != address or (at is not None and order.at != at):
            continue
        made = kept.made_uid(clients.store, layout, order.id)
        if made is None or not _complete(clients, made):
            return order
    return None


def _complete(clients: Clients, uid: str) -> bool:
    return bool((report_of(clients, uid) or {}).get("complete"))


def report_of(clients: Clients, uid: str) -> dict[str, Any] | None:
    """How the project was restored, or None while it is not."""
    layout = Layout(uid, clients.settings.s3.bucket_prefix)
    return kept.read_json(clients.store, layout.restore_report)


def begin(clients: Clients, planned: Plan) -> Order:
    """Keep the order and have a worker carry it out, unless one is at it already. Raises Unavailable."""
    layout = Layout(planned.order.uid, clients.settings.s3.bucket_prefix)
    with clients.redis_says() as connection:
        last: Any = connection.get(names.restore_job(planned.order.id))
        under_way = kept.read_order(clients.store, layout, planned.order.id)
        if under_way is not None and last is not None and queue.is_under_way(connection, last.decode()):
            return under_way
        order = Order.from_json(planned.order.to_json() | {"asked_at": format_time(datetime.now(UTC))})
        kept.write_order(clients.store, layout, order)
        id = clients.enqueue(connection, jobs.restore(order.uid, order.id))
        connection.set(names.restore_job(order.id), id, ex=30 * 24 * 3600)
    return order


def wait(
    clients: Clients,
    order: Order,
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Until the restore has come to its end: its report. `say` is called with each new line of progress.

    Raises Unavailable when the job has failed; interrupting it leaves the job running."""
    layout = Layout(order.uid, clients.settings.s3.bucket_prefix)
    said, gone_since = "", None
    while True:
        with clients.redis_says() as connection:
            job = _job(connection, order.id)
        made = kept.made_uid(clients.store, layout, order.id) if job is None else None
        report = report_of(clients, made) if made else None
        if report is not None and report.get("asked_at", "") >= format_time(order.asked_at):
            return report
        if job is None:
            gone_since = gone_since if gone_since is not None else clock()
            if clock() - gone_since > PATIENCE_S:
                raise Unavailable(
                    "the job is gone and has left no report",
                    hint="run the same command again: it goes on there",
                )
        else:
            gone_since = None
            line = _words(job)
            if line != said:
                say(line)
            said = line
            if job.state in (job_list.FAILED, job_list.STOPPED):
                raise Unavailable(
                    f"the restore {order.id} {job.state}: {job.reason}",
                    hint="mend that and run the same command again: it goes on where it stopped",
                )
        sleep(POLL_S)


def _job(connection: Any, restore: str) -> job_list.JobInfo | None:
    last = connection.get(names.restore_job(restore))
    try:
        return None if last is None else job_list.show(connection, last.decode())
    except BridgeError:
        return None


def _words(job: job_list.JobInfo) -> str:
    if job.state == job_list.QUEUED:
        return "queued: a worker of the queue `restore` takes it up"
    if job.state == job_list.WAITING:
        return f"waits to try again: {job.reason}"
    return job.progress.words() if job.progress is not None else job.state
