"""Whether a project is there at all, and whether its events can reach us: asked before anything is compared."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from bridge import hooks
from bridge import reconcile as rules
from bridge.edges import redis as names
from bridge.edges import repairs as memory
from bridge.errors import BridgeError, NotFound, Unavailable
from bridge.reconcile import FULL
from bridge.records import delete, format_time
from workers.reading import uid_of
from workers.reconcile_work import Work

log = logging.getLogger(__name__)


class Presence:
    def __init__(self, work: Work) -> None:
        self._work = work

    def project(self) -> dict[str, Any] | None:
        """The project, or None when this Label Studio does not show it to us: asked for directly, and not listed."""
        label_studio = self._work.here.label_studio
        try:
            project = label_studio.project(self._work.project_id)
        except NotFound:
            project = None
        if project is not None and uid_of(project) == self._work.uid:
            return project
        if any(uid_of(listed) == self._work.uid for listed in label_studio.projects()):
            raise Unavailable(
                f"Label Studio lists the project {self._work.uid}, and says that it is not there"
            )
        return None

    def note_absent(self) -> None:
        """One record says since when the project is absent; nothing that belongs to it is deleted."""
        self._work.report.absent_since = memory.absent_since(self._work.here.redis, self._work.uid)
        if self._work.report.absent_since and self._work.depth != FULL:
            return
        self._work.load()
        state = self._work.reader.known.state
        thing = state.thing("project", str(self._work.project_id))
        since = state.absent_since
        if since is None and thing is not None and thing.record is not None:
            stamp = self._work.reader.stamp()
            since = stamp.observed_at
            gone = delete(
                "project",
                str(self._work.project_id),
                # The event's name is how people and `State.absent_since` tell it from a delete of contents.
                replace(stamp, event=rules.PROJECT_ABSENT),
                created_at=thing.record.created_at,
            )
            self._work.write(
                [gone], [self._work.repair("project", gone.id, rules.ABSENT, "no webhook says this")]
            )
        self._work.report.absent_since = "" if since is None else format_time(since)
        if not self._work.dry:
            memory.note_absent(self._work.here.redis, self._work.uid, since)

    def repair_hook(self) -> bool:
        """Whether events cannot have reached us: then the webhook is set right, if our settings say how."""
        secret = self._work.here.settings.webhook_secret
        connected = self._work.here.redis.sismember(names.WANTED, self._work.uid)
        if not secret or not connected:
            return False
        want = hooks.wanted_hook(self._work.project_id, self._work.here.settings.sidecar_url, secret)
        repair = hooks.repair_of(want, self._work.here.label_studio.webhooks(self._work.project_id))
        if repair is None:
            return False
        done = self._work.repair("webhook", want["url"], rules.WEBHOOK, repair.why)
        if not self._work.dry:
            try:
                self._work.here.label_studio.request(repair.method, repair.path, json=repair.body)
            except BridgeError as error:
                self._work.notes.append(f"the webhook cannot be repaired ({repair.why}): {error}")
                log.error("the webhook of %s cannot be repaired: %s", self._work.uid, error)
                return False
            memory.remember(self._work.here.redis, self._work.uid, [done])
        self._work.report.add([done])
        return True
