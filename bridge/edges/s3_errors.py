"""What a store's refusals and failures mean, as our errors: each says what to do.

Not found / refused (key, secret, clock, policy told apart) / full / busy / broken / other bytes than sent. The codes are
those of cortx-s3server, Ceph RGW (CORTX-RGW), MinIO and AWS.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ProxyConnectionError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from bridge.errors import (
    BridgeError,
    Broken,
    Busy,
    Corrupt,
    Full,
    NotFound,
    OutsideError,
    Refused,
    Unavailable,
)
from bridge.settings import S3Settings

MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchUpload", "NotFound"}
BUSY = {
    "SlowDown",
    "ServiceUnavailable",
    "RequestTimeout",
    "TooManyRequests",
    "OperationAborted",
    "Throttling",
}
BROKEN = {"InternalError", "XAmzInternalError"}
FULL = {
    "QuotaExceeded",
    "XMinioStorageFull",
    "InsufficientStorage",
    "StorageFull",
    "XMinioAdminBucketQuotaExceeded",
}
WRONG_BYTES = {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"}
ALL_REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"}
HINTS = {
    "InvalidAccessKeyId": "the store does not know this key: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "wrong secret key: check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "this machine's clock is more than 15 minutes off: set it",
    "AccessDenied": "the key may not do this: check the bucket policy",
    "Forbidden": "the key may not do this: check the bucket policy",
    "403": "the store refused: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, the clock and the bucket policy",
    "NoSuchBucket": "create the bucket, or correct BUCKET",
    "BucketNotEmpty": "delete what is in it first",
    "BucketAlreadyExists": "someone else has a bucket of this name: choose another",
    "InvalidBucketName": "3 to 63 of a-z 0-9 . - ; no two of . - side by side",
    "KeyTooLongError": "keys have at most 1024 bytes",
    "InvalidObjectName": "keys have at most 1024 bytes",
    "EntityTooLarge": "the store takes no object or part of this size",
    "MissingContentLength": "a proxy in front of the store took Content-Length away: let it pass bodies through",
    "InvalidObjectState": "another program is uploading this key, or its upload is over: one uploader a key",
    "NotImplemented": "this store cannot do that",
}
_PROXY_HINT = "check S3_PROXY_URL: the proxy's address, and its user and password"
_FULL_HINT = "make room, or raise the quota"
_BROKEN_HINT = "the store itself failed: look into its log"


def error_of(what: str, status: int, code: str, message: str = "") -> OutsideError:
    """Our error for a store's answer: its HTTP status (0 where unknown), error code ("" for a HEAD) and message."""
    shown = code or str(status)
    text = f"{what}: {shown} {message}".strip()
    if status == 407:  # no store says this
        return Refused(f"{what}: the proxy wants a user and a password", hint=_PROXY_HINT)
    if code in MISSING or (status == 404 and code not in HINTS):
        return NotFound(text, hint=HINTS.get(code, ""))
    if code in FULL or status == 507:
        return Full(text, hint=_FULL_HINT)
    if code in WRONG_BYTES:
        return Corrupt(text, hint="the store received other bytes than were sent; send it again")
    if code in BUSY or status in (429, 503):
        return Busy(text, hint="the store is busy: try again later")
    if code in BROKEN or status in (500, 502, 504):
        return Broken(text, hint=_BROKEN_HINT)
    if status == 200:
        return Broken(f"{text} (inside an answer of 200)", hint=_BROKEN_HINT)
    return Refused(text, hint=HINTS.get(code) or HINTS.get(str(status), ""))


def code_of(error: BaseException) -> str:
    """The store's own code for one of our errors or botocore's; the HTTP status where there is none; "" otherwise."""
    cause = error if isinstance(error, ClientError) else error.__cause__
    if not isinstance(cause, ClientError):
        return ""
    return str(cause.response.get("Error", {}).get("Code", "")) or str(_status(cause))


def ours(what: str, error: ClientError) -> OutsideError:
    detail = error.response.get("Error", {})
    code, status = str(detail.get("Code", "")), _status(error)
    if code.isdigit():  # botocore's stand-in for an answer without a body
        status, code = int(code), ""
    return error_of(what, status, code, str(detail.get("Message", "")))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def translated(settings: S3Settings, what: str) -> Iterator[None]:
    """Lets no vendor error out of the block. Errors of local files pass as they are."""
    try:
        yield
    except ClientError as error:
        raise ours(what, error) from error
    except ResponseParserError as error:  # as of a proxy that answers itself, in HTML
        raise Broken(
            f"{what}: the answer is no S3 answer", hint="are AWS_ENDPOINT_URL_S3 and S3_PROXY_URL right?"
        ) from error
    except BotoCoreError as error:
        inner = error.kwargs.get("error") if isinstance(error, HTTPClientError) else None
        if isinstance(inner, BridgeError):  # our own reader broke off the sending
            raise inner from None
        raise _of_transport(settings, what, error) from error


def _of_transport(settings: S3Settings, what: str, error: BotoCoreError) -> OutsideError:
    kind = type(error).__name__
    if settings.ca_bundle and not Path(settings.ca_bundle).is_file():
        return Refused(f"{what}: there is no file {settings.ca_bundle}", hint="correct AWS_CA_BUNDLE")
    if isinstance(error, SSLError):
        return Refused(
            f"{what}: the certificate of {settings.endpoint_url} is not trusted ({error})",
            hint="put the store's CA certificate into AWS_CA_BUNDLE",
        )
    if isinstance(error, ProxyConnectionError):
        return Unavailable(
            f"{what}: the proxy does not answer, or does not let us through ({kind})", hint=_PROXY_HINT
        )
    if isinstance(error, IncompleteReadError):
        return Unavailable(f"{what}: the answer broke off ({error})")
    if isinstance(error, (ConnectionError, HTTPClientError)):
        return Unavailable(
            f"{what}: no answer from the object store at {settings.endpoint_url} ({kind})",
            hint="is it running, and is AWS_ENDPOINT_URL_S3 right?",
        )
    return Refused(f"{what}: {error}")
