"""EXP3 over real images and sources: shares that follow what each arm was paid so far, softly.

Source: Albalak et al., "Improving Few-Shot Generalization by Exploring and Exploiting Auxiliary Data" (FLAD), NeurIPS
2023; Auer et al., "The Nonstochastic Multiarmed Bandit Problem", SIAM Journal on Computing 2002.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from synthcl.method.curriculum.bandit import Bandit, Shares, State


class Exp3(Bandit):
    """Every arm has a share of each step; `decide` has the equation.

    Example:
        >>> shares, _ = Exp3(floor=0.1).decide({"real": 0.5, "gan": 0.5}, {"real": 0.9, "gan": 0.1}, 400, {})
        >>> round(shares["real"], 3)
        0.863
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"floor": {"low": 0.05, "high": 0.2}}

    kind: Literal["exp3"] = "exp3"

    def decide(
        self, shares: Mapping[str, float], rewards: Mapping[str, float], steps: int, state: State
    ) -> tuple[Shares, State]:
        """The next shares, of K arms at step t.

            R_a += steps r_a,   e_t = min(1/K, sqrt(ln K / (K (10 t + 1)))),
            share_a = (1 - K e) softmax_a(e_(t-1) R) + e,   e = max(floor, e_t)

        The published R_a += r_a / share_a is of an arm that is drawn with probability share_a and alone is paid. Here
        every arm has its share of every step and is paid at each, which is the mean of that.

        Source: Albalak et al., NeurIPS 2023, algorithm 1.
        """
        arms, turns = len(shares), state.get("turns", 0.0) + steps
        paid = {arm: self.paid(reward) for arm, reward in rewards.items() if arm in shares and math.isfinite(reward)}
        totals = {arm: state.get(f"paid {arm}", 0.0) + steps * paid.get(arm, 0.0) for arm in shares}
        rate, best = _explored(arms, turns - 1), max(totals.values())
        weights = {arm: math.exp(rate * (total - best)) for arm, total in totals.items()}
        least, sum_ = max(self.floor, _explored(arms, turns)), sum(weights.values())
        decided = {arm: (1 - arms * least) * weight / sum_ + least for arm, weight in weights.items()}
        return decided, {"turns": turns} | {f"paid {arm}": total for arm, total in totals.items()}


def _explored(arms: int, turns: float) -> float:
    """The share of every arm that is left to chance, and the rate of the softmax."""
    return min(1 / arms, math.sqrt(math.log(arms) / (arms * (10 * max(0.0, turns) + 1))))
