"""Bring a project back from its record into Label Studio, as a new project.

Every step first finds out what an earlier run has done, in Label Studio itself; nothing is noted that could be wrong. So
a run may be killed anywhere, and the next one goes on. No webhook of ours is on the project until it is whole
(`python -m sidecar restore` connects it then), and what its log gets first is where it comes from.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from rq import get_current_job

from bridge import jobs, restore_people
from bridge.edges import queue
from bridge.edges import redis as names
from bridge.edges import restore as kept
from bridge.edges.log import read_state
from bridge.errors import BridgeError, NotFound, OutsideError, SenderError, Unavailable
from bridge.records import Record
from bridge.restore import EVENT, Order, source_of
from bridge.restore_bodies import project_body
from workers import context, restore_annotate, restore_check, restore_send
from workers.kept_lock import held
from workers.restore_target import Work, again, answered, find_project, open_target, present, uid_of

log = logging.getLogger(__name__)
LOCK_TTL_S = 30


def run(uid: str, restore_id: str) -> None:
    """Carry out an order of the bucket. Raises Unavailable where waiting helps: the queue comes again; what waiting
    cannot help is failed at once."""
    here = context.current()
    with held(here.redis, names.restore_lock(restore_id), ttl_s=LOCK_TTL_S) as lock:
        if lock is None:
            raise Unavailable(f"another worker is at the restore {restore_id}")
        try:
            order = kept.read_order(here.store, here.layout(uid), restore_id)
            if order is None:
                raise NotFound(f"the bucket has no order of the restore {restore_id} of project {uid}")
            Restore(here, order, beat=lock).run()
        except BridgeError as error:
            job = get_current_job()
            if job is not None and not error.retryable:
                job.retries_left = 0
            raise


class Restore:
    """One run of one order. Tests hand in `sleep` and a target."""

    def __init__(
        self,
        here: context.Context,
        order: Order,
        *,
        beat: Callable[[], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._here = here
        self._order = order
        self._layout = here.layout(order.uid)
        source = source_of(*kept.read_state(here.store, self._layout, order.at))
        if source is None:
            raise SenderError(f"the record of {order.uid} says nothing of the project itself at that time")
        beat()
        self._work = Work(
            here=here, target=open_target(here, order), order=order, source=source, beat=beat, sleep=sleep
        )
        self._began_at = here.now()

    def run(self) -> None:
        """Find or make the project, bring it to what the record says, compare, and write the report."""
        work = self._work
        work.left_out += work.source.left_out
        noted = kept.made_uid(self._here.store, self._layout, self._order.id)
        project = again(work, lambda: find_project(work.target, self._order, noted))
        finished = project is not None and self._is_finished(uid_of(project))
        if finished and project is not None:
            self._enter(project)
            self._people(may_create=False)
            restore_send.learn_uploads(work)
            log.info("project %s was restored before: comparing it only", work.uid)
        else:
            self._fill(project)
        found = restore_check.compare(work)
        self._report(found, finished_before=finished)

    def _is_finished(self, uid: str) -> bool:
        report = kept.read_json(self._here.store, self._here.layout(uid).restore_report)
        return report is not None and report.get("restore") == self._order.id and bool(report.get("complete"))

    def _fill(self, project: dict[str, Any] | None) -> None:
        work = self._work
        self._people(may_create=True)
        first_run = project is None
        self._enter(self._create() if project is None else project)
        self._link_records()
        restore_send.uploads(work)
        restore_send.tasks(work, first_run=first_run)
        found = restore_check.read(work) if self._must_look(first_run) else restore_annotate.Found()
        restore_send.predictions(work, found.predictions)
        if any(one.get("parent_prediction") for task in work.source.tasks for one in task.annotations):
            restore_check.learn_predictions(work, restore_send.predictions_there(work))
        restore_annotate.send_annotations(work, found)
        restore_annotate.drafts(work, found)
        restore_annotate.views(work)
        doubles = present(work)
        if doubles.doubles:
            restore_send.remove_doubles(work, doubles)
        self._settings()

    def _must_look(self, first_run: bool) -> bool:
        return not first_run or self._order.bulk or restore_check.some_came_with_tasks(self._work.source)

    def _enter(self, project: dict[str, Any]) -> None:
        self._work.project_id = int(project["id"])
        self._work.uid = uid_of(project)
        kept.write_json(
            self._here.store,
            self._layout.restore_project(self._order.id),
            {"uid": self._work.uid, "id": self._work.project_id, "to": self._order.to},
        )

    def _create(self) -> dict[str, Any]:
        """Its description says that it is not whole, and is how the next run finds it."""
        body = project_body(self._work.source.project, self._order.title)
        try:
            made: dict[str, Any] = self._work.target.post(
                "/api/projects", body | {"description": self._order.description}
            )
        except OutsideError as error:
            if answered(error, 400):
                raise
            raise Unavailable(f"making the project: {error}") from error
        return made

    def _settings(self) -> None:
        """Once more all settings: imports choose a model version, and the description says now what it said."""
        body = project_body(self._work.source.project, self._order.title)
        body.setdefault("description", "")
        path = f"/api/projects/{self._work.project_id}/"
        try:
            again(self._work, lambda: self._work.target.patch(path, body))
        except OutsideError as error:
            if not answered(error, 400) or "model_version" not in body:
                raise
            # It names an ML backend that is not connected yet, or predictions that are gone.
            version = body.pop("model_version")
            self._work.leave_out("project", "model_version", f"{version!r}: {error}", lost=False)
            again(self._work, lambda: self._work.target.patch(path, body))

    def _people(self, *, may_create: bool) -> None:
        """Whose annotations they are, in the target. Raises SenderError while somebody is unknown."""
        work, order = self._work, self._order
        create = order.create_users and may_create
        people = restore_people.resolve(
            work.source.authors, work.source.users, order.users, again(work, work.target.users), create=create
        )
        if people.unknown and may_create:
            raise restore_people.refusal(people)
        for body in people.create.values():
            try:
                work.target.post("/api/users/", dict(body))
            except OutsideError as error:
                if not answered(error, 400):
                    raise Unavailable(f"making the user {body['email']}: {error}") from error
                # There already, but outside of the organisation, or made by a run that was killed: the list decides.
                log.warning("making the user %s: %s", body["email"], error)
        if people.create:
            people = restore_people.resolve(
                work.source.authors,
                work.source.users,
                order.users,
                again(work, work.target.users),
                create=False,
            )
            if people.unknown:
                raise restore_people.refusal(people)
        work.ids.users.update(people.there)

    def _link_records(self) -> None:
        """The first record of the new project's log says where it comes from."""
        layout = self._here.layout(self._work.uid)
        if read_state(self._here.store, layout, None).thing("restore", self._order.id) is not None:
            return
        now = self._here.now()
        data = {"id": self._order.id, "restored_from": self._order.uid}
        data |= {name: self._order.to_json()[name] for name in ("at", "to", "asked_at")}
        record = Record(
            kind="restore",
            op="put",
            id=self._order.id,
            created_at=None,
            version=now,
            event_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"restore/{self._order.id}/{self._work.uid}")),
            received_at=now,
            source="restore",
            event=EVENT,
            data=data,
        )
        self._here.log_writer(self._work.uid).append([record])

    def _report(self, found: restore_check.Compared, *, finished_before: bool) -> None:
        work, order = self._work, self._order
        layout = self._here.layout(work.uid)
        if not finished_before:
            self._here.store.put(
                layout.restore_ids, found.ids_text(work).encode(), content_type="application/x-ndjson"
            )
        lost = [one for one in work.left_out if one.lost]
        # What the record itself lacks, no further run can bring back.
        complete = not found.differences and all(one in work.source.left_out for one in lost)
        report = {
            "restore": order.id,
            "asked_at": order.to_json()["asked_at"],
            "from": {"uid": order.uid, "at": order.to_json()["at"]},
            "project": {"uid": work.uid, "id": work.project_id, "title": order.title, "to": order.to},
            "ok": not found.differences and not lost,
            "complete": complete or finished_before,
            "compared_only": finished_before,
            "seconds": round((self._here.now() - self._began_at).total_seconds(), 1),
            "counts": found.counts,
            "recorded": work.source.counts,
            "unique_ids": found.unique_ids,
            "left_out": [one.to_json() for one in work.left_out[: restore_check.NAMED]],
            "left_out_count": len(work.left_out),
            "differences": [one.to_json() for one in found.differences[: restore_check.NAMED]],
            "difference_count": len(found.differences),
        }
        kept.write_json(self._here.store, layout.restore_report, report)
        if order.to == self._here.settings.label_studio.url:
            queue.enqueue(self._here.redis, jobs.current(work.uid))
        log.info(
            "restored %s as project %s: %d differences, %d left out",
            order.uid,
            work.uid,
            len(found.differences),
            len(work.left_out),
        )
