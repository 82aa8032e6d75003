"""Which of a part's lines an operator wants to see, and how they are shown. Pure; one filter object per part."""

from __future__ import annotations

import re

from stack.parts import Show

_OWN_TIME = re.compile(r"^\[?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,]?\d*Z?(?: [+-]\d{4})?\]?\s+")
_LABEL_STUDIO = re.compile(
    r"^\[\d{4}-\d\d-\d\d [\d:,.]+\] \[(?P<logger>[\w.]+)[^\]]*\] \[(?P<level>[A-Z]+)\]"
)
_ACCESS = re.compile(r'" (?P<status>\d{3}) \S+\s*$')
_WEB_SERVER = ("django.server", "django.request")
COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)


class LineFilter:
    """Says for each line of a part, in order, whether the terminal shows it."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._showing = False
        self._before = ""

    def shows(self, line: str) -> bool:
        match self._show:
            case Show.ALL:
                return bool(line.strip())
            case Show.NONE:
                return False
            case Show.LABEL_STUDIO:
                # It writes most lines twice, and a traceback for every request that it refuses: the first line says it.
                repeated, self._before = line == self._before, line
                header = _LABEL_STUDIO.match(line)
                if header is None or repeated:
                    return False
                # Its web server warns of every 404; what failed in Label Studio itself is an ERROR there.
                loud = (
                    ("ERROR", "CRITICAL")
                    if header["logger"] in _WEB_SERVER
                    else ("WARNING", "ERROR", "CRITICAL")
                )
                return header["level"] in loud
            case Show.SERVER_ERRORS:
                if access := _ACCESS.search(line):
                    self._showing = False
                    return access["status"] >= "500"
                self._showing = self._showing or line.startswith("Traceback")
                return self._showing and bool(line.strip())


def prefixed(name: str, line: str, *, clock: str, width: int, colour: int | None) -> str:
    """`12:00:01 sidecar      | the line`, without the time that the program wrote itself."""
    head = f"{clock} {name:<{width}} |"
    if colour is not None:
        head = f"\x1b[{colour}m{head}\x1b[0m"
    return f"{head} {_OWN_TIME.sub('', line)}"
