"""Lengths, checksums and chunks of what is sent, and the sizes of keys and headers."""

from __future__ import annotations

import base64
import binascii
import hashlib

from cortx_emulation.answers import Refusal
from cortx_emulation.profiles import Options, Profile
from cortx_emulation.request import META, S3Request
from cortx_emulation.signature import Signed

KEY_MAX_BYTES = 1024
META_MAX_BYTES = 2048
HEADERS_MAX_BYTES = 8192
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_EMPTY = hashlib.sha256(b"").hexdigest()


def check_headers(request: S3Request, profile: Profile, options: Options) -> None:
    """What is refused before a body is read.

    rule: an object or part without Content-Length is 411, in every profile.
    rule: more than 5 GiB in one request is 413 EntityTooLarge.
    rule: a key over 1,024 bytes is 400 KeyTooLongError (CORTX-RGW: InvalidObjectName); cortx-s3server also refuses more
    than 2,048 bytes of metadata (names without their prefix, and values) or 8,192 of headers."""
    if len(request.key.encode(errors="surrogateescape")) > KEY_MAX_BYTES:
        code = "KeyTooLongError" if profile.s3server else "InvalidObjectName"
        raise Refusal(400, code, "Your key is too long.")
    if not request.writes_object:
        return
    length = request.content_length
    if length is None:
        raise Refusal(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
    if length < 0:
        raise Refusal(400, "BadRequest", "Content-Length is not a number")
    if length > options.max_bytes:
        raise Refusal(413, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
    if profile.s3server:
        meta = sum(
            len(name) - len(META) + len(value)
            for name, value in request.headers
            if name.lower().startswith(META)
        )
        if meta > META_MAX_BYTES or sum(len(n) + len(v) for n, v in request.headers) > HEADERS_MAX_BYTES:
            raise Refusal(400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed size.")


def read(request: S3Request) -> bytes:
    """The whole body. A web server that undoes chunked transfers ends the input itself."""
    length = request.content_length
    stream = request.environ.get("wsgi.input")
    if stream is None:
        return b""
    if length is None:
        return bytes(stream.read()) if request.environ.get("wsgi.input_terminated") else b""
    body = bytes(stream.read(max(length, 0)))
    if len(body) < length:
        # The sender went away on the way: no server keeps half an object.
        raise Refusal(400, "IncompleteBody", "The body ended before its Content-Length.")
    return body


def check(request: S3Request, profile: Profile, signed: Signed) -> None:
    """Leaves in `request.body` the object's own bytes.

    rule: of the chunked payloads only the signed one without trailer is known: another one is 503 ServiceUnavailable
    (the server receives more than it expects); CORTX-RGW: 400 XAmzContentSHA256Mismatch.
    rule: Content-MD5 that is wrong is 400 BadDigest, one that is none 400 InvalidDigest."""
    if (given := request.header("content-md5")) is not None and not _is_delete_many(request):
        check_md5(given, request.body)
    payload = request.header("x-amz-content-sha256") or ""
    if not payload.startswith("STREAMING-"):
        return
    if payload != SIGNED_CHUNKS:
        if profile.s3server:
            raise Refusal(503, "ServiceUnavailable", "Reduce your request rate.")
        raise Refusal(400, "XAmzContentSHA256Mismatch", "the payload is none of those known")
    request.body = _unchunked(request.body, signed)
    request.drop_headers("x-amz-decoded-content-length", "x-amz-content-sha256")


def _is_delete_many(request: S3Request) -> bool:
    return request.method == "POST" and not request.key and request.has("delete")


def check_md5(given: str, body: bytes) -> None:
    try:
        digest = base64.b64decode(given, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 16:
        raise Refusal(400, "InvalidDigest", "The Content-MD5 you specified is not valid.")
    if digest != hashlib.md5(body, usedforsecurity=False).digest():
        raise Refusal(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")


def _unchunked(body: bytes, signed: Signed) -> bytes:
    """`hex size;chunk-signature=…\\r\\n bytes \\r\\n` again and again, the last of size 0; each signature is checked."""
    whole, at, before = bytearray(), 0, signed.seed
    while True:
        end = body.find(b"\r\n", at)
        size_text, _, found = body[at:end].decode("ascii", "replace").partition(";chunk-signature=")
        try:
            size = int(size_text, 16)
        except ValueError:
            raise Refusal(400, "BadRequest", "a chunk does not begin with its size") from None
        chunk = body[end + 2 : end + 2 + size]
        if signed.signer is None or found != signed.signer.of_chunk(
            signed.as_sent, before, hashlib.sha256(chunk).hexdigest(), _EMPTY
        ):
            raise Refusal(403, "SignatureDoesNotMatch", "a chunk's signature is wrong")
        whole += chunk
        at, before = end + 2 + size + 2, found
        if size == 0:
            return bytes(whole)
