"""A weight that rises while a bound is violated and falls to 0 when it is slack: the dual variable of a constraint.

Source: Hounie et al., "Automatic Data Augmentation via Invariance-Constrained Learning", ICML 2023: a loss is minimised
subject to a bound on the loss under augmentation; of self-supervised learning, uniformity subject to one on alignment.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from synthcl.core.plugin import Positive
from synthcl.method.curriculum.loop import Loop


class Dual(Loop):
    """Decided anew at every logged point by ascent of the dual variable; `decide` has the equation.

    Example:
        >>> loop = Dual(measured="loss/spread", bound=0.4, rate=1e-3, start=0.0, high=10.0)
        >>> round(loop.decide(0.1, progress=0.5, since=0.02, measurement=0.9, steps=100), 3)    # violated: it rises
        0.15
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"rate": {"low": 1e-5, "high": 1e-2, "log": True}}

    kind: Literal["dual"] = "dual"
    bound: float = Field(description="that the measurement is to stay below")
    rate: Positive = Field(1e-3, description="change of the dual variable a step, for a violation by 1")
    start: float = Field(ge=0, description="dual variable until the first logged point; of a strength, its value at 0")
    high: Positive = Field(10.0, description="largest dual variable")
    form: Literal["weight", "strength"] = Field(
        "weight",
        description="the value is the dual variable g itself, whose growth lowers the measurement, or start / (1 + g)",
    )

    @model_validator(mode="after")
    def _begins_within(self) -> Dual:
        if self.form == "weight" and self.start > self.high:
            raise ValueError(f"start {self.start:g} is above high {self.high:g}")
        if self.form == "strength" and self.start == 0:
            raise ValueError("start 0 of a strength stays 0 for ever; give its value at a dual variable of 0")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        return (0.0, self.high) if self.form == "weight" else (self.start / (1 + self.high), self.start)

    def scaled(self, factor: float) -> dict[str, Any]:
        if self.form == "strength":
            return super().scaled(factor)
        return super().scaled(factor) | {"high": factor * self.high, "rate": factor * self.rate}

    def decide(self, value: float, progress: float, since: float, measurement: float, steps: int = 1) -> float:
        """The next value.

            g <- min(high, max(0, g + rate steps (m - bound))),

        value = g of a weight, start / (1 + g) of a strength. One update over n steps with the mean of m is n single
        ones, while g stays within its limits.

        Source: Hounie et al., ICML 2023, algorithm 1.
        """
        if not math.isfinite(measurement):
            return value
        dual = value if self.form == "weight" else self.start / value - 1
        dual = min(self.high, max(0.0, dual + self.rate * steps * (measurement - self.bound)))
        return dual if self.form == "weight" else self.start / (1 + dual)
