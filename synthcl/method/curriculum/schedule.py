"""A value that changes over a run, as a function of progress."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from synthcl.core.plugin import Fraction, Section


class Schedule(Section):
    """A value as a function of progress; `value_at` evaluates it."""

    kind: Literal["constant", "linear", "cosine", "step", "exponential"] = Field(
        "constant", description="shape of the ramp from start to end; constant stays at start"
    )
    start: float = Field(description="value before the ramp, and the constant's value")
    end: float | None = Field(None, description="value after the ramp; none means start")
    ramp_begin: Fraction = Field(0.0, description="progress (fraction of all images) where the ramp begins")
    ramp_end: Fraction = Field(1.0, description="progress where the ramp ends; a step jumps at ramp_begin")

    @model_validator(mode="after")
    def _ramp_is_ordered(self) -> Schedule:
        if self.ramp_begin > self.ramp_end:
            raise ValueError(f"ramp_begin {self.ramp_begin} is after ramp_end {self.ramp_end}")
        if self.kind == "exponential" and not (self.start > 0 and self.last > 0):
            raise ValueError("an exponential ramp needs start and end above 0")
        return self

    @property
    def last(self) -> float:
        """The value at the end of training."""
        return self.start if self.end is None or self.kind == "constant" else self.end

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value the schedule takes (every kind is monotone)."""
        return min(self.start, self.last), max(self.start, self.last)


def value_at(schedule: Schedule, progress: float) -> float:
    """Evaluate a schedule.

    Args:
        schedule: kind, start, end and the ramp's begin and end.
        progress: fraction of the run's images seen, in [0, 1].

    Returns:
        start before the ramp, end after it; between them, with t rising from 0 to 1 along the ramp:
        linear start + (end - start) t, cosine the half cosine, exponential start (end / start)^t.
        A step jumps to end at ramp_begin; a constant stays at start.
    """
    start, end = schedule.start, schedule.last
    if schedule.kind == "constant" or progress < schedule.ramp_begin:
        return start
    if schedule.kind == "step" or progress >= schedule.ramp_end:
        return end
    t = (progress - schedule.ramp_begin) / (schedule.ramp_end - schedule.ramp_begin)
    if schedule.kind == "cosine":
        t = (1 - math.cos(math.pi * t)) / 2
    if schedule.kind == "exponential":
        return start * (end / start) ** t
    return start + (end - start) * t
