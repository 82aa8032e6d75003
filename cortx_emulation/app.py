"""The WSGI application: each request goes through the rules of a profile, and what they leave of it to moto.

/_emulation/health   200
/_emulation/tripped  GET: the calls that CORTX would have misread; DELETE: forget them
/_emulation/faults   POST {"kind", "method", "path", "skip", "times"}: arm one; DELETE: none any more;
                     GET: those that requests have met so far
"""

from __future__ import annotations

import json
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from werkzeug.test import run_wsgi_app

from cortx_emulation.answers import Answer, Cut, Refusal, refused
from cortx_emulation.faults import Armed, Faults, Kind
from cortx_emulation.profiles import Account, Options, Profile
from cortx_emulation.request import S3Request
from cortx_emulation.rules import bodies, buckets, copies, resources
from cortx_emulation.rules.gap import OverwriteGap
from cortx_emulation.rules.multipart import Uploads
from cortx_emulation.signature import verified

CONTROL = "/_emulation/"
_TO_MOTO = "AWS4-HMAC-SHA256 Credential=emulation/20260101/us-east-1/s3/aws4_request"
_READS = ("GET", "HEAD")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    profile: Profile,
    keys: Mapping[str, Account],
    *,
    options: Options | None = None,
    faults: Faults | None = None,
    clock: Callable[[], datetime] = _utc_now,
    sleep: Callable[[float], None] = time.sleep,
) -> Emulation:
    """A server with no buckets. `keys`: access key -> whose it is. Moto keeps its objects for the whole process."""
    from moto.moto_server.werkzeug_app import create_backend_app

    return Emulation(
        create_backend_app("s3"), profile, keys, options or Options(), faults or Faults(), clock, sleep
    )


class Emulation:
    """The application of one server; see create_app."""

    def __init__(
        self,
        inner: Any,
        profile: Profile,
        keys: Mapping[str, Account],
        options: Options,
        faults: Faults,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None],
    ) -> None:
        self._inner, self._profile, self._keys, self._options = inner, profile, keys, options
        self._faults, self._clock = faults, clock
        self._uploads = Uploads(profile)
        self._buckets = buckets.Buckets(profile)
        self._gap = OverwriteGap(0.0 if profile.s3server else options.overwrite_gap_s, sleep)
        self.tripped: list[dict[str, str]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = S3Request(environ)
        try:
            answer = self._control(request) if request.raw_path.startswith(CONTROL) else self._answer(request)
        except Refusal as refusal:
            answer = refused(
                refusal, resource=request.raw_path, method=request.method, request_id=uuid.uuid4().hex
            )
        if answer.cut is Cut.NO_ANSWER:
            _reset(environ)
        start_response(answer.status_line, list(answer.headers))
        return _half(environ, answer.body) if answer.cut is Cut.HALF_WAY else [answer.body]

    def _answer(self, request: S3Request) -> Answer:
        profile, options = self._profile, self._options
        resources.refuse_foreign_methods(request, profile)
        signed = verified(request, keys=self._keys, profile=profile, now=self._clock())
        self._buckets.refuse_strangers(request, signed.account)
        if signed.account.read_only and request.method not in _READS:
            raise Refusal(403, "AccessDenied", "Access Denied")
        fault = self._faults.next(request)
        bodies.check_headers(request, profile, options)
        if fault is Kind.RESET and (request.content_length or 0) > 0:
            request.environ["wsgi.input"].read((request.content_length or 0) // 2)
            return Answer(status=500, cut=Cut.NO_ANSWER)
        request.body = bodies.read(request)
        if fault is not None:
            fault.refuse(request, profile)
        bodies.check(request, profile, signed)
        if misread := resources.misread(request, profile):
            self._trip(request, misread)
        resources.drop_ignored(request, profile)
        buckets.check_listing(request, profile, options)
        buckets.check_delete_many(request, profile)
        buckets.check_policy(request, profile)
        copies.check(request, profile, options, self.ask)
        answer = self._carry_out(request, signed.account)
        answer = resources.without_ignored(answer, profile)
        return fault.cut(answer, request.method, profile) if fault is not None else answer

    def _carry_out(self, request: S3Request, account: Account) -> Answer:
        if found := self._buckets.answer(request, account, self.ask):
            return found
        if self._uploads.concerns(request):
            with self._gap.around(request, self.ask):
                return self._uploads.carry_out(request, lambda: self._hand_on(request), self.ask)
        with self._gap.around(request, self.ask):
            answer = self._hand_on(request)
        if request.method == "DELETE" and not request.key and not request.query and answer.status < 300:
            self._buckets.forget(request.bucket)
            self._uploads.forget_bucket(request.bucket)
        return answer

    def _trip(self, request: S3Request, misread: str) -> None:
        if self._options.tripwire:
            call = f"{request.method} {request.raw_path}?{request.raw_query}"
            self.tripped.append({"call": call, "misread": misread})
            raise Refusal(599, "CortxWouldMisreadThis", f"{call}: {misread}")
        resources.strip_unknown(request)

    def _hand_on(self, request: S3Request) -> Answer:
        request.set_header("Authorization", _TO_MOTO)
        return self._moto(request.handed_on())

    def _moto(self, environ: dict[str, Any]) -> Answer:
        body, status, headers = run_wsgi_app(self._inner, environ)
        return Answer(status=int(status.split()[0]), headers=tuple(headers.items()), body=b"".join(body))

    def ask(self, method: str, path: str) -> Answer:
        """What the store behind answers: `path` as it would be sent, the query included."""
        environ = {
            "REQUEST_METHOD": method,
            "RAW_URI": path,
            "PATH_INFO": path.partition("?")[0],
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
        }
        from urllib.parse import unquote_to_bytes

        environ["PATH_INFO"] = unquote_to_bytes(environ["PATH_INFO"]).decode("latin-1")
        return self._hand_on(S3Request(environ))

    def _control(self, request: S3Request) -> Answer:
        match request.method, request.raw_path.removeprefix(CONTROL):
            case "GET", "health":
                return _json({"profile": self._profile.name})
            case "GET", "tripped":
                return _json(self.tripped)
            case "DELETE", "tripped":
                self.tripped.clear()
                return _json([])
            case "POST", "faults":
                length = request.content_length or 0
                self._faults.arm(Armed.from_json(json.loads(request.environ["wsgi.input"].read(length))))
                return _json({})
            case "GET", "faults":
                return _json(self._faults.met)
            case "DELETE", "faults":
                self._faults.disarm()
                return _json({})
        raise Refusal(404, "NoSuchKey", "not a page of the emulation")


def _json(value: Any) -> Answer:
    body = json.dumps(value).encode()
    return Answer(
        status=200,
        headers=(("Content-Type", "application/json"), ("Content-Length", str(len(body)))),
        body=body,
    )


def _half(environ: dict[str, Any], body: bytes) -> Iterable[bytes]:
    yield body[: len(body) // 2]
    _reset(environ)


def _reset(environ: dict[str, Any]) -> None:
    """End the connection as a dying server does. Raises ConnectionResetError, which the web server takes for a client
    that went away."""
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError("the emulation drops this connection")
