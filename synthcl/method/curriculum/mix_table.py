"""Shares of real images and sources as a table: what a bandit did in another run, as an open loop."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from synthcl.core.plugin import Section


class MixTable(Section):
    """The shares of the last point.

    Example:
        >>> MixTable(points=[(0.0, {"real": 0.5, "gan": 0.5}), (0.4, {"real": 0.9, "gan": 0.1})]).shares_at(0.7)
        {'real': 0.9, 'gan': 0.1}
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {}

    kind: Literal["table"] = "table"
    points: tuple[tuple[float, dict[str, float]], ...] = Field(
        min_length=1, description="pairs of progress and shares by arm, the first at progress 0, in rising order"
    )

    @model_validator(mode="after")
    def _are_shares_in_order(self) -> MixTable:
        places = [progress for progress, _ in self.points]
        if places[0] != 0 or places[-1] > 1 or any(a >= b for a, b in itertools.pairwise(places)):
            raise ValueError(f"points are at progress {places}; they must begin at 0, rise, and end at 1 at most")
        for progress, shares in self.points:
            if min(shares.values(), default=0.0) < 0 or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
                raise ValueError(
                    f"shares at progress {progress:g} are {shares}; they must be at least 0 and add up to 1"
                )
        return self

    def shares_at(self, progress: float) -> dict[str, float]:
        """Of a step's views, by arm."""
        at = max(0, bisect_right(self.points, progress, key=lambda point: point[0]) - 1)
        return self.points[at][1]
