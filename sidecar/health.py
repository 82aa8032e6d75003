"""`/health` says that we are alive; `/ready` asks everything we need, each with its own line and its own time limit."""

from __future__ import annotations

import concurrent.futures
import sqlite3
from collections.abc import Callable

import redis
from flask import Blueprint

from bridge.errors import BridgeError

CHECK_S = 3.0
Check = Callable[[], str]


def make_blueprint(checks: dict[str, Check]) -> Blueprint:
    bp = Blueprint("health", __name__)

    @bp.get("/health")
    def health() -> dict[str, str]:
        return {"status": "up"}

    @bp.get("/ready")
    def ready() -> tuple[dict[str, object], int]:
        found = run_checks(checks)
        good = all(line["ok"] for line in found.values())
        return {"ready": good, "checks": found}, 200 if good else 503

    return bp


def run_checks(checks: dict[str, Check]) -> dict[str, dict[str, object]]:
    """Every check side by side; one that takes longer than 3 s counts as failed and is left to itself."""
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=len(checks) or 1)
    waiting = {name: pool.submit(check) for name, check in checks.items()}
    found: dict[str, dict[str, object]] = {}
    for name, future in waiting.items():
        try:
            found[name] = {"ok": True, "detail": future.result(timeout=CHECK_S)}
        except TimeoutError:
            found[name] = {"ok": False, "detail": f"no answer within {CHECK_S:g} s"}
        except (BridgeError, redis.RedisError, sqlite3.Error, OSError) as error:
            found[name] = {"ok": False, "detail": str(error)}
    pool.shutdown(wait=False)
    return found
