"""Which runs a search hands over: the best at the highest rung that several have reached.

The first runs to be promoted had few others to beat, so the only complete one need not be the best. What is handed over
is trained anew on fresh seeds, so it need not be complete. With three budgets on a recorded surface this is worth 0.3
points more than the best complete run (benchmarks/README.md, search efficiency).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

SEVERAL = 3
"""runs that a rung must have for its best to be chosen"""

Name = TypeVar("Name")


def best_first(curves: Mapping[Name, Mapping[int, float]], count: int) -> list[Name]:
    """The best runs at the highest rung that several have reached, or all where there are fewer.

    Args:
        curves: run -> images seen at a rung -> score, higher is better; those without a score do not count.
        count: runs to take; a rung with fewer is too high.

    Example:
        >>> best_first({"a": {250: 60, 500: 70, 1000: 80}, "b": {250: 65, 500: 72}, "c": {250: 63, 500: 69}}, 2)
        ['b', 'a']
    """
    scored = {name: curve for name, curve in curves.items() if curve}
    several = min(max(SEVERAL, count), len(scored))
    for rung in sorted({rung for curve in scored.values() for rung in curve}, reverse=True):
        there = [name for name, curve in scored.items() if rung in curve]
        if len(there) >= several:
            return sorted(there, key=lambda name: -scored[name][rung])[:count]
    return []
