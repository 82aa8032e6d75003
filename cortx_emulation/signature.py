"""Who sends a request. Signatures are recomputed with botocore's own signers, from the request as it came.

rule: an unknown key, a wrong signature, a clock more than 15 minutes off: 403 with a code for each. Any region is right.
rule: cortx-s3server knows no query-string signatures: without an Authorization header it is 403 AccessDenied; CORTX-RGW
verifies them.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from botocore.auth import HmacV1Auth, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from cortx_emulation.answers import Refusal
from cortx_emulation.profiles import Account, Profile
from cortx_emulation.request import S3Request

SKEW_MAX = timedelta(minutes=15)
PRESIGNED_MAX_S = 7 * 24 * 3600
_TIMESTAMP = "%Y%m%dT%H%M%SZ"
_V4 = "AWS4-HMAC-SHA256"
_WRONG = "The request signature we calculated does not match the signature you provided."


class Signer(S3SigV4Auth):  # type: ignore[misc]
    """Recomputes a signature over the headers that the client says it signed."""

    def __init__(self, access_key: str, secret: str, region: str, signed: tuple[str, ...]) -> None:
        super().__init__(Credentials(access_key, secret), "s3", region)
        self._signed = signed

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        found = HTTPHeaders()
        for name, value in request.headers.items():
            if name.lower() in self._signed:
                found[name.lower()] = value
        return found

    def payload(self, request: AWSRequest) -> str:
        return "UNSIGNED-PAYLOAD"

    def of(self, request: AWSRequest) -> str:
        return str(self.signature(self.string_to_sign(request, self.canonical_request(request)), request))

    def of_chunk(self, request: AWSRequest, before: str, chunk_sha256: str, empty_sha256: str) -> str:
        """The signature of a chunk of STREAMING-AWS4-HMAC-SHA256-PAYLOAD, after the signature `before`."""
        words = (
            "AWS4-HMAC-SHA256-PAYLOAD",
            request.context["timestamp"],
            self.credential_scope(request),
            before,
            empty_sha256,
            chunk_sha256,
        )
        return str(self.signature("\n".join(words), request))


class SignerV2(HmacV1Auth):  # type: ignore[misc]
    """Recomputes a signature of the second version, which covers the date as it was sent."""

    def __init__(self, access_key: str, secret: str, date: str) -> None:
        super().__init__(Credentials(access_key, secret))
        self._date = date

    def _get_date(self) -> str:
        return self._date


class Signed:
    """What a verified request leaves to know: the account, and what its chunks are checked with."""

    def __init__(
        self, account: Account, *, signer: Signer | None = None, as_sent: AWSRequest = None, seed: str = ""
    ) -> None:
        self.account, self.signer, self.as_sent, self.seed = account, signer, as_sent, seed


def verified(request: S3Request, *, keys: Mapping[str, Account], profile: Profile, now: datetime) -> Signed:
    """Raises Refusal 403 as the server would."""
    given = request.header("authorization")
    if given is None:
        if profile.s3server or not request.has("X-Amz-Signature"):
            raise Refusal(403, "AccessDenied", "Access Denied")
        return _presigned(request, keys, now)
    if given.startswith(f"{_V4} "):
        fields = dict(word.strip().partition("=")[::2] for word in given.removeprefix(_V4).strip().split(","))
        return _v4(request, fields, keys, now)
    if given.startswith("AWS "):
        return _v2(request, given, keys, now)
    raise Refusal(403, "AccessDenied", "Access Denied")


def _account(access_key: str, keys: Mapping[str, Account]) -> Account:
    if access_key not in keys:
        raise Refusal(
            403, "InvalidAccessKeyId", "The AWS access key Id you provided does not exist in our records."
        )
    return keys[access_key]


def _check_clock(sent_at: datetime, now: datetime) -> None:
    if abs(now - sent_at) > SKEW_MAX:
        raise Refusal(
            403, "RequestTimeTooSkewed", "The difference between request time and current time is too large"
        )


def _as_sent(request: S3Request, timestamp: str, without: str = "") -> AWSRequest:
    pairs = [pair for name, _, pair in request.query if name != without]
    host = request.header("host") or "localhost"
    url = f"http://{host}{request.raw_path}" + (f"?{'&'.join(pairs)}" if pairs else "")
    made = AWSRequest(method=request.method, url=url)
    for name, value in request.headers:
        made.headers[name] = value
    made.context["timestamp"] = timestamp
    return made


def _time(text: str | None) -> datetime:
    try:
        return datetime.strptime(text or "", _TIMESTAMP).replace(tzinfo=UTC)
    except ValueError:
        raise Refusal(403, "AccessDenied", "the request has no date that can be read") from None


def _scope(credential: str) -> tuple[str, str]:
    """Access key and region of `KEY/20260101/us-east-1/s3/aws4_request`."""
    words = credential.rsplit("/", 4)
    if len(words) != 5 or words[3:] != ["s3", "aws4_request"]:
        raise Refusal(403, "AccessDenied", "the credential's scope is not that of S3")
    return words[0], words[2]


def _v4(request: S3Request, fields: Mapping[str, str], keys: Mapping[str, Account], now: datetime) -> Signed:
    access_key, region = _scope(fields.get("Credential", ""))
    account = _account(access_key, keys)
    timestamp = request.header("x-amz-date")
    if timestamp is None and (date := request.header("date")):
        timestamp = parsedate_to_datetime(date).astimezone(UTC).strftime(_TIMESTAMP)
    _check_clock(_time(timestamp), now)
    signer = Signer(access_key, account.secret, region, tuple(fields.get("SignedHeaders", "").split(";")))
    as_sent, found = _as_sent(request, timestamp or ""), fields.get("Signature", "")
    if not hmac.compare_digest(signer.of(as_sent), found):
        raise Refusal(403, "SignatureDoesNotMatch", _WRONG)
    return Signed(account, signer=signer, as_sent=as_sent, seed=found)


def _presigned(request: S3Request, keys: Mapping[str, Account], now: datetime) -> Signed:
    access_key, region = _scope(request.parameter("X-Amz-Credential") or "")
    account = _account(access_key, keys)
    timestamp = request.parameter("X-Amz-Date") or ""
    expires = request.parameter("X-Amz-Expires") or ""
    sent_at = _time(timestamp)
    if (
        not expires.isdigit()
        or int(expires) > PRESIGNED_MAX_S
        or now > sent_at + timedelta(seconds=int(expires))
    ):
        raise Refusal(403, "AccessDenied", "Request has expired")
    signed = tuple((request.parameter("X-Amz-SignedHeaders") or "").split(";"))
    signer = Signer(access_key, account.secret, region, signed)
    as_sent = _as_sent(request, timestamp, without="X-Amz-Signature")
    if not hmac.compare_digest(signer.of(as_sent), request.parameter("X-Amz-Signature") or ""):
        raise Refusal(403, "SignatureDoesNotMatch", _WRONG)
    request.drop_parameters(*[name for name, _, _ in request.query if name.startswith("X-Amz-")])
    return Signed(account)


def _v2(request: S3Request, given: str, keys: Mapping[str, Account], now: datetime) -> Signed:
    access_key, _, found = given.removeprefix("AWS ").partition(":")
    account = _account(access_key, keys)
    try:
        sent_at = parsedate_to_datetime(request.header("x-amz-date") or request.header("date") or "")
    except ValueError:
        raise Refusal(403, "AccessDenied", "the request has no date that can be read") from None
    _check_clock(sent_at.astimezone(UTC), now)
    as_sent = _as_sent(request, "")
    signer = SignerV2(access_key, account.secret, request.header("date") or "")
    path = (
        request.raw_path if request.key else f"{request.raw_path.rstrip('/')}/"
    )  # as AWS wants a bucket signed
    right = signer.get_signature(request.method, urlsplit(as_sent.url), as_sent.headers, auth_path=path)
    if not hmac.compare_digest(right, found):
        raise Refusal(403, "SignatureDoesNotMatch", _WRONG)
    return Signed(account)
