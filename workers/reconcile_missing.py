"""What the record shows and Label Studio did not: asked for one by one, ended in the record only after a 404, or held."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from bridge import readings
from bridge import reconcile as rules
from bridge.edges import redis as names
from bridge.edges import repairs as memory
from bridge.errors import NotFound, Unavailable
from bridge.reconcile import ACCEPT, INCREMENTAL, Candidate, Repair
from bridge.records import Record, delete, format_time, parse_time, put
from workers.reconcile_presence import Presence
from workers.reconcile_work import Work, chunks

log = logging.getLogger(__name__)
DELETES_AN_OBJECT = 500


class Missing:
    def __init__(self, work: Work, presence: Presence) -> None:
        self._work = work
        self._presence = presence
        self._found: list[Candidate] = []

    def add(self, candidates: Iterable[Candidate]) -> None:
        self._found += candidates

    def candidates(self) -> list[Candidate]:
        """Those that the record still shows."""
        return sorted(one for one in {*self._found} if rules.still_alive(one, self._work.reader.known))

    def settle(self) -> None:
        """Ask Label Studio for each thing that was not shown, and record the end of what it says is not there."""
        candidates = self.candidates()
        if candidates:
            self._work.reader.let_webhooks_speak()
            candidates = [one for one in candidates if rules.still_alive(one, self._work.reader.known)]
        older = self._work.reader.older or memory.older(self._work.here.redis, self._work.uid)
        many = rules.too_many(candidates, self._work.reader.known)
        reason = "; ".join(why for why in (older if candidates else "", many) if why)
        if reason and self._work.mode != ACCEPT:
            self._hold(candidates, reason)
            return
        for asked in chunks(candidates, DELETES_AN_OBJECT):
            self._settle_some(asked)
        if self._work.depth != INCREMENTAL and not self._work.dry:
            memory.hold(self._work.here.redis, self._work.uid, {})
            memory.note_older(self._work.here.redis, self._work.uid, "")

    def _settle_some(self, candidates: list[Candidate]) -> None:
        records: list[Record] = []
        done: list[Repair] = []
        for one in candidates:
            self._work.reader.beat()
            stamp = self._work.reader.stamp()
            answer = self._ask(one)
            verdict = rules.judge(one, answer, self._work.reader.known)
            if verdict.gone:
                records.append(delete(one.kind, one.id, stamp, created_at=parse_time(one.created_at or None)))
                why = (
                    "no webhook said so" if one.kind in ("task", "annotation") else "webhooks never say this"
                )
                done.append(self._work.repair(one.kind, one.id, rules.DELETED, why))
            elif (
                verdict.moved
                and answer is not None
                and answer.get("project") in (None, self._work.project_id)
            ):
                owner = self._work.reader.known.state.thing("task", str(answer["task"]))
                born = owner.record.created_at if owner is not None and owner.record is not None else None
                moved = put(
                    one.kind, answer, stamp, task_created_at=None if born is None else format_time(born)
                )
                # The listing and this answer agree that it is not where the record has it.
                records += readings.confirmed([moved], [moved], self._work.reader.known)
                done.append(
                    self._work.repair(one.kind, one.id, rules.OUTDATED, f"moved to task {answer['task']}")
                )
        if records and self._presence.project() is None:
            raise Unavailable(
                f"the project {self._work.uid} went away while its contents were looked for: nothing is deleted"
            )
        self._work.write(records, done)

    def _ask(self, one: Candidate) -> dict[str, Any] | None:
        try:
            return dict(self._work.here.label_studio.get(rules.path_of(one)))
        except NotFound:
            return None

    def _hold(self, candidates: list[Candidate], reason: str) -> None:
        before = memory.held_of(self._work.here.redis, self._work.uid)
        if before and self._work.depth == INCREMENTAL:
            self._work.report.held = before  # a look at some tasks says nothing of the others
            return
        counts: dict[str, int] = {}
        for one in candidates:
            counts[one.kind] = counts.get(one.kind, 0) + 1
        held = {
            "reason": reason,
            "counts": counts,
            "at": format_time(self._work.here.now()),
            "examples": [f"{one.kind} {one.id}" for one in candidates[:10]],
        }
        self._work.report.held = held
        log.error(
            "%d deletions in the record of %s are held for a person: %s. If they are meant: "
            "`python -m sidecar reconcile %s --accept-deletions`",
            len(candidates),
            self._work.uid,
            reason,
            self._work.uid,
        )
        if not self._work.dry:
            memory.hold(self._work.here.redis, self._work.uid, held)
            self._work.here.redis.hincrby(names.COUNTERS, "reconcile_held_runs", 1)
