"""What can keep the stack from running; the message is what the operator reads."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.errors import BridgeError


class StackError(BridgeError):
    """The stack cannot start or cannot go on. `lines` are the part's own last words, if it said any."""

    def __init__(self, message: str, *, hint: str = "", lines: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.lines = tuple(lines)
