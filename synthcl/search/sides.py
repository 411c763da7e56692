"""Who is searched: the method, and real images alone, its opponent, which is tuned by the same algorithm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from synthcl.comparison.arms import OWN, REAL_ONLY, apply_arm
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.search import halving, random_search, stopping
from synthcl.search.contest import Contest
from synthcl.search.legs import Game, IsOut, NextLeg, Run
from synthcl.search.space import Space, load_space
from synthcl.search.study import OPPONENT_STUDY, STUDY

SPACES = Path(__file__).parent / "spaces"
"""those that come with synthcl"""


def _never(game: Game, run: Run) -> bool:
    return False


ALGORITHMS: dict[str, tuple[NextLeg, IsOut]] = {
    "halving": (halving.next_leg, _never),
    "stopping": (stopping.next_leg, stopping.is_out),
    "random": (random_search.next_leg, _never),
}
"""`search.algorithm`: what is trained next, and whether a run at a rung is given up"""


@dataclass(frozen=True)
class Spaces:
    """What is searched."""

    method: Space
    opponent: Space

    @property
    def written(self) -> list[tuple[str, str, Space]]:
        """The field of the search section that names each, and the file of a run that keeps it."""
        return [("space", "space.yaml", self.method), ("opponent_space", "opponent-space.yaml", self.opponent)]


def load_spaces(config: Config) -> Spaces:
    """The spaces that a configuration names: those that come with synthcl, or paths that end in `.yaml`.

    Raises:
        UserError: on a space that cannot be read or holds what cannot be trained, or budgets that are too few.
    """

    def file(named: str) -> Path:
        return Path(named) if named.endswith(".yaml") else SPACES / f"{named}.yaml"

    require_budgets(config)
    own = load_space(file(config.search.space), config)
    return Spaces(own, load_space(file(config.search.opponent_space), apply_arm(config, REAL_ONLY)))


def require_budgets(config: Config) -> None:
    """Refuse a search that cannot end with what it is to confirm.

    Raises:
        UserError: naming the budgets that can.
    """
    search, first = config.search, config.evaluation.rungs[0]
    smallest = min(1 - search.opponent_share, search.opponent_share or 1.0)
    fewest = (search.confirm_top + first) / smallest
    if search.budgets < fewest - 1e-9:
        raise UserError(
            f"search.budgets {search.budgets:g} are too few to end with {search.confirm_top} whole runs of method and "
            f"opponent (search.opponent_share {search.opponent_share:.3g}), the preset's own beside them; raise "
            f"search.budgets to {math.ceil(2 * fewest - 1e-9) / 2:g} or lower search.confirm_top"
        )


def rung_images(config: Config) -> list[int]:
    """Images seen at each rung, the budget last."""
    training = config.training
    return [max(1, round(rung * training.steps)) * training.batch_images for rung in config.evaluation.rungs]


def budgets_of(config: Config, budgets: float) -> tuple[float, float]:
    """How a search's budgets are divided between the method and its opponent."""
    opponent = config.search.opponent_share * budgets
    return budgets - opponent, opponent


def contests(config: Config, spaces: Spaces, budgets: float) -> list[Contest]:
    """Both studies, or that of the method alone where the opponent has no share.

    Args:
        config: the search begins with it; its real-only arm is what the opponent's begins with.
        spaces: of both.
        budgets: of both together, in whole runs' images.
    """
    search = config.search
    next_leg, is_out = ALGORITHMS[search.algorithm]
    own, others = budgets_of(config, budgets)

    def contest(study: str, prefix: str, space: Space, base: Config, arm: str, share: float) -> Contest:
        return Contest(
            study=study,
            prefix=prefix,
            space=space,
            arm=arm,
            first_point=space.point_of(base),
            next_leg=next_leg,
            is_out=is_out,
            rungs=tuple(rung_images(config)),
            budgets=share,
            most_runs=search.trials,
            finish=search.confirm_top,
            keep_one_in=search.keeps_one_in,
            seed=search.seed,
            startup_trials=search.startup_trials,
            pareto=search.objective == "pareto",
        )

    both = [contest(STUDY, "trial", spaces.method, config, OWN, own)]
    if others:
        base = apply_arm(config, REAL_ONLY)
        both.append(contest(OPPONENT_STUDY, REAL_ONLY, spaces.opponent, base, REAL_ONLY, others))
    return both
