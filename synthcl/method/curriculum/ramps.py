"""A constant, and the ramps from one value to another."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from synthcl.core.plugin import Fraction
from synthcl.method.curriculum.schedule import Schedule


class Constant(Schedule):
    """`start` all along."""

    kind: Literal["constant"] = "constant"
    start: float = Field(description="the value")

    def value_at(self, progress: float) -> float:
        return self.start

    @property
    def bounds(self) -> tuple[float, float]:
        return self.start, self.start


class Step(Schedule):
    """`start`, and from `ramp_begin` on `end`."""

    kind: Literal["step"] = "step"
    start: float = Field(description="value before the step")
    end: float = Field(description="value after it")
    ramp_begin: Fraction = Field(0.0, description="progress (fraction of all images) of the step")

    def value_at(self, progress: float) -> float:
        return self.start if progress < self.ramp_begin else self.end

    @property
    def bounds(self) -> tuple[float, float]:
        return min(self.start, self.end), max(self.start, self.end)


class Linear(Schedule):
    """start + (end - start) t, with t rising from 0 to 1 along the ramp; `start` before it, `end` after it.

    Example:
        >>> Linear(start=0.2, end=1.0, ramp_begin=0.1, ramp_end=0.6).value_at(0.35)
        0.6
    """

    kind: Literal["linear"] = "linear"
    start: float = Field(description="value before the ramp")
    end: float = Field(description="value after the ramp")
    ramp_begin: Fraction = Field(0.0, description="progress (fraction of all images) where the ramp begins")
    ramp_end: Fraction = Field(1.0, description="progress where the ramp ends")

    @model_validator(mode="after")
    def _ramp_is_ordered(self) -> Linear:
        if self.ramp_begin > self.ramp_end:
            raise ValueError(f"ramp_begin {self.ramp_begin} is after ramp_end {self.ramp_end}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        return min(self.start, self.end), max(self.start, self.end)

    def value_at(self, progress: float) -> float:
        if progress < self.ramp_begin:
            return self.start
        if progress >= self.ramp_end:
            return self.end
        return self.along((progress - self.ramp_begin) / (self.ramp_end - self.ramp_begin))

    def along(self, t: float) -> float:
        """The value at a share t of the ramp, in [0, 1)."""
        return self.start + (self.end - self.start) * t


class Cosine(Linear):
    """As linear, with t along half a cosine: slow at both ends of the ramp."""

    kind: Literal["cosine"] = "cosine"  # type: ignore[assignment]

    def along(self, t: float) -> float:
        return super().along((1 - math.cos(math.pi * t)) / 2)


class Exponential(Linear):
    """start (end / start)^t: equal ratios in equal times."""

    kind: Literal["exponential"] = "exponential"  # type: ignore[assignment]

    @model_validator(mode="after")
    def _is_positive(self) -> Exponential:
        if not (self.start > 0 and self.end > 0):
            raise ValueError("an exponential ramp needs start and end above 0")
        return self

    def along(self, t: float) -> float:
        return self.start * (self.end / self.start) ** t
