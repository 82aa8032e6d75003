"""What a container's health check asks, with nothing but what is in the images. Exit status 0: well; 1: one line why not.

python docker/health.py web /health    an answer below 400 on this container's PORT
python docker/health.py worker live    an RQ worker of this container is registered for the queue
python docker/health.py redis          Redis answers (of a scheduler: that it can work; that it runs, Docker knows)
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.request

WAIT_S = 4


def main(words: list[str]) -> int:
    try:
        match words:
            case ["web", path]:
                well = _web(f"http://127.0.0.1:{os.environ['PORT']}{path}")
            case ["worker", queue]:
                well = _worker(queue)
            case ["redis"]:
                well = bool(_redis().ping())
            case _:
                well = f"unknown question: {' '.join(words)}"
    except Exception as error:
        well = f"{type(error).__name__}: {error}"
    if well is not True:
        sys.stderr.write(f"{well or 'not well'}\n")
    return 0 if well is True else 1


def _web(url: str) -> bool | str:
    # No proxy: it must not be asked about this container.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=WAIT_S) as answer:
        return bool(answer.status < 400) or f"{url} answered {answer.status}"


def _redis():  # type: ignore[no-untyped-def]
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(
        os.environ["REDIS_URL"],
        socket_timeout=WAIT_S,
        socket_connect_timeout=WAIT_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def _worker(queue: str) -> bool | str:
    """RQ keeps the set `rq:workers` of keys of hashes with hostname and queues, which end some minutes after a worker
    that no longer says it lives (rq/worker/base.py)."""
    connection = _redis()
    for key in connection.smembers("rq:workers"):
        hostname, queues = connection.hmget(key, "hostname", "queues")
        if hostname == socket.gethostname() and queue in (queues or "").split(","):
            return True
    return f"no worker of this container is registered for the queue {queue}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
