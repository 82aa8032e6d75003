"""Reading the environment and `.env`, and setting up logging: what every entry point does first."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from dotenv import dotenv_values


def read_environment(environ: Mapping[str, str], dotenv_path: str = ".env") -> dict[str, str]:
    """The environment over an optional `.env` file: a variable that is really set wins."""
    from_file = {name: value for name, value in dotenv_values(dotenv_path).items() if value is not None}
    return {**from_file, **environ}


def set_up_logging(level: str) -> None:
    """One line per event on standard error, UTC time first. Chatty libraries are held at WARNING."""
    logging.basicConfig(level=level, format="%(asctime)sZ %(levelname)-7s %(name)s: %(message)s", force=True)
    for handler in logging.getLogger().handlers:
        if handler.formatter is not None:
            handler.formatter.converter = time.gmtime
    for noisy in ("botocore", "boto3", "urllib3", "httpx", "httpcore", "s3transfer", "rq.worker"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
