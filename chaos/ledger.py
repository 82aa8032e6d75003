"""The test's own account of what Label Studio said. Nothing of ours is imported here."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Ledger:
    """Every reply that changed something, from all threads. `events` counts changes.

    `saved_as`: annotation id -> its newest reply by `updated_at`; `removed_ids` and `emptied_tasks` are what
    somebody asked to take away; `pictures`: tasks whose data must stay as it is, for their pictures' sake.
    """

    pictures: frozenset[int] = frozenset()
    deeds: Counter[str] = field(default_factory=Counter)
    unclear_replies: list[str] = field(default_factory=list)
    saved_as: dict[int, dict[str, Any]] = field(default_factory=dict)
    removed_ids: set[int] = field(default_factory=set)
    emptied_tasks: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def events(self) -> int:
        with self._lock:
            return sum(self.deeds.values())

    def keeps_data(self, task: int) -> bool:
        return task in self.pictures

    def saved(self, deed: str, annotation: dict[str, Any]) -> None:
        with self._lock:
            self.deeds[deed] += 1
            known = self.saved_as.get(annotation["id"])
            if known is None or (known["created_at"], known["updated_at"]) < (
                annotation["created_at"],
                annotation["updated_at"],
            ):
                self.saved_as[annotation["id"]] = annotation

    def may_go(self, *, annotations: Iterable[int] = (), tasks: Iterable[int] = ()) -> None:
        """Somebody is about to ask for the end of these, or of all that is on these tasks. Whatever Label Studio
        answers: a refusal of its own (a locked database) does not say that nothing was done."""
        with self._lock:
            self.removed_ids |= set(annotations)
            self.emptied_tasks |= set(tasks)

    def done(self, deed: str) -> None:
        """A change that is not the saving of one annotation."""
        with self._lock:
            self.deeds[deed] += 1

    def unclear(self, deed: str, words: str) -> None:
        """Label Studio gave no clear answer: the change may be there or not. Its API decides at the end."""
        with self._lock:
            self.unclear_replies.append(f"{deed}: {words}")
