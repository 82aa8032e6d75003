"""What the commands and the API stand on: settings and one client of each neighbour, tests hand in their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import AuthenticationError, ConnectionError, RedisError, TimeoutError

from bridge.edges import queue
from bridge.edges import redis as redis_edge
from bridge.errors import Refused, Unavailable
from bridge.jobs import Job
from bridge.settings import SidecarSettings
from bridge.store import ObjectStore

if TYPE_CHECKING:
    from bridge.edges.label_studio import LabelStudio

# A person waits: long enough for a slow Label Studio with thousands of tasks, not for a dead one.
LABEL_STUDIO_TIMEOUT_S = 60
REDIS_TIMEOUT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Made without a connection; each fails on its first call, as an error of ours (Redis: inside `redis_says`)."""

    settings: SidecarSettings
    label_studio: LabelStudio
    redis: Redis
    store: ObjectStore
    check_bucket: Callable[[], None]
    enqueue: Callable[[Redis, Job], str] = queue.enqueue

    @contextmanager
    def redis_says(self) -> Iterator[Redis]:
        """Redis, with its errors as ours."""
        try:
            yield self.redis
        except AuthenticationError as error:
            raise Refused(
                f"Redis at {self._redis_address} does not accept our user or password", hint="check REDIS_URL"
            ) from error
        except (ConnectionError, TimeoutError, OSError) as error:
            raise Unavailable(
                f"no answer from Redis at {self._redis_address} ({type(error).__name__})",
                hint="is it running, and is REDIS_URL right?",
            ) from error
        except RedisError as error:
            raise Unavailable(f"Redis at {self._redis_address}: {error}", hint="check REDIS_URL") from error

    @property
    def _redis_address(self) -> str:
        return address_of(self.settings.redis_url)


def open_clients(settings: SidecarSettings) -> Clients:
    # Imported when they are needed: the SDK takes two seconds, and `--help` or a typing error need not wait for it.
    from bridge.edges.label_studio import LabelStudio
    from bridge.edges.s3 import S3Store, make_client

    client = make_client(settings.s3, attempts=1, connect_timeout_s=3, read_timeout_s=15)
    store = S3Store(settings.s3, client=client)
    return Clients(
        settings=settings,
        label_studio=LabelStudio(settings.label_studio, timeout_s=LABEL_STUDIO_TIMEOUT_S),
        redis=redis_edge.ingest_client(settings.redis_url, timeout_s=REDIS_TIMEOUT_S),
        store=store,
        check_bucket=store.check,
    )


def address_of(url: str) -> str:
    """An address without its user and password."""
    parts = urlsplit(url)
    if not parts.hostname:
        return parts.path
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname}{port}{parts.path}"
