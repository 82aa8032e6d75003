"""Copies inside the store."""

from __future__ import annotations

from urllib.parse import quote, unquote

from cortx_emulation.answers import Refusal
from cortx_emulation.profiles import Options, Profile
from cortx_emulation.request import S3Request
from cortx_emulation.rules.buckets import Ask

_DIRECTIVES = ("x-amz-metadata-directive", "x-amz-tagging-directive")


def check(request: S3Request, profile: Profile, options: Options, ask: Ask) -> None:
    """rule: cortx-s3server copies no parts (501), keeps metadata and tags always (REPLACE is 501, another word 400
    InvalidArgument), and copies neither onto itself nor more than 5 GiB (400 InvalidRequest). CORTX-RGW: onto itself 501."""
    if not request.is_copy:
        return
    not_implemented = Refusal(501, "NotImplemented", "This kind of copy is not implemented.")
    if request.is_part:
        if profile.s3server:
            raise not_implemented
        return
    source = unquote(request.header("x-amz-copy-source") or "").lstrip("/")
    to_itself = source == f"{request.bucket}/{request.key}"
    if not profile.s3server:
        if to_itself:
            raise not_implemented
        return
    for name in _DIRECTIVES:
        given = request.header(name)
        if given == "REPLACE":
            raise not_implemented
        if given not in (None, "COPY"):
            raise Refusal(400, "InvalidArgument", f"{name}: {given}")
    if to_itself:
        raise Refusal(400, "InvalidRequest", "This copy request is illegal: it is onto itself.")
    size = ask("HEAD", f"/{quote(source)}").header("Content-Length") or "0"
    if int(size) > options.max_bytes:
        raise Refusal(400, "InvalidRequest", "The source is larger than the maximum of a copy.")
