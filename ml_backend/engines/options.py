"""What is wanted of engines, as the settings say it."""

from __future__ import annotations

from dataclasses import dataclass

from ml_backend.engines.converted import Converted


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """`setting`: ENGINE. `tolerance_px`: ENGINE_TOLERANCE_PX. `threads`: of the processor; None for all."""

    setting: str
    tolerance_px: float
    threads: int | None
    converted: Converted
