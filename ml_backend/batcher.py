"""What waits for a model goes through it together: one thread takes items of one group in batches, or several threads do
where a model computes side by side.

A group is what fits into one batch (device and shape of the picture). Requests take turns, item by item: somebody who
opens one task is in the next batch, or the one after it, though a hundred tasks wait.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bridge.errors import Busy

Item = TypeVar("Item")
Answer = TypeVar("Answer")
_IDLE_S = 10.0  # then the thread ends; the next item starts another


@dataclass
class _Waiting(Generic[Item, Answer]):
    """One item of a request, until it is answered."""

    group: Hashable
    item: Item
    since: float
    answer: Answer | None = None
    error: Exception | None = None
    queue_s: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)


class Ticket(Generic[Item, Answer]):
    """One request: items are added as they become ready, and the model begins with the first of them."""

    def __init__(self, batcher: Batcher[Item, Answer]) -> None:
        self._batcher = batcher
        self._all: list[_Waiting[Item, Answer]] = []
        self.pending: deque[_Waiting[Item, Answer]] = deque()  # the batcher's, under its lock

    def add(self, group: Hashable, item: Item) -> None:
        """Raises Busy when too many items wait already; what was added before stays in the queue."""
        one: _Waiting[Item, Answer] = _Waiting(group=group, item=item, since=self._batcher.clock())
        self._batcher.put(self, one)
        self._all.append(one)

    def answer(self, index: int) -> Answer:
        """Waits for the item added as number `index`. Raises what the model raised on it."""
        one = self._all[index]
        one.done.wait()
        if one.error is not None:
            raise one.error
        assert one.answer is not None
        return one.answer

    def queue_s(self, index: int) -> float:
        """How long it waited for its batch."""
        return self._all[index].queue_s

    def leave(self) -> None:
        """Take back what has not begun; for a request that has failed."""
        self._batcher.forget(self)


class Batcher(Generic[Item, Answer]):
    """`run(group, items)` gives an answer an item, in order, and is called by one thread at a time, or by as many as
    `lanes` says of the group.

    `most` says how many items of a group make a batch. `room`: items that may wait, over all requests. `wait_s`: how
    long a batch that is not full waits for more. `observe` hears how long each item of a
    batch has waited, in seconds.
    """

    def __init__(
        self,
        run: Callable[[Hashable, list[Item]], Sequence[Answer]],
        *,
        most: Callable[[Hashable], int],
        room: int,
        lanes: Callable[[Hashable], int] = lambda group: 1,
        wait_s: float = 0.0,
        observe: Callable[[float], None] = lambda queue_s: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._most = most
        self._lanes = lanes
        self._room = room
        self._wait_s = wait_s
        self._observe = observe
        self.clock = clock
        self._changed = threading.Condition()
        self._turns: deque[Ticket[Item, Answer]] = deque()
        self._waiting = 0
        self._threads = self._idle = 0

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return self._waiting

    def ticket(self) -> Ticket[Item, Answer]:
        return Ticket(self)

    def put(self, ticket: Ticket[Item, Answer], one: _Waiting[Item, Answer]) -> None:
        """Ticket's own way in."""
        with self._changed:
            if self._waiting >= self._room:
                raise Busy(
                    f"{self._waiting} pictures wait for the model already",
                    hint="try again in a moment, or raise PREDICT_QUEUE",
                )
            if not ticket.pending:
                self._turns.append(ticket)
            ticket.pending.append(one)
            self._waiting += 1
            if self._idle < self._waiting and self._threads < max(1, self._lanes(one.group)):
                self._threads += 1
                threading.Thread(target=self._work, name="inference", daemon=True).start()
            self._changed.notify()

    def forget(self, ticket: Ticket[Item, Answer]) -> None:
        """Ticket's own way out."""
        with self._changed:
            self._waiting -= len(ticket.pending)
            ticket.pending.clear()
            if ticket in self._turns:
                self._turns.remove(ticket)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                found = self._changed.wait_for(lambda: bool(self._turns), timeout=_IDLE_S)
                self._idle -= 1
                if not found:
                    self._threads -= 1
                    return
                if self._wait_s and self._waiting < self._most(self._turns[0].pending[0].group):
                    self._changed.wait(self._wait_s)
                batch = self._taken()
            if batch:
                self._answer(batch)

    def _taken(self) -> list[_Waiting[Item, Answer]]:
        """The next batch: of the group whose turn it is, one item a request and round, until it is full."""
        if not self._turns:
            return []
        group = self._turns[0].pending[0].group
        most = max(1, self._most(group))
        batch: list[_Waiting[Item, Answer]] = []
        took = True
        while took and len(batch) < most:
            took = False
            for ticket in self._turns:
                found = next((one for one in ticket.pending if one.group == group), None)
                if found is not None and len(batch) < most:
                    ticket.pending.remove(found)
                    batch.append(found)
                    took = True
        self._waiting -= len(batch)
        self._turns.rotate(-1)
        self._turns = deque(ticket for ticket in self._turns if ticket.pending)
        return batch

    def _answer(self, batch: list[_Waiting[Item, Answer]]) -> None:
        now = self.clock()
        for one in batch:
            one.queue_s = now - one.since
            self._observe(one.queue_s)
        try:
            answers = self._run(batch[0].group, [one.item for one in batch])
            for one, answer in zip(batch, answers, strict=True):
                one.answer = answer
        except Exception as error:
            if len(batch) > 1:  # one item at fault must not cost the others, which may be of other requests
                for one in batch:
                    self._answer([one])
                return
            batch[0].error = error
        for one in batch:
            one.done.set()
