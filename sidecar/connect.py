"""Connecting a project, decided: what should be registered and what is, in; the steps between the two, out.

Pure: sidecar/gather.py finds out what is, sidecar/apply.py carries the steps out. Once they were, a second plan holds
`Fine` and `Note` alone.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.parts import baseline as baseline_part
from sidecar.parts import ml_backend, storage, webhook
from sidecar.plan import ML_BACKEND, STORAGE, WEBHOOK, CannotTell, Found, Project, Step, Wanted


def connect_steps(
    want: Wanted, found: Found, project: Project, *, baseline: bool | None = None
) -> list[Step]:
    """The steps that make `found` as wanted, in order: the webhook first, so that the baseline leaves no gap.

    `baseline`: True reads everything in any case, False never, None when events may have been missed."""
    return [
        *_part(WEBHOOK, found, lambda: webhook.connect(want, found)),
        *_part(ML_BACKEND, found, lambda: ml_backend.connect(want, found, project)),
        *_part(STORAGE, found, lambda: storage.connect(want, found)),
        *baseline_part.connect(found, baseline, missed=webhook.trouble(want, found) not in ("", "unknown")),
    ]


def _part(part: str, found: Found, steps: Callable[[], list[Step]]) -> list[Step]:
    """A part's steps, or why it could not be read: one unreadable part costs only itself."""
    return [CannotTell(part=part, text=found.trouble[part])] if part in found.trouble else steps()


def disconnect_steps(want: Wanted, found: Found, *, remove_storage: bool = False) -> list[Step]:
    """The steps that take our registrations out. Tasks, annotations and the record stay."""
    return [
        *baseline_part.disconnect(),
        *_part(ML_BACKEND, found, lambda: ml_backend.disconnect(want, found)),
        *_part(STORAGE, found, lambda: storage.disconnect(want, found, remove_storage)),
        # Last: what the steps before change in the project is still recorded.
        *_part(WEBHOOK, found, lambda: webhook.disconnect(want, found)),
    ]
