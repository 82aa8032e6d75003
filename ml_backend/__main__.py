"""`python -m ml_backend`: gunicorn with one process and many threads."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping
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
_SILENCE_S = 20  # then a client that is in the middle of a request, or of reading its answer, is left


class _Server(BaseApplication):
    """One process: the model is in memory once. Threads, so that Label Studio's quick questions (one second for
    /health) are answered while a prediction runs; torch lets go of Python's lock while it computes."""

    def __init__(self, settings: MlBackendSettings, metrics_dir: str | None) -> None:
        self._settings = settings
        self._metrics_dir = metrics_dir
        self._worker: Any = None
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": self._settings.web_threads,
            "timeout": 120,  # of the process's own sign of life, not of a request
            "graceful_timeout": 25,  # docker-compose.yml gives 30
            "keepalive": 5,
            "proc_name": "ml_backend",
            "loglevel": self._settings.log_level.lower(),
            "control_socket_disable": True,
            "when_ready": _leave_silent_clients,
            "post_worker_init": self._serves,
        }
        if self._metrics_dir:
            options["child_exit"] = lambda _server, worker: mark_process_dead(
                worker.pid, path=self._metrics_dir
            )
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called in the worker process: neither threads nor torch survive a fork."""
        return create_app(self._settings, multiprocess_dir=self._metrics_dir, stopping=self._is_stopping)

    def _serves(self, worker: Any) -> None:
        self._worker = worker

    def _is_stopping(self) -> bool:
        """Whether the process was told to end: requests then answer with what they have."""
        return self._worker is not None and not self._worker.alive


def _leave_silent_clients(server: Any) -> None:
    for listener in server.LISTENERS:
        leave_silent(listener.sock, _SILENCE_S)
    logging.getLogger("gunicorn.error").addFilter(_said_shortly)


def leave_silent(listener: socket.socket, seconds: int) -> None:
    """Connections that a socket accepts give up on a silent other side, which would otherwise hold a thread for ever:
    gunicorn 27 waits without end for the rest of a request. A connection without a request takes no thread at all."""
    timeval = struct.pack("ll", seconds, 0)  # Linux hands these on to what is accepted
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, seconds)


def _said_shortly(record: logging.LogRecord) -> bool:
    """Such a client is worth a line, not a traceback."""
    if record.exc_info and isinstance(record.exc_info[1], BlockingIOError):
        record.exc_info = None
        record.msg, record.args = "a client stopped in the middle of a request", ()
    return True


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
        environ = read_environment(os.environ)
        settings = MlBackendSettings.from_env(environ)
        if (settings.basic_auth_user is None) != (settings.basic_auth_pass is None):
            raise SettingsError("BASIC_AUTH_USER and BASIC_AUTH_PASS: set both, or neither")
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    set_up_logging(settings.log_level)
    if settings.model_class is not None:
        _prepare_for_a_class(environ, Path(settings.cache_dir).resolve() / "own_model")
    keep_ultralytics_to_itself(os.environ, Path(settings.cache_dir).resolve() / "ultralytics")
    # A waiting thread gets Python's lock after 1 ms instead of 5: /health stays quick while the model runs.
    sys.setswitchinterval(0.001)
    _Server(settings, os.environ.get(_METRICS_DIR) or None).run()
    return 0


def _prepare_for_a_class(environ: Mapping[str, str], folder: Path) -> None:
    """What a class of label-studio-ml looks for in the environment, where `.env` alone may say it: LABEL_STUDIO_URL and the
    like; and MODEL_DIR, in which the 2.x line keeps its settings, and whose own default is the folder we were started from:
    in a container nobody may write to that."""
    with contextlib.suppress(OSError):  # told by what needs it
        folder.mkdir(parents=True, exist_ok=True)
    for name, value in {"MODEL_DIR": str(folder), **environ}.items():
        os.environ.setdefault(name, value)


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
