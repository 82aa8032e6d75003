"""Why a job failed, in words for a person: out of what RQ 3.0.0 keeps of it. Pure.

RQ keeps the text of a traceback, or one of its own sentences where there was no exception to catch.
"""

from __future__ import annotations

import re

_LAST = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?$", re.DOTALL)
_KILLED = re.compile(r"Work-horse terminated unexpectedly.*?(?:signal (\d+))?\)?;?\s*$", re.DOTALL)
_TOO_LONG = re.compile(r"Task exceeded maximum timeout value \((\d+) seconds\)")

DIED = "the worker that ran it died, or lost Redis for more than a minute"
STOPPED = "stopped by a person"
STUCK = "the worker that took it died before it began"


def reason_of(stored: str) -> str:
    """The message of an error, without its traceback; ours without their class too, since they say what to do."""
    text = stored.strip()
    if not text:
        return ""
    if "AbandonedJobError" in text and "Traceback" not in text:
        return DIED
    if text.startswith("Job stopped by user"):
        return STOPPED
    if text.startswith("Job was stuck in intermediate queue"):
        return STUCK
    if text.startswith("Work-horse terminated"):
        found = _KILLED.match(text)
        return killed(int(found[1]) if found and found[1] else None)
    if "JobTimeoutException" in text and (late := _TOO_LONG.search(text)):
        return f"took longer than the {late[1]} s it may"
    return _message(text)


def killed(signal: int | None) -> str:
    """What to say of a work-horse that a signal ended."""
    if signal == 9:
        return "its process was killed (signal 9): was the machine short of memory?"
    return "its process ended without a word" + ("" if signal is None else f" (signal {signal})")


def _message(traceback: str) -> str:
    """What follows the frames. Messages of several lines stay whole."""
    lines = traceback.splitlines()
    if "Traceback (most recent call last):" not in traceback:
        return _without_class(traceback)
    # The frames of the last traceback are indented; the first line after them that is not begins the message.
    start = max(number for number, line in enumerate(lines) if line.startswith("Traceback (most recent"))
    rest = lines[start + 1 :]
    while rest and (rest[0].startswith(" ") or not rest[0].strip()):
        rest.pop(0)
    return _without_class("\n".join(rest)) or lines[-1]


def _without_class(text: str) -> str:
    found = _LAST.match(text.strip())
    if found is None:
        return text.strip()
    if found["kind"].startswith("bridge.") and found["message"]:
        return found["message"].strip()
    name = found["kind"].rpartition(".")[2]
    return f"{name}: {found['message'].strip()}" if found["message"] else name
