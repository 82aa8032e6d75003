"""The moment in which a replaced object is not there."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cortx_emulation.answers import Refusal
from cortx_emulation.request import S3Request
from cortx_emulation.rules.buckets import Ask


class OverwriteGap:
    """rule: CORTX-RGW on Motr removes the old entry of a key before it inserts the new one: who reads between finds
    nothing."""

    def __init__(self, gap_s: float, sleep: Callable[[float], None]) -> None:
        self._gap_s, self._sleep = gap_s, sleep
        self._gone: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def around(self, request: S3Request, ask: Ask) -> Iterator[None]:
        """Raises Refusal 404 to a reader in the gap; the writer makes one where it replaces."""
        path = request.raw_path
        with self._lock:
            if self._gone[path] and request.key and request.method in ("GET", "HEAD"):
                raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        writes = (request.writes_object and not request.is_part) or request.is_copy or request.completes
        if not self._gap_s or not writes or ask("HEAD", path).status != 200:
            yield
            return
        with self._lock:
            self._gone[path] += 1
        try:
            self._sleep(self._gap_s)
            yield
        finally:
            with self._lock:
                self._gone[path] -= 1
