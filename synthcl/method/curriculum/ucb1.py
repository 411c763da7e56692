"""UCB1 over real images and sources: until the next logged point, nearly all views are of the most promising arm.

Source: Albalak et al., "Improving Few-Shot Generalization by Exploring and Exploiting Auxiliary Data" (FLAD), NeurIPS
2023; Auer et al., "Finite-time Analysis of the Multiarmed Bandit Problem", Machine Learning 2002.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from synthcl.method.curriculum.bandit import Bandit, Shares, State


class Ucb1(Bandit):
    """One arm is played from one logged point to the next; all others keep the floor.

    Example:
        >>> loop, arms = Ucb1(floor=0.1), {"real": 0.5, "gan": 0.5}
        >>> loop.decide(arms, {}, 10, {})[0]                # each is played once, in order
        {'real': 0.9, 'gan': 0.1}
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "floor": {"low": 0.05, "high": 0.2},
        "exploration": {"low": 0.05, "high": 1.0, "log": True},
    }

    kind: Literal["ucb1"] = "ucb1"
    exploration: float = Field(1.0, ge=0, le=10, description="factor on the bonus of arms that were seldom played")

    def decide(
        self, shares: Mapping[str, float], rewards: Mapping[str, float], steps: int, state: State
    ) -> tuple[Shares, State]:
        """Play the arm with the largest mean plus bonus, each arm once before that; of equal ones, the first.

            argmax_a mean_a + exploration sqrt(2 ln t / n_a),   t = sum of n_a

        n_a counts the intervals that arm a was played in, and mean_a is of what it was paid in them.

        Source: Auer et al., Machine Learning 2002, figure 1.
        """
        played = {arm: state.get(f"played {arm}", 0.0) for arm in shares}
        means = {arm: state.get(f"mean {arm}", 0.0) for arm in shares}
        last = max(shares, key=lambda arm: shares[arm])
        if state and math.isfinite(reward := rewards.get(last, math.nan)):  # the first shares are nobody's turn
            played[last] += 1
            means[last] += (self.paid(reward) - means[last]) / played[last]
        turns = sum(played.values())

        def promise(arm: str) -> float:
            if not played[arm]:
                return math.inf
            return means[arm] + self.exploration * math.sqrt(2 * math.log(turns) / played[arm])

        chosen = max(shares, key=promise)
        decided = {arm: 1 - (len(shares) - 1) * self.floor if arm == chosen else self.floor for arm in shares}
        numbers = {f"played {arm}": number for arm, number in played.items()}
        return decided, numbers | {f"mean {arm}": mean for arm, mean in means.items()}
