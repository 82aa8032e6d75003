"""The baseline: reading all of a project into the bucket once, and again when events may have been missed."""

from __future__ import annotations

from sidecar.plan import (
    BASELINE,
    BASELINE_UNDER_WAY,
    Fine,
    Found,
    Note,
    ReadAgain,
    StartBaseline,
    Step,
    StopBaseline,
)


def connect(found: Found, asked: bool | None, *, missed: bool) -> list[Step]:
    state = found.baseline_state
    if asked is False:
        return [Note(part=BASELINE, text="not asked for; what is in the project now is not in the bucket")]
    if state in BASELINE_UNDER_WAY:
        if (missed or asked) and state == "running":
            return [ReadAgain(part=BASELINE, text="it is running; read everything once more after it")]
        return [Fine(part=BASELINE, text=f"it is {state}")]
    if state == "complete" and not asked:
        if not missed:
            return [Fine(part=BASELINE, text="complete")]
        return [StartBaseline(part=BASELINE, text="read everything again: events may have been missed")]
    return [StartBaseline(part=BASELINE, text="read everything in the project into the bucket")]


def disconnect() -> list[Step]:
    return [StopBaseline(part=BASELINE, text="stop it")]
