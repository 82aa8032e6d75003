"""`python -m ml_backend`: gunicorn with one process and many threads."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from prometheus_client.multiprocess import mark_process_dead

from bridge.edges.environment import read_environment, set_up_logging
from bridge.errors import SettingsError
from bridge.settings import MlBackendSettings, all_settings
from ml_backend.app import create_app
from ml_backend.yolo import keep_ultralytics_to_itself

_METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"


class _Server(BaseApplication):
    """One process: the model is in memory once. Threads, so that Label Studio's quick questions (one second for
    /health) are answered while a prediction runs; torch lets go of Python's lock while it computes."""

    def __init__(self, settings: MlBackendSettings, metrics_dir: str | None) -> None:
        self._settings = settings
        self._metrics_dir = metrics_dir
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": self._settings.web_threads,
            "timeout": 120,  # of the process's own sign of life, not of a request
            "graceful_timeout": 10,
            "keepalive": 5,
            "proc_name": "ml_backend",
            "loglevel": self._settings.log_level.lower(),
            "control_socket_disable": True,
        }
        if self._metrics_dir:
            options["child_exit"] = lambda _server, worker: mark_process_dead(
                worker.pid, path=self._metrics_dir
            )
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called in the worker process: neither threads nor torch survive a fork."""
        return create_app(self._settings, multiprocess_dir=self._metrics_dir)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ml_backend",
        description="Answers Label Studio's ML protocol with what a YOLO model sees, or one of your own. "
        "Settings come from the environment and an optional .env file:",
        epilog=_settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    try:
        settings = MlBackendSettings.from_env(read_environment(os.environ))
        if (settings.basic_auth_user is None) != (settings.basic_auth_pass is None):
            raise SettingsError("BASIC_AUTH_USER and BASIC_AUTH_PASS: set both, or neither")
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    set_up_logging(settings.log_level)
    keep_ultralytics_to_itself(os.environ, Path(settings.cache_dir).resolve() / "ultralytics")
    # A waiting thread gets Python's lock after 1 ms instead of 5: /health stays quick while the model runs.
    sys.setswitchinterval(0.001)
    _Server(settings, os.environ.get(_METRICS_DIR) or None).run()
    return 0


def _settings_help() -> str:
    lines = []
    for doc in all_settings():
        if "ml_backend" in doc.programs:
            # A setting of several programs lists the default of each, ours last.
            own = (doc.default or "").rpartition(" / ")[2]
            default = "required" if doc.default is None else f"default {own}" if own else "optional"
            lines.append(f"  {doc.env:<28}{doc.about} ({default})")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
