"""Weights published in the bucket: what says which file is which version, and which version serves.

A version's file is put first, then its manifest, which makes it whole; then, when somebody wants it, the pointer. Who reads
takes nothing whose SHA-256 is not the manifest's: weights are code.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.errors import Corrupt, SenderError
from bridge.records import format_time, parse_time

MANIFEST = "manifest.json"
_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}\.[0-9a-f]{8}")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One version. `version` is its name and the first 8 hex digits of its SHA-256; the model_version of every
    prediction made with it begins like that."""

    name: str
    file: str
    sha256: str
    size_bytes: int
    published_at: datetime

    @property
    def version(self) -> str:
        return f"{self.name}.{self.sha256[:8]}"

    def manifest(self) -> bytes:
        return _json(
            {
                "format": _FORMAT,
                "version": self.version,
                "name": self.name,
                "file": self.file,
                "sha256": self.sha256,
                "size_bytes": self.size_bytes,
                "published_at": format_time(self.published_at),
            }
        )


def checked_name(name: str) -> str:
    """Raises SenderError for what cannot be part of a key and a version."""
    if not _NAME.fullmatch(name):
        raise SenderError(
            f"{name!r} cannot be a model's name",
            hint="letters, digits, - and _, 40 at most; give one with --name",
        )
    return name


def name_of_file(stem: str) -> str:
    """A file's name without its ending, as a model may be called."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:40].rstrip("-_") or "model"


def read_manifest(body: bytes, *, where: str) -> Published:
    """Fields that we do not know are passed over. Raises Corrupt naming what is wrong."""
    fields = _fields(body, where)
    name, file, sha256, size = (fields.get(key) for key in ("name", "file", "sha256", "size_bytes"))
    at = fields.get("published_at")
    if not (
        isinstance(name, str)
        and _NAME.fullmatch(name)
        and isinstance(file, str)
        and re.fullmatch(r"[\w-][\w.-]{0,99}", file, re.ASCII)
        and isinstance(sha256, str)
        and re.fullmatch(r"[0-9a-f]{64}", sha256)
        and isinstance(size, int)
        and isinstance(at, str)
    ):
        raise Corrupt(
            f"{where} is no manifest of weights: name, file, sha256, size_bytes and published_at are needed"
        )
    try:
        published_at = parse_time(at)
    except ValueError:
        published_at = None
    if published_at is None:
        raise Corrupt(f"{where}: published_at is no time")
    found = Published(name=name, file=file, sha256=sha256, size_bytes=size, published_at=published_at)
    if fields.get("version") != found.version:
        raise Corrupt(
            f"{where} says version {fields.get('version')!r}; its name and sha256 make {found.version!r}"
        )
    return found


def pointer(version: str, *, at: datetime) -> bytes:
    return _json({"format": _FORMAT, "version": version, "activated_at": format_time(at)})


def read_pointer(body: bytes, *, where: str) -> str:
    """The version that serves. Raises Corrupt."""
    version = _fields(body, where).get("version")
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise Corrupt(f"{where} names no version such as shapes.0123abcd")
    return version


def _fields(body: bytes, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{where} is not JSON: {error}") from error
    if not isinstance(fields, dict) or fields.get("format") != _FORMAT:
        raise Corrupt(f"{where} is not of format {_FORMAT}")
    return fields


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, indent=2).encode() + b"\n"
