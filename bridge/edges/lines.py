"""Lines of the log, parsed quickly and kept small. The only module that knows msgspec.

msgspec takes a third of the time of the standard library and gives the same values, whole numbers of any length too. What
it refuses (NaN, half an emoji, a number beyond a double) the standard library reads; the sidecar installs without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

from bridge.records import Record, canonical_plain, content


def _whole_as_int(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


try:
    import msgspec
except ImportError:  # the sidecar's image
    _decode: Callable[[str | bytes], Any] = json.loads
    _plain: Callable[[str | bytes], Any] | None = None
    _data: Callable[[str | bytes], Any] | None = None
else:

    class _OnlyData(msgspec.Struct):
        """A record's line of which nothing but the data is built."""

        data: dict[str, Any]

    _data = msgspec.json.Decoder(_OnlyData).decode
    _decode = msgspec.json.Decoder().decode
    _plain = msgspec.json.Decoder(float_hook=_whole_as_int).decode


def loads(text: str | bytes) -> Any:
    """As `json.loads`, values and errors alike."""
    try:
        return _decode(text)
    except ValueError:
        return json.loads(text)


def data_of(line: str | bytes) -> dict[str, Any]:
    """The data of a record's line, fresh; the rest of the line is only skipped, in two thirds of the time.

    Raises ValueError or KeyError when it is no record's line."""
    if _data is not None:
        try:
            found: dict[str, Any] = _data(line).data
            return found
        except ValueError:
            pass  # what msgspec refuses, `loads` may read
    data: dict[str, Any] = loads(line)["data"]
    return data


class Line(Record):
    """A record whose data is parsed from its line while somebody needs it: a sixth of the memory, and the exact line.

    `Line.read` makes it. It is no dataclass of its own: `dataclasses.replace` does not take it."""

    @classmethod
    def read(cls, line: bytes) -> Line:
        """Raises ValueError when the line is not a record."""
        try:
            fields = loads(line)
        except RecursionError as error:
            raise ValueError(f"not a record: {error!r}") from error
        record = Record.from_fields(fields)
        self = object.__new__(cls)
        self.__dict__.update(record.__dict__)
        self.__dict__["_data"] = self.__dict__.pop("data")
        self.__dict__["_line"] = line
        return self

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] | None = self.__dict__.get("_data")
        if found is None:
            found = Record.from_fields(loads(self.__dict__["_line"])).data
            self.__dict__["_data"] = found
        return found

    @cached_property
    def hash(self) -> str:
        """As `Record.hash`."""
        try:
            if _plain is not None:
                said = _plain(self.__dict__["_line"])["data"]
                return hashlib.sha256(canonical_plain(content(self.kind, said))).hexdigest()
        except (ValueError, KeyError, AttributeError):
            pass  # a line of a newer version, or one that only the standard library reads
        return super().hash

    def let_go(self) -> None:
        """Nobody needs the data for a while."""
        self.__dict__.pop("_data", None)

    def to_json(self) -> str:
        """The line as it stands in the log."""
        line: bytes = self.__dict__["_line"]
        return line.decode()
