"""What a request asks for beyond plain objects: what CORTX does not implement, does not see, or takes for another call."""

from __future__ import annotations

from dataclasses import replace

from cortx_emulation.answers import Answer, Refusal
from cortx_emulation.profiles import Profile
from cortx_emulation.request import META, S3Request

NOT_IMPLEMENTED = frozenset(
    [
        "versioning",
        "versions",
        "lifecycle",
        "cors",
        "website",
        "replication",
        "logging",
        "notification",
        "requestPayment",
        "accelerate",
        "encryption",
        "analytics",
        "inventory",
        "metrics",
        "torrent",
        "select",
        "restore",
    ]
)
KNOWN = frozenset(["acl", "policy", "tagging", "delete", "uploads", "uploadId", "partNumber", "location"])
PARAMETERS = frozenset(
    [
        "prefix",
        "delimiter",
        "marker",
        "start-after",
        "list-type",
        "max-keys",
        "continuation-token",
        "encoding-type",
        "fetch-owner",
        "versionId",
        "key-marker",
        "upload-id-marker",
        "max-uploads",
        "part-number-marker",
        "max-parts",
        "select-type",
        "x-id",
    ]
)
_NOT_STORED = (
    "cache-control",
    "content-encoding",
    "content-disposition",
    "content-language",
    "expires",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
    "x-amz-server-side-encryption*",
    "x-amz-copy-source-server-side-encryption*",
    "x-amz-object-lock-*",
    "x-amz-bucket-object-lock-*",
    "x-amz-checksum-*",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-trailer",
)
_CONDITIONS = ("if-*", "x-amz-copy-source-if-*")


def refuse_foreign_methods(request: S3Request, profile: Profile) -> None:
    """rule: cortx-s3server has no OPTIONS and no upload by form: 501, signed or not. CORTX-RGW: a preflight without CORS
    rules is 403."""
    if request.method == "OPTIONS":
        raise _unknown() if profile.s3server else Refusal(403, "AccessDenied", "no CORS rules")
    form = (request.header("content-type") or "").startswith("multipart/form-data")
    if request.method == "POST" and not request.key and form and not request.has("delete"):
        raise _unknown()  # of CORTX-RGW it is not known how it checks a form, so none is taken either


def _unknown() -> Refusal:
    return Refusal(
        501, "NotImplemented", "A header you provided implies functionality that is not implemented."
    )


def misread(request: S3Request, profile: Profile) -> str | None:
    """What the server would do instead of what is asked for; None where it understands.

    rule: sub-resources on cortx-s3server's list are 501 NotImplemented (CORTX-RGW: lifecycle); one on no list of its own
    is not seen at all, so that the call is carried out without it."""
    names = {name for name, _, _ in request.query}
    refused = NOT_IMPLEMENTED if profile.s3server else {"lifecycle"}
    if names & refused or (profile.s3server and request.method == "PUT" and "location" in names):
        raise _unknown()
    if not profile.s3server or not (unseen := unknown_names(request)):
        return None
    what = {
        ("PUT", True): "the object would be overwritten with this body",
        ("DELETE", True): "the object would be deleted",
        ("PUT", False): "a bucket would be created",
        ("DELETE", False): "the bucket would be deleted",
    }.get((request.method, bool(request.key)), "it would be read as a plain request")
    return f"{', '.join(sorted(unseen))} is not seen: {what}"


def unknown_names(request: S3Request) -> set[str]:
    return {
        name
        for name, _, _ in request.query
        if name not in KNOWN | PARAMETERS and not name.startswith("response-")
    }


def strip_unknown(request: S3Request) -> None:
    request.drop_parameters(*unknown_names(request))


def drop_ignored(request: S3Request, profile: Profile) -> None:
    """rule: cortx-s3server reads no conditions on any request, CORTX-RGW none on PUT, POST and DELETE.
    rule: cortx-s3server stores Content-Type and metadata, and nothing of encryption, storage class or object lock.
    rule: cortx-s3server knows no versions.
    rule: CORTX-RGW gives the metadata key a_b back as a-b."""
    if profile.s3server or request.method in ("PUT", "POST", "DELETE"):
        request.drop_headers(*_CONDITIONS)
    if profile.s3server:
        request.drop_headers(*_NOT_STORED)
        request.drop_parameters("versionId")
        if request.method in ("GET", "HEAD") and not request.has("uploadId"):
            request.drop_parameters("partNumber")
        if source := request.header("x-amz-copy-source"):
            request.set_header("x-amz-copy-source", source.partition("?versionId=")[0])
    else:
        request.headers = [
            (name.replace("_", "-") if name.lower().startswith(META) else name, value)
            for name, value in request.headers
        ]


def without_ignored(answer: Answer, profile: Profile) -> Answer:
    """rule: cortx-s3server never speaks of versions. What moto answers to every browser is not CORTX's either."""
    gone = ["connection"] + (["x-amz-version-id"] if profile.s3server else [])
    kept = [
        (name, value)
        for name, value in answer.headers
        if name.lower() not in gone and not name.lower().startswith("access-control-")
    ]
    return replace(answer, headers=tuple(kept))
