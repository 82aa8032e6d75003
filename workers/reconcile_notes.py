"""What reconcile knows from one look to the next, in Redis: the watermark, and how far a full one came before it was cut off.

Losing it costs a longer look. A dry run writes none of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from bridge import reconcile as rules
from bridge.edges import redis as names
from bridge.reconcile import Candidate
from bridge.records import clean, content_hash, format_time
from workers.reading import time_of
from workers.reconcile_work import Work

GO_ON_WITHIN = timedelta(days=1)


class Notes:
    def __init__(self, work: Work) -> None:
        self._work = work

    def saved(self) -> dict[str, str]:
        found = self._work.here.redis.hgetall(names.reconcile(self._work.uid))
        return {name.decode(): value.decode() for name, value in found.items()}

    def save(self, **fields: str) -> None:
        if not self._work.dry:
            self._work.here.redis.hset(names.reconcile(self._work.uid), mapping=dict(fields))

    def note_seen(self, seen: dict[int, str], watermark: datetime | None, project: dict[str, Any]) -> None:
        """From when on to look next, and what in the overlap needs no second look."""
        if self._work.dry:
            return
        self.save(project_hash=hash_of(project))
        if watermark is None:
            return
        since = watermark - rules.OVERLAP
        recent = {str(id): text for id, text in seen.items() if any(t > since for t in times_in([text]))}
        pipe = self._work.here.redis.pipeline(transaction=True)
        pipe.delete(names.reconcile_seen(self._work.uid))
        if recent:
            pipe.hset(names.reconcile_seen(self._work.uid), mapping=dict(recent))
        if self.saved().get("watermark") != format_time(watermark):
            moved = {
                "watermark": format_time(watermark),
                "watermark_moved_at": format_time(self._work.here.now()),
            }
            pipe.hset(names.reconcile(self._work.uid), mapping=dict(moved))
        pipe.execute()

    def go_on_after(self, saved: dict[str, str]) -> int:
        """The last task that a full run of the same wish compared before it was cut off; else 0."""
        noted_at = time_of(saved.get("full_noted_at"))
        same = saved.get("full_wish") == f"{self._work.mode}|{self._work.token}"
        recent = noted_at is not None and self._work.here.now() - noted_at < GO_ON_WITHIN
        if same and recent and not self._work.dry:
            return int(saved.get("full_cursor") or 0)
        self.forget_pages()
        return 0

    def missing_before(self) -> list[Candidate]:
        """What the pages before the cut did not show."""
        saved = self._work.here.redis.lrange(names.reconcile_missing(self._work.uid), 0, -1)
        return [Candidate.from_text(text.decode()) for text in saved]

    def note_page(self, cursor: int, candidates: list[Candidate]) -> None:
        """The page is done: its differences are written, and what it did not show is kept with the cursor."""
        if self._work.dry:
            return
        pipe = self._work.here.redis.pipeline(transaction=True)
        pipe.delete(names.reconcile_missing(self._work.uid))
        if missing := [one.to_text() for one in candidates]:
            pipe.rpush(names.reconcile_missing(self._work.uid), *missing)
        fields = {
            "full_cursor": str(cursor),
            "full_noted_at": format_time(self._work.here.now()),
            "full_wish": f"{self._work.mode}|{self._work.token}",
        }
        pipe.hset(names.reconcile(self._work.uid), mapping=dict(fields))
        pipe.execute()

    def forget_pages(self) -> None:
        if not self._work.dry:
            self._work.here.redis.delete(names.reconcile_missing(self._work.uid))
            self._work.here.redis.hdel(
                names.reconcile(self._work.uid), "full_cursor", "full_noted_at", "full_wish"
            )


def hash_of(project: dict[str, Any]) -> str:
    return content_hash("project", clean("project", project))


def times_in(texts: Iterable[str]) -> list[datetime]:
    return [time for time in map(time_of, texts) if time is not None]
