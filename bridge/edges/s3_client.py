"""The only module that makes boto3 clients.

The client's settings are those that both CORTX generations and other S3 servers accept: path-style addresses,
signature v4, checksums only where required (CORTX answers 411 to checksum trailers). docs/cortx.md says why for each.
Retries are ours, since botocore does not honour Retry-After and comes back to a busy store within 50 ms.
A proxy is a setting like any other: the process's HTTP_PROXY, meant for the world outside, is not looked at, since the
store is most often next door, under a name that only this network has.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ConnectionError, HTTPClientError, IncompleteReadError, SSLError
from botocore.utils import parse_timestamp

from bridge.edges.s3_errors import BROKEN, BUSY
from bridge.errors import BridgeError
from bridge.etags import content_md5, md5_of
from bridge.settings import MIB, S3Settings

DEFAULT_ATTEMPTS = 6
ASK_FIRST_BYTES = 1 * MIB  # from here on a body is sent only once the store has said "continue"
LONGEST_WAIT_S = 30.0  # what cortx-s3server asks for when it shuts down


def make_client(
    settings: S3Settings,
    *,
    attempts: int = DEFAULT_ATTEMPTS,
    connect_timeout_s: float = 5,
    read_timeout_s: float = 60,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """A boto3 S3 client that every CORTX generation understands.

    `attempts` includes the first try: with 1 nothing is ever sent twice, on which the log's writer relies. `sleep` is
    how it waits between tries, in seconds."""
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        max_pool_connections=8,
        tcp_keepalive=True,
        proxies={"http": settings.proxy_url, "https": settings.proxy_url} if settings.proxy_url else {},
        user_agent="label-studio-bucket-bridge",  # botocore's own is built anew, at length, for each request
    )
    session = botocore.session.get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
    client = boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        region_name=settings.region,
        verify=settings.ca_bundle or True,  # True: also where AWS_CA_BUNDLE is set to nothing
        config=config,
    )
    events = client.meta.events
    events.register_last("needs-retry.s3", Retries(attempts, sleep).needs_retry)
    events.register("before-sign.s3.DeleteObjects", _send_content_md5)
    events.register("before-sign.s3", _send_small_bodies_at_once)
    events.register_first("before-parse.s3.CompleteMultipartUpload", _strip_early_spaces)
    return client


def parse_time(value: Any) -> datetime:
    """A time as stores write it: RFC 822 in headers, ISO 8601 in XML; raises ValueError. Any other form goes to
    botocore's own parser, which tries them all and takes longer than the rest of reading a small object."""
    if isinstance(value, str):
        for parse in (datetime.fromisoformat, parsedate_to_datetime):
            try:
                found = parse(value)
            except ValueError:
                continue
            if found.tzinfo is not None:
                return found
    other: datetime = parse_timestamp(value)
    return other


def retry_wait_s(
    tries: int, *, status: int, code: str, retry_after: str | None, no_answer: bool
) -> float | None:
    """How long to wait before the next try after `tries` failed ones; None: trying again cannot help.

    A busy store gets a second or what it asks for, doubled each time; a broken or silent one a fifth of that."""
    if no_answer or code in BROKEN or status in (500, 502, 504):
        return min(0.2 * 2.0 ** (tries - 1), LONGEST_WAIT_S)
    if code in BUSY or status in (429, 503):
        asked = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
        return min(max(asked, 2.0 ** (tries - 1)), LONGEST_WAIT_S)
    return None


class Retries:
    """A handler of botocore's needs-retry event: an answer other than None sends the request again."""

    def __init__(self, attempts: int, sleep: Callable[[float], None]) -> None:
        self._attempts = attempts
        self._sleep = sleep

    def needs_retry(
        self, response: Any = None, attempts: int = 1, caught_exception: Any = None, **_: Any
    ) -> float | None:
        if attempts >= self._attempts:
            return None
        status, code, retry_after = 0, "", None
        if response is not None:
            http, parsed = response
            status = http.status_code
            code = str(parsed.get("Error", {}).get("Code", ""))
            retry_after = http.headers.get("Retry-After")
        wait = retry_wait_s(
            attempts,
            status=status,
            code=code,
            retry_after=retry_after,
            no_answer=_no_answer(caught_exception),
        )
        if wait is None:
            return None
        self._sleep(wait + random.uniform(0, wait / 4))  # many clients shall not come back as one
        return 0


def _no_answer(error: Any) -> bool:
    if isinstance(error, SSLError) or not isinstance(
        error, (ConnectionError, HTTPClientError, IncompleteReadError)
    ):
        return False
    return not isinstance(error.kwargs.get("error"), BridgeError)  # our own reader broke off: no use


def _send_content_md5(request: Any, **_: Any) -> None:
    """CORTX demands Content-MD5 on DeleteObjects and knows no other checksum; botocore sends only the others."""
    for name in list(request.headers):
        if name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum-")):
            del request.headers[name]
    del request.headers["Content-MD5"]  # no error where there is none; setting alone would add a second
    request.headers["Content-MD5"] = content_md5(md5_of(request.body))


def _send_small_bodies_at_once(request: Any, **_: Any) -> None:
    """Without asking by `Expect: 100-continue`: on a small file the answer to that costs as long as the file itself."""
    if int(request.headers.get("Content-Length") or ASK_FIRST_BYTES) < ASK_FIRST_BYTES:
        del request.headers["Expect"]


def _strip_early_spaces(response_dict: dict[str, Any], **_: Any) -> None:
    """cortx-s3server sends spaces while a long Complete runs; before an XML declaration they are no XML, and an error
    behind them would pass for success."""
    if isinstance(response_dict.get("body"), bytes):
        response_dict["body"] = response_dict["body"].lstrip()
