"""The version a project wants, known to backends that share nothing but Redis."""

from __future__ import annotations

from pathlib import Path

import redis

from bridge.edges.redis import MODEL_WANTED, ingest_client
from ml_backend.shared_versions import SharedVersionBook
from ml_backend.versions import VersionBook
from tests.integration.conftest import free_port

PROJECT = "3.1795312966"


def test_what_one_backend_was_told_the_others_know(redis_client: redis.Redis, tmp_path: Path) -> None:
    one, other = (SharedVersionBook(tmp_path / name, redis_client) for name in ("one", "other"))
    assert other.wanted(PROJECT) is None
    one.want(PROJECT, "shapes.1")
    assert (one.wanted(PROJECT), other.wanted(PROJECT)) == ("shapes.1", "shapes.1")
    assert other.wanted("4.1795312966") is None
    other.want(PROJECT, None)
    assert (one.wanted(PROJECT), other.wanted(PROJECT)) == (None, None)
    other.want(PROJECT, "shapes.2")
    one.want(PROJECT, "shapes.2")
    redis_client.delete(MODEL_WANTED)  # what Redis has lost, the books of the machines have not
    assert (one.wanted(PROJECT), other.wanted(PROJECT)) == ("shapes.2", "shapes.2")


def test_while_redis_is_away_the_book_of_the_machine_serves_and_redis_is_left_alone(tmp_path: Path) -> None:
    now = [100.0]
    away = ingest_client(f"redis://127.0.0.1:{free_port()}/0")
    book = SharedVersionBook(tmp_path, away, clock=lambda: now[0])
    book.want(PROJECT, "shapes.1")
    assert book.wanted(PROJECT) == "shapes.1"
    assert VersionBook(tmp_path).wanted(PROJECT) == "shapes.1"
    asked = book._asked_again_at
    now[0] += 9.9
    book.wanted(PROJECT)
    assert book._asked_again_at == asked == 110.0
    now[0] += 0.2
    book.wanted(PROJECT)
    assert book._asked_again_at > asked
