"""The only module that runs label-studio-sdk's converter."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from bridge.errors import Corrupt

Json = dict[str, Any]
_TALKATIVE = (
    "label_studio_sdk.converter.converter",
    "label_studio_sdk.converter.utils",
    "label_studio_sdk.converter.exports.csv2",
    "label_studio_sdk._extensions.label_studio_tools.core.utils.io",
)


class ListFile:
    """A JSON list written item by item, a line each: memory is one task's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8")
        self._first = True

    def add(self, line: str) -> None:
        self._file.write(("[\n" if self._first else ",\n") + line)
        self._first = False

    def finish(self) -> Path:
        self._file.write("[]\n" if self._first else "\n]\n")
        self.close()
        return self.path

    def close(self) -> None:
        """Also where it is given up half-way."""
        self._file.close()


def convert(tasks: Path, folder: Path, schema: Json, name: str) -> None:
    """Run the converter. It downloads nothing: every picture it is told of is a name of ours, or none is asked for."""
    from label_studio_sdk.converter import Converter

    for talkative in _TALKATIVE:
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
    converter = Converter(config=schema, project_dir=None, upload_dir=str(folder), download_resources=False)
    converter.convert(str(tasks), str(folder), name, is_dir=False)


def mismatch(what: str) -> Corrupt:
    return Corrupt(f"the converter's output was counted and is not what went in: {what}. Nothing was written")
