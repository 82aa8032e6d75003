"""An S3 server in memory with an empty bucket in it, for the profile `dev`. What is in it is gone when it stops.

It refuses what CORTX refuses: S3_PROFILE says which, the strictest unless it is set.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bridge.settings import S3Settings
from cortx_emulation.app import create_app
from cortx_emulation.profiles import PROFILES, STRICTEST, Account
from cortx_emulation.server import make_server


def main() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("moto_store").setLevel(logging.INFO)
    port = int(os.environ["PORT"])
    settings = S3Settings.from_env({**os.environ, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"})
    profile = PROFILES[os.environ.get("S3_PROFILE") or STRICTEST]
    app = create_app(profile, {settings.access_key_id: Account(secret=settings.secret_access_key)})
    app.ask("PUT", f"/{settings.bucket}")
    server = make_server(app, os.environ["HOST"], port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    logging.getLogger("moto_store").info(
        "bucket %s is in memory on port %d, as %s", settings.bucket, port, profile.name
    )
    stop.wait()
    server.shutdown()


if __name__ == "__main__":
    main()
