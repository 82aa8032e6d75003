"""What to send and what to fetch, decided from two listings. Pure: bridge/edges/transfer.py carries it out.

A file is unchanged when size and MD5 are equal. Objects that were sent in parts have no MD5: they count as unchanged
when the size is equal and the copy is not older than its original (the rule of `aws s3 sync`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bridge.errors import SenderError
from bridge.keys import projects_prefix
from bridge.store import KEY_MAX_BYTES, ObjectInfo

NAME_MAX_BYTES = 255  # of one file name, on the usual file systems
PARTIAL = re.compile(
    r"\.download-[0-9a-f]{16}\.partial"
)  # of bridge.store.partial_name: never whole, never sent
_RECORD = re.compile(r"(?:.*/)?projects/[0-9]{1,19}\.[0-9]{1,12}/.*", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Place:
    """`s3://bucket/key`; the key is empty for a whole bucket."""

    bucket: str
    key: str = ""

    @property
    def folder(self) -> str:
        """The key as a prefix that ends at a slash, so that `images` never means `images-old/…` too."""
        return f"{self.key.rstrip('/')}/" if self.key.strip("/") else ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """A file below a folder. `name` has slashes; `trouble` says why it cannot be sent as it is."""

    name: str
    size_bytes: int = 0
    modified_at: datetime | None = None
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One line of a plan. `name` is relative to the local folder; `why` is for a person."""

    name: str
    key: str
    size_bytes: int = 0
    why: str = ""


class Send(Item):
    """Copy it, up or down."""


class Skip(Item):
    """Nothing to do."""


class Refuse(Item):
    """It cannot be done; the others are."""


Md5Of = Callable[[str], str]
"""The hex MD5 of a local file by its name; asked only where the sizes are equal."""


def parse_place(text: str) -> Place:
    """Read `s3://bucket/key`; raises SenderError saying what it should look like."""
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise SenderError(f"{text!r} is no place in a store: write s3://bucket or s3://bucket/prefix")
    if key.startswith("/"):
        raise SenderError(f"{text!r} has an empty name in it: write s3://bucket/prefix with single slashes")
    return Place(bucket=bucket, key=key)


def is_record(key: str, bucket: str, our_bucket: str, our_prefix: str = "") -> bool:
    """Whether a key belongs to the record of a project: below our own `projects/`, or what looks like another
    installation's `projects/{uid}/`."""
    ours = bucket == our_bucket and key.startswith(projects_prefix(our_prefix))
    return ours or _RECORD.fullmatch(key) is not None


def plan_uploads(
    files: Iterable[LocalFile],
    there: Mapping[str, ObjectInfo],
    *,
    prefix: str,
    force: bool = False,
    md5_of: Md5Of,
    is_protected: Callable[[str], bool] = lambda key: False,
) -> list[Item]:
    """One item a file, in the order of the files. `prefix` is empty or ends with a slash; `there` is what lies below."""
    return [_upload(file, there, prefix, force, md5_of, is_protected) for file in files]


def _upload(
    file: LocalFile,
    there: Mapping[str, ObjectInfo],
    prefix: str,
    force: bool,
    md5_of: Md5Of,
    is_protected: Callable[[str], bool],
) -> Item:
    key = f"{prefix}{file.name}"

    def item(kind: type[Item], why: str) -> Item:
        return kind(name=file.name, key=key, size_bytes=file.size_bytes, why=why)

    if why := file.trouble or key_trouble(key):
        return item(Refuse, why)
    if is_protected(key):
        return item(Refuse, "this would change the record of a project, which only our programs write")
    found = there.get(key)
    if found is None:
        return item(Send, "new")
    if force:
        return item(Send, "forced")
    if found.size_bytes != file.size_bytes:
        return item(Send, f"its size has changed from {found.size_bytes} bytes")
    if found.md5 is not None:
        return item(Skip, "unchanged") if md5_of(file.name) == found.md5 else item(Send, "it has changed")
    # S3 keeps whole seconds: an object of the same second as the file may be older than it, so it is sent again.
    older = file.modified_at is None or found.last_modified.timestamp() <= file.modified_at.timestamp()
    return item(Send, "it is newer than the object") if older else item(Skip, "same size, not newer")


def key_trouble(key: str) -> str:
    """Why no store of ours takes this key; empty when it does."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "its name is no UTF-8: rename it"
    if size > KEY_MAX_BYTES:
        return f"its key has {size} bytes, more than the {KEY_MAX_BYTES} that the store takes: shorten it"
    return ""


def plan_downloads(
    objects: Sequence[ObjectInfo],
    have: Mapping[str, LocalFile],
    *,
    prefix: str,
    force: bool = False,
    md5_of: Md5Of,
) -> list[Item]:
    """One item an object, in the order of the objects. `have` is what lies in the target folder, by name.

    An object whose name would leave the folder, or is a file's and a folder's at once, is refused."""
    names = {info.key[len(prefix) :] for info in objects}
    # A folder's own marker (`images/`, no bytes) clashes with nothing.
    folders = {name[:end] for name in names for end, char in enumerate(name) if char == "/"}
    return [_download(info, have, prefix, folders, force, md5_of) for info in objects]


def _download(
    info: ObjectInfo,
    have: Mapping[str, LocalFile],
    prefix: str,
    folders: set[str],
    force: bool,
    md5_of: Md5Of,
) -> Item:
    name = info.key[len(prefix) :]

    def item(kind: type[Item], why: str) -> Item:
        return kind(name=name, key=info.key, size_bytes=info.size_bytes, why=why)

    if (name == "" or name.endswith("/")) and info.size_bytes == 0:
        return item(Skip, "it only marks a folder")
    if why := name_trouble(name):
        return item(Refuse, why)
    if name in folders:
        return item(
            Refuse, f"there are objects below {name}/ too, and no file can be a folder: download it alone"
        )
    local = have.get(name)
    if local is None:
        return item(Send, "new")
    if local.trouble:
        return item(Refuse, f"{local.trouble}: move it away")
    if force:
        return item(Send, "forced")
    if local.size_bytes != info.size_bytes:
        return item(Send, f"the file has {local.size_bytes} bytes")
    if info.md5 is not None:
        return item(Skip, "unchanged") if md5_of(name) == info.md5 else item(Send, "it has changed")
    newer = local.modified_at is None or local.modified_at <= info.last_modified
    return item(Send, "it is newer than the file") if newer else item(Skip, "same size, not newer")


def name_trouble(name: str) -> str:
    """Why a key cannot be a file below the target folder; empty when it can."""
    parts = name.split("/")
    if name.startswith("/"):
        return "its name is absolute and would leave the folder: download it alone"
    if ".." in parts:
        return "its name has '..' in it and would leave the folder: download it alone"
    if any(part in ("", ".") for part in parts) or "\0" in name:
        return "no file can have this name (an empty part, '.', or a NUL in it): download it alone"
    if any(len(part.encode()) > NAME_MAX_BYTES for part in parts):
        return f"a part of its name has more than {NAME_MAX_BYTES} bytes: download it alone"
    return ""
