"""An S3 server in memory with an empty bucket in it, for the profile `dev`. What is in it is gone when it stops."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from moto.server import ThreadedMotoServer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bridge.edges.s3 import S3Store
from bridge.settings import S3Settings


def main() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("moto_store").setLevel(logging.INFO)
    port = int(os.environ["PORT"])
    server = ThreadedMotoServer(ip_address=os.environ["HOST"], port=port, verbose=False)
    server.start()
    here = {**os.environ, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}
    settings = S3Settings.from_env(here)
    S3Store(settings).create_bucket()
    logging.getLogger("moto_store").info("bucket %s is in memory on port %d", settings.bucket, port)
    stop.wait()
    server.stop()


if __name__ == "__main__":
    main()
