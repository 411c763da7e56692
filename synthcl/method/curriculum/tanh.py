"""A ramp that is steep at first and levels off.

Source: Hou et al., "When to Learn What: Model-Adaptive Data Augmentation Curriculum", ICCV 2023, whose share of
augmented samples is min(tanh(epoch / 40) + 0.01, 1) over 240 epochs: start 0.01, end 1 and time 1/6, within 0.01.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from synthcl.core.plugin import Fraction
from synthcl.method.curriculum.schedule import Schedule


class Tanh(Schedule):
    """start + (end - start) tanh((progress - ramp_begin) / time), and `start` before the ramp.

    Example:
        >>> round(Tanh(start=0.01, end=1.0).value_at(40 / 240), 3)
        0.764
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"time": {"low": 0.05, "high": 0.5, "log": True}}

    kind: Literal["tanh"] = "tanh"
    start: float = Field(description="value before the ramp")
    end: float = Field(description="value that the ramp tends to")
    ramp_begin: Fraction = Field(0.0, description="progress (fraction of all images) where the ramp begins")
    time: float = Field(1 / 6, gt=0, le=10, description="progress in which 76 % of the way is made")

    def value_at(self, progress: float) -> float:
        return self.start + (self.end - self.start) * math.tanh(max(0.0, progress - self.ramp_begin) / self.time)

    @property
    def bounds(self) -> tuple[float, float]:
        return min(self.start, self.end), max(self.start, self.end)
