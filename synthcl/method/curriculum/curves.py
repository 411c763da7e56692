"""Schedules as curves: four knots that a search can move, and a table that replays what a run did."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from typing import Any, Literal

from pydantic import Field, model_validator

from synthcl.method.curriculum.schedule import Schedule


class Piecewise(Schedule):
    """Values at the beginning, at a third and two thirds of the run, and at its end, with straight lines between.

    Example:
        >>> Piecewise(start=0.1, third=0.4, two_thirds=0.4, end=0.2).value_at(1 / 6)
        0.25
    """

    kind: Literal["piecewise"] = "piecewise"
    start: float = Field(description="value at the beginning")
    third: float = Field(description="value at a third of all images")
    two_thirds: float = Field(description="value at two thirds")
    end: float = Field(description="value at the end")
    scale: Literal["linear", "log"] = Field(
        "linear", description="between knots the value or its logarithm is straight"
    )

    @model_validator(mode="after")
    def _has_logarithms(self) -> Piecewise:
        if self.scale == "log" and self.bounds[0] <= 0:
            raise ValueError(f"scale log needs values above 0; the smallest is {self.bounds[0]:g}")
        return self

    @property
    def _knots(self) -> tuple[float, float, float, float]:
        return self.start, self.third, self.two_thirds, self.end

    @property
    def bounds(self) -> tuple[float, float]:
        return min(self._knots), max(self._knots)

    def value_at(self, progress: float) -> float:
        place = min(max(progress, 0.0), 1.0) * 3
        at = min(int(place), 2)
        before, after = self._knots[at : at + 2]
        share = place - at
        if self.scale == "log":
            return math.exp(math.log(before) * (1 - share) + math.log(after) * share)
        return before * (1 - share) + after * share

    def scaled(self, factor: float) -> dict[str, Any]:
        return self.model_dump() | {
            name: factor * getattr(self, name) for name in ("start", "third", "two_thirds", "end")
        }


class Table(Schedule):
    """The value of the last point, or straight lines between points: what another run did, as an open loop.

    Example:
        >>> Table(points=[(0.0, 0.3), (0.5, 0.1)]).value_at(0.75)
        0.1
    """

    kind: Literal["table"] = "table"
    points: tuple[tuple[float, float], ...] = Field(
        min_length=1, description="pairs of progress and value, the first at progress 0, in rising order"
    )
    interpolation: Literal["step", "linear"] = Field("step", description="between two points")

    @model_validator(mode="after")
    def _is_in_order(self) -> Table:
        places = [progress for progress, _ in self.points]
        if places[0] != 0 or places[-1] > 1 or any(a >= b for a, b in itertools.pairwise(places)):
            raise ValueError(f"points are at progress {places}; they must begin at 0, rise, and end at 1 at most")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        values = [value for _, value in self.points]
        return min(values), max(values)

    def value_at(self, progress: float) -> float:
        at = max(0, bisect_right(self.points, progress, key=lambda point: point[0]) - 1)
        before, value = self.points[at]
        if self.interpolation == "step" or at + 1 == len(self.points):
            return value
        after, following = self.points[at + 1]
        return value + (following - value) * (progress - before) / (after - before)

    def scaled(self, factor: float) -> dict[str, Any]:
        return self.model_dump() | {"points": [(progress, factor * value) for progress, value in self.points]}
