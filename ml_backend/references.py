"""Where the image of a task lies, told from what the task's data says. Pure; nothing is fetched here.

Label Studio writes: `/data/upload/…` (uploaded into it), `/data/local-files/?d=…` (its local-files storage),
`/tasks/ID/resolve/?fileuri=BASE64` (an object that it serves itself), `s3://bucket/key`, or an http(s) address.
Nothing here ever names a file of this machine but a local-files path below the folder the operator set.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, quote, unquote_to_bytes, urlsplit

from ml_backend.problems import TaskProblem

Origin = tuple[str, str, int]
_PORTS = {"http": 80, "https": 443}
_RESOLVE = re.compile(r"/(?:api/)?(?:tasks|projects)/\d+/(?:resolve|presign)/?")
_OTHER_CLOUDS = ("gs", "azure-blob", "azure_spi")


@dataclass(frozen=True, kw_only=True)
class Web:
    """An http(s) address. Label Studio's token is sent with it only where its origin is Label Studio's."""

    url: str


@dataclass(frozen=True, kw_only=True)
class InBucket:
    bucket: str
    key: str


@dataclass(frozen=True, kw_only=True)
class OnDisk:
    """A file that has been checked to lie below the operator's local-files folder."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class Inline:
    """The bytes of a `data:` address."""

    body: bytes


Place = Web | InBucket | OnDisk | Inline


def locate(
    reference: str, *, label_studio_url: str, task_id: int | None = None, document_root: Path | None = None
) -> Place:
    """Where the image lies. Raises TaskProblem for anything that is none of the forms above."""
    parts = _split(reference)
    relative = not parts.scheme and not parts.netloc and reference.startswith("/")
    if relative or is_label_studio(reference, label_studio_url):
        base = "" if relative else urlsplit(label_studio_url).path
        path = parts.path.removeprefix(base)
        if ".." in path.split("/"):
            raise TaskProblem("address", f"{shown(reference)!r} leaves its folder")
        if _RESOLVE.fullmatch(path):
            uri = _file_uri(reference, parts.query)
            return locate(uri, label_studio_url=label_studio_url, task_id=task_id)
        if path.startswith("/data/local-files") and document_root is not None:
            return OnDisk(path=_below(document_root, parse_qs(parts.query).get("d", [""])[0], reference))
        if path.startswith(("/data/", "/storage-data/")):
            query = f"?{parts.query}" if parts.query else ""
            return Web(url=f"{label_studio_url}{quote(path, safe='/%:@+,;=~')}{query}")
    if parts.scheme == "s3":
        return _in_bucket(reference)
    if parts.scheme in _PORTS and parts.hostname:
        return Web(url=reference)
    if parts.scheme == "data":
        return _inline(reference)
    if parts.scheme in _OTHER_CLOUDS and task_id is not None:
        coded = base64.urlsafe_b64encode(reference.encode()).decode()
        return Web(url=f"{label_studio_url}/tasks/{task_id}/resolve/?fileuri={coded}")
    raise TaskProblem(
        "address",
        f"{shown(reference)!r} is no address of an image",
        hint="allowed: http(s)://…, s3://bucket/key, and Label Studio's own /data/upload/… and "
        "/data/local-files/?d=…; a path of this machine's disk is not",
    )


def is_label_studio(address: str, label_studio_url: str) -> bool:
    """Whether an address lies on Label Studio's scheme, host and port, and below its path: where its token may go."""
    if origin_of(address) is None or origin_of(address) != origin_of(label_studio_url):
        return False
    base = urlsplit(label_studio_url).path.rstrip("/")
    return urlsplit(address).path.startswith(f"{base}/")


def origin_of(address: str) -> Origin | None:
    """Scheme, host and port of an http(s) address; None for anything else."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme]


def shown(reference: str, limit: int = 160) -> str:
    """A reference as it may stand in a log line: no query (signatures, tokens), no user and password, not long."""
    try:
        parts = urlsplit(reference)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # no port, no IPv6 address: nobody can say where user and password end
        return re.sub(r"//.*@", "//", reference.partition("?")[0], flags=re.DOTALL)[:limit]
    if parts.scheme == "data":
        return f"data:{parts.path.partition(',')[0][:40]},…"
    start = f"{parts.scheme}://{host}{port}" if parts.scheme else (f"//{host}{port}" if parts.netloc else "")
    d = parse_qs(parts.query).get("d") if parts.path.rstrip("/").endswith("/local-files") else None
    text = f"{start}{parts.path}" + (f"?d={d[0]}" if d else "?…" if parts.query else "")
    return text if len(text) <= limit else f"{text[:limit]}…"


def _file_uri(reference: str, query: str) -> str:
    coded = parse_qs(query).get("fileuri", [""])[0]
    try:
        uri = base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()
    except (binascii.Error, ValueError):
        uri = ""
    # Only the schemes that Label Studio hides behind this address, so that one cannot point to another for ever.
    if urlsplit(uri).scheme not in ("s3", *_OTHER_CLOUDS):
        raise TaskProblem("address", f"{shown(reference)!r} has no readable 'fileuri'")
    return uri


def _in_bucket(reference: str) -> InBucket:
    bucket, _, key = reference.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise TaskProblem("address", f"{shown(reference)!r} names no object", hint="write s3://bucket/key")
    return InBucket(bucket=bucket, key=key)


def _inline(reference: str) -> Inline:
    head, _, body = reference.removeprefix("data:").partition(",")
    try:
        raw = unquote_to_bytes(body)
        return Inline(body=base64.b64decode(raw, validate=True) if head.endswith(";base64") else raw)
    except (binascii.Error, ValueError):
        raise TaskProblem("address", f"{shown(reference)!r} is not readable as a data: address") from None


def _below(root: Path, relative: str, reference: str) -> Path:
    inside = root.resolve()
    path = (
        inside / relative.replace("\0", "").lstrip("/")
    ).resolve()  # also follows links, which may lead outside
    if not relative or "\0" in relative or not path.is_relative_to(inside):
        raise TaskProblem("address", f"{shown(reference)!r} is not inside LOCAL_FILES_DOCUMENT_ROOT")
    return path


def _split(reference: str) -> SplitResult:
    try:
        return urlsplit(reference)
    except ValueError:
        raise TaskProblem("address", f"{shown(reference)!r} is no address") from None
