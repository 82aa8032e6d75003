"""Files of an export on this machine: packing them so that the same content gives the same bytes, and describing them."""

from __future__ import annotations

import hashlib
import zipfile
from datetime import datetime
from pathlib import Path

from bridge.export_manifest import File
from bridge.keys import ExportKey, Layout

_BLOCK = 1024 * 1024


def make_zip(folder: Path, target: Path, when: datetime) -> Path:
    """Everything in a folder, empty folders too, as Label Studio packs it; every time in it is `when`."""
    stamp = (max(1980, when.year), when.month, when.day, when.hour, when.minute, when.second)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            info = zipfile.ZipInfo(f"{name}/" if path.is_dir() else name, date_time=stamp)
            info.external_attr = (0o40755 if path.is_dir() else 0o100644) << 16
            if path.is_dir():
                archive.writestr(info, b"")
                continue
            info.compress_type = zipfile.ZIP_DEFLATED
            with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as sink:
                while block := source.read(_BLOCK):
                    sink.write(block)
    return target


def describe(path: Path, name: str, content_type: str, layout: Layout, export_id: str) -> File:
    """What the manifest says of one file."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(_BLOCK):
            digest.update(block)
    return File(
        name=name,
        key=layout.export(ExportKey(export_id=export_id, name=name)),
        size_bytes=path.stat().st_size,
        sha256=digest.hexdigest(),
        content_type=content_type,
    )
