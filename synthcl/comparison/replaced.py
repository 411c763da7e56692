"""What a factorial says: does a mechanism add to the generator's gain, or replace it?

With R and J the scores of real images alone and with the generator, and R_r and J_r the same with mechanism r:

    replaced share   rho = 1 - (J_r - R_r) / (J - R)

0: the generator gains as much beside the mechanism as without it. 1: it gains nothing more. Below 0: they help each
other. Differences are paired by seed, with Student's 95 % intervals. The interval of rho is by the bootstrap over seeds
(intervals.py), and missing where the generator's own gain may be nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from synthcl.comparison.intervals import Estimate, paired_difference, recovered_fraction

Word = Literal["adds", "replaces", "nothing", "hurts", "open"]
REPLACED = 0.5
RULE = (
    "**replaces**: the mechanism helps real images alone, and at least half of the generator's gain is gone beside it "
    "(rho of 0.5 or more, where that gain is above 0). **adds**: else, it helps the joint method. **hurts**: it harms "
    "the joint method, or real images alone without helping the joint method. **nothing**: none of these. To help and "
    "to harm mean that the whole interval of the paired difference lies above or below 0; one seed has no interval, "
    "and its word is open."
)


@dataclass(frozen=True)
class Effect:
    """What one mechanism does, in points; over the seeds that all four cells have."""

    on_real: Estimate
    """R_r - R"""
    on_joint: Estimate
    """J_r - J"""
    of_generator: Estimate
    """J_r - R_r: what the generator gains beside the mechanism"""
    of_generator_alone: Estimate
    """J - R"""
    interaction: Estimate
    """(J_r - R_r) - (J - R)"""
    replaced: Estimate | None
    """rho; None where the generator gains nothing alone"""

    @property
    def word(self) -> Word:
        """By `RULE`."""
        if self.on_joint.low is None or self.on_joint.high is None:
            return "open"
        if (
            _helps(self.on_real)
            and _helps(self.of_generator_alone)
            and self.replaced
            and self.replaced.value >= REPLACED
        ):
            return "replaces"
        if _helps(self.on_joint):
            return "adds"
        if _harms(self.on_joint) or _harms(self.on_real):
            return "hurts"
        return "nothing"


def effect(real: Sequence[float], joint: Sequence[float], real_r: Sequence[float], joint_r: Sequence[float]) -> Effect:
    """What a mechanism does, from the scores of four arms.

    Args:
        real, joint, real_r, joint_r: R, J, R_r and J_r, in percent, of the same seeds in the same order; one or more.

    Example:
        >>> found = effect([44.0, 45.0, 44.5], [47.0, 47.5, 47.6], [46.9, 47.4, 47.0], [47.2, 47.5, 47.4])
        >>> found.word, round(found.replaced.value, 2)
        ('replaces', 0.91)
    """
    alone = [j - r for j, r in zip(joint, real, strict=True)]
    beside = [j - r for j, r in zip(joint_r, real_r, strict=True)]
    left = recovered_fraction(beside, [0.0] * len(alone), alone)  # the share of J - R that is left in J_r - R_r
    gain = _difference(joint, real)
    if left and not _helps(gain):
        left = Estimate(left.value, None, None, left.n)  # a share of what may be nothing has no bounds
    return Effect(
        on_real=_difference(real_r, real),
        on_joint=_difference(joint_r, joint),
        of_generator=_difference(joint_r, real_r),
        of_generator_alone=gain,
        interaction=_difference(beside, alone),
        replaced=left and Estimate(1 - left.value, _from_one(left.high), _from_one(left.low), left.n),
    )


def paired(cells: Sequence[Mapping[int, float]]) -> list[list[float]]:
    """The scores of the seeds that all cells have, in the order of seeds.

    Args:
        cells: score by seed.

    Example:
        >>> paired([{1: 40.0, 2: 41.0}, {2: 43.0, 3: 44.0}])
        [[41.0], [43.0]]
    """
    shared = sorted(set.intersection(*(set(cell) for cell in cells)))
    return [[cell[seed] for seed in shared] for cell in cells]


def _difference(scores: Sequence[float], others: Sequence[float]) -> Estimate:
    found = paired_difference(list(scores), list(others))
    assert found is not None
    return found


def _from_one(value: float | None) -> float | None:
    return None if value is None else 1 - value


def _helps(gain: Estimate) -> bool:
    return gain.low is not None and gain.low > 0


def _harms(gain: Estimate) -> bool:
    return gain.high is not None and gain.high < 0
