"""Looking at a project's log to verify it: every name and every byte.

The state that everything else is compared with is folded here, from the log alone: a wrong snapshot must not hide it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from bridge.edges.log import log_keys, read_object
from bridge.errors import Corrupt, NotFound, Unavailable
from bridge.keys import Layout
from bridge.state import State
from bridge.store import ObjectInfo, ObjectStore
from bridge.verify import Order, Problem, Report, read_log_object

T = TypeVar("T")
R = TypeVar("R")
_WAITS_S = (0.5, 2.0)  # a long reading does not end for one answer of 503
THREADS = 6  # below the connections that one client keeps
_AHEAD = 64  # objects fetched before they are asked for: bounds the memory

Say = Callable[[str], None]
"""Called with how far the work is, in words."""


class Log:
    """The log as verifying knows it: its state, its keys, and how far it has been read."""

    def __init__(self, store: ObjectStore, layout: Layout) -> None:
        self._store, self._layout = store, layout
        self.state = State()
        self.keys: set[str] = set()
        self.newest = ""
        self.damaged = False

    def read(self, report: Report, say: Say) -> None:
        """List the log, read every object of it, and fold what can be read."""
        order = Order(self._layout)
        objects = []
        for info in self._store.keys(self._layout.log_prefix):
            report.problems += order.look(info)
            if self._layout.parse_log(info.key) is not None:
                objects.append(info)
        self.keys = {info.key for info in objects}
        self.newest = objects[-1].key if objects else ""
        report.count("log_objects", len(objects))
        say(f"{len(objects)} log objects listed")
        self._read(objects, report, say)
        self.damaged = bool(report.problems)
        if self.state.passed_over:
            report.notes.append(newer_words(self.state.passed_over))

    def _read(self, objects: list[ObjectInfo], report: Report, say: Say) -> None:
        bodies = in_order(objects, lambda info: _fetched(self._store, info.key))
        for done, (info, body) in enumerate(zip(objects, bodies, strict=True), start=1):
            if isinstance(body, str):
                report.problems.append(Problem(part="log", where=info.key, what="gone", words=body))
                continue
            key = self._layout.parse_log(info.key)
            assert key is not None  # the others were left out above
            found = read_log_object(info, key, body)
            report.problems += found.problems
            report.count("records", len(found.records))
            for record in found.records:
                self.state.add(record)
            if found.newer:
                report.notes.append(f"{info.key}: {newer_words(found.newer)}")
            if done % 100 == 0 or done == len(objects):
                say(f"{done} of {len(objects)} log objects read")

    def catch_up(self) -> None:
        """Fold what was written since."""
        for info in log_keys(self._store, self._layout, after=self.newest):
            try:
                for record in read_object(self._store, info.key):
                    self.state.add(record)
            except (ValueError, NotFound):
                continue  # the next verification names it
            self.keys.add(info.key)
            self.newest = info.key


def newer_words(count: int) -> str:
    many = "1 record" if count == 1 else f"{count} records"
    return f"{many} from a newer version passed over: kept, and not part of the state this version computes"


def _fetched(store: ObjectStore, key: str) -> bytes | str:
    """The object, or in words why there is none. Raises Unavailable and Refused."""
    for waits_s in (*_WAITS_S, None):
        try:
            return store.get(key)
        except NotFound:
            return "was listed, and cannot be read: it is gone"
        except Corrupt as error:
            return f"does not arrive as it is: {error}"
        except Unavailable:
            if waits_s is None:
                raise
            time.sleep(waits_s)
    raise AssertionError("the last try returns or raises")


def in_order(items: Iterable[T], do: Callable[[T], R]) -> Iterator[R]:
    """`do` for each item, a few at a time, results in the order of the items. Raises what `do` raises."""
    rest = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        while part := list(islice(rest, _AHEAD)):
            yield from pool.map(do, part)
