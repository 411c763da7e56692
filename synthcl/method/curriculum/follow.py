"""A value that is steered so that a measurement follows a schedule: a closed loop.

The knob itself is the integrator, and it is clamped, so nothing winds up. What a run did is logged as `knob/...`, and a
`table` of it replays the run: the control that tells whether the feedback helped, or only the shape.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from synthcl.core.plugin import Positive, kind_or
from synthcl.method.curriculum.loop import Loop
from synthcl.method.curriculum.ramps import Constant, Cosine, Exponential, Linear, Step
from synthcl.method.curriculum.schedule import NUMBER

Target = Annotated[
    Constant | Linear | Cosine | Step | Exponential, Field(discriminator="kind"), kind_or("constant"), NUMBER
]


class Follow(Loop):
    """Decided anew at every logged point, from the mean of a statistic since the last one.

    Example:
        >>> loop = Follow(measured="synthetic/pair_similarity", target=0.5, gain=30.0, start=0.3, low=0.02, high=2.0)
        >>> round(loop.decide(0.3, progress=0.5, since=0.02, measurement=0.7), 3)    # pairs too easy: harder
        0.338
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "gain": {"low": 3.0, "high": 300.0, "log": True},
        "rate": {"low": 0.05, "high": 0.5},
    }

    kind: Literal["follow"] = "follow"
    target: Target = Field(description="of the measurement, over the run")
    raises: bool = Field(False, description="whether a larger value raises the measurement; else it lowers it")
    gain: Positive = Field(30.0, description="change of the value's logarithm, for a distance of 1, over a whole run")
    rate: float = Field(0.2, gt=0, le=5, description="largest change of the value's logarithm at a logged point")
    start: Positive = Field(description="value until the first logged point")
    low: Positive = Field(description="smallest value")
    high: Positive = Field(description="largest value")

    @model_validator(mode="after")
    def _can_be_steered(self) -> Follow:
        if not self.low <= self.start <= self.high:
            raise ValueError(f"start {self.start:g} is outside low {self.low:g} to high {self.high:g}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def scaled(self, factor: float) -> dict[str, Any]:
        return self.model_dump() | {name: factor * getattr(self, name) for name in ("start", "low", "high")}

    def decide(self, value: float, progress: float, since: float, measurement: float, steps: int = 1) -> float:
        """The next value.

            ln u <- clip(ln u + clip(s gain (m - target) since, -rate, rate), ln low, ln high),

        s = -1 where a larger value raises m, else 1.

        Args:
            value: u, above 0.
            progress: of the run, in [0, 1].
            since: progress since the last decision.
            measurement: m, a mean over the steps since then; what is not finite changes nothing.
            steps: since then; nothing depends on them.
        """
        if not math.isfinite(measurement):
            return value
        sign = -1 if self.raises else 1
        change = sign * self.gain * (measurement - self.target.value_at(progress)) * since
        change = min(max(change, -self.rate), self.rate)
        return min(max(value * math.exp(change), self.low), self.high)
