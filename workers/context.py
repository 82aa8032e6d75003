"""What every job needs and RQ cannot pass as an argument: settings and clients.

A worker process installs one `Context` before it takes its first job; jobs ask for it by `current()`. Clients are made
on first use in the process that uses them, since RQ forks one process a job and boto3's connections must not cross.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import redis

from bridge.edges import redis as redis_edge
from bridge.edges.label_studio import LabelStudio
from bridge.edges.log import LogWriter
from bridge.edges.s3 import S3Store, make_client
from bridge.keys import Layout
from bridge.settings import WorkersSettings
from bridge.store import ObjectStore

T = TypeVar("T")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Context:
    """The clients of one worker. Tests hand in their own."""

    def __init__(
        self,
        settings: WorkersSettings,
        *,
        connection: redis.Redis | None = None,
        store: ObjectStore | None = None,
        label_studio: LabelStudio | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.settings = settings
        self.now = now
        self.redis = connection if connection is not None else redis_edge.client(settings.redis_url)
        self._given_store = store
        self._given_label_studio = label_studio
        self._made: dict[tuple[int, str], object] = {}

    def _once(self, name: str, make: Callable[[], T]) -> T:
        key = (os.getpid(), name)
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]  # type: ignore[return-value]

    @property
    def store(self) -> ObjectStore:
        """The bucket, with retries."""
        return self._given_store or self._once("store", lambda: S3Store(self.settings.s3))

    @property
    def put_once_store(self) -> ObjectStore:
        """The bucket without retries of its own: for the log, whose keys are never written twice."""
        return self._given_store or self._once(
            "put-once", lambda: S3Store(self.settings.s3, client=make_client(self.settings.s3, attempts=1))
        )

    @property
    def label_studio(self) -> LabelStudio:
        return self._given_label_studio or self._once(
            "label-studio", lambda: LabelStudio(self.settings.label_studio)
        )

    def layout(self, uid: str) -> Layout:
        """Raises ValueError when `uid` is no project uid."""
        return Layout(uid, self.settings.s3.bucket_prefix)

    def log_writer(self, uid: str) -> LogWriter:
        return LogWriter(self.put_once_store, self.redis, self.layout(uid))


_installed: list[Context] = []


def install(context: Context) -> None:
    """Make a context the one that jobs of this process use."""
    _installed[:] = [context]


def current() -> Context:
    if not _installed:
        raise RuntimeError("no context is installed: jobs run inside `python -m workers`")
    return _installed[0]
