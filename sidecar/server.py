"""Runs the sidecar under gunicorn: several processes with threads, one replayer of the spool among them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from bridge.settings import SidecarSettings

THREADS = 8


def serve(settings: SidecarSettings) -> None:
    """Serve until told to stop by a signal."""
    # prometheus-client reads this variable when it is imported: set before the app is.
    given = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    folder = Path(given or tempfile.mkdtemp(prefix="sidecar-metrics-"))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # What an earlier run left: a process with the same id would go on counting in it.
    for left in folder.glob("*.db"):
        left.unlink(missing_ok=True)
    _Gunicorn(settings, folder, keep_metrics=given is not None).run()


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: SidecarSettings, metrics_dir: Path, *, keep_metrics: bool) -> None:
        self._settings = settings
        self._metrics_dir = metrics_dir
        self._keep_metrics = keep_metrics
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "workers": self._settings.web_workers,
            "worker_class": "gthread",
            "threads": THREADS,
            "timeout": 60,
            "graceful_timeout": 10,
            "keepalive": 15,
            "proc_name": "sidecar",
            "loglevel": "warning",
            "child_exit": _forget_process,
            "on_exit": self._clear,
            "control_socket_disable": True,
        }
        for name, value in options.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def _clear(self, _: object) -> None:
        """Called in the master alone: a folder of ours is of use to nobody after us."""
        if not self._keep_metrics:
            shutil.rmtree(self._metrics_dir, ignore_errors=True)

    def load(self) -> Any:
        from sidecar.app import create_app

        app = create_app(self._settings, multiprocess_dir=self._metrics_dir)
        app.extensions["door"].start_replaying()
        return app


def _forget_process(server: object, worker: Any) -> None:
    """Fold the gauges of a process that ended into the rest (prometheus-client's multiprocess mode)."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)
