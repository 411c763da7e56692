"""Who is searched: the method, and real images alone, its opponent, which is tuned by the same algorithm.

Beside a population the opponent is tuned by halving, since hardly anything of it can be changed in mid-run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthcl.comparison.arms import OWN, REAL_ONLY, apply_arm
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.core.rng import generator
from synthcl.search import halving, population, random_search, stopping
from synthcl.search.auto_space import AUTO, auto_space
from synthcl.search.contest import Contest, Copy
from synthcl.search.legs import Exchange, Game, IsOut, NextLeg, Run
from synthcl.search.lineage import continued, explored, knobs_of
from synthcl.search.space import Space, load_space
from synthcl.search.study import OPPONENT_STUDY, STUDY
from synthcl.search.verdict import sorted_by

SPACES = Path(__file__).parent / "spaces"
"""those that come with synthcl"""


def _never(game: Game, run: Run) -> bool:
    return False


ALGORITHMS: dict[str, tuple[NextLeg, IsOut]] = {
    "halving": (halving.next_leg, _never),
    "stopping": (stopping.next_leg, stopping.is_out),
    "random": (random_search.next_leg, _never),
    "population": (population.next_leg, population.is_out),
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

    @property
    def fields(self) -> list[str]:
        """What is searched on either side, in the order of the files."""
        return list(self.method.dimensions | self.opponent.dimensions)


def load_spaces(config: Config) -> Spaces:
    """The spaces that a configuration names: those that come with synthcl, paths that end in `.yaml`, or `auto`.

    Raises:
        UserError: on a space that cannot be read or holds what cannot be trained, budgets that are too few, or a
            population that cannot exchange.
    """

    def load(named: str, config: Config) -> Space:
        if named == AUTO:
            return auto_space(config)
        return load_space(Path(named) if named.endswith(".yaml") else SPACES / f"{named}.yaml", config)

    require_budgets(config)
    own = load(config.search.space, config)
    if config.search.algorithm == "population":
        require_population(config, own)
    return Spaces(own, load(config.search.opponent_space, apply_arm(config, REAL_ONLY)))


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


def require_population(config: Config, space: Space) -> None:
    """Refuse a population that is too small, that its budgets do not pay for, or that nothing can be changed of.

    Raises:
        UserError: naming what would be right.
    """
    search = config.search
    paid, count = int(budgets_of(config, search.budgets)[0] + 1e-9), members_of(config, search.budgets)
    if count > paid or count < 4:
        whole = max(4, search.members or 0)
        raise UserError(
            f"search.budgets {search.budgets:g} pay for {paid} whole runs of the method, and a population of "
            f"{whole} needs as many; raise search.budgets to {math.ceil(whole / (1 - search.opponent_share) - 1e-9)}"
            + (" or lower search.members" if whole > 4 and paid >= 4 else "")
        )
    if search.exploit * count < 1 - 1e-9:
        raise UserError(
            f"search.exploit {search.exploit:g} of {count} members is less than one; "
            f"raise it to {math.ceil(100 / count) / 100:g}, or search.members"
        )
    if search.confirm_top >= count:
        raise UserError(
            f"search.confirm_top {search.confirm_top} of a population of {count} would choose nothing; "
            f"lower it to {count - 1} at most"
        )
    if search.objective == "pareto":
        raise UserError("search.objective 'pareto' names no member that another could copy; use weighted or linear")
    if search.objective == "label_free":
        raise UserError(
            "search.objective 'label_free' is in no points, as search.seed_deviation is; use search.algorithm=halving"
        )
    if search.trials is not None:
        raise UserError(
            f"search.trials {search.trials} has no meaning for a population; remove it and give search.members"
        )
    if len(population.generations(rung_images(config))) < 2:
        raise UserError(
            f"evaluation.rungs {list(config.evaluation.rungs)} have none from {population.EARLIEST} on before the "
            "last, at which a population could exchange; use [0.25, 0.5, 0.75, 1]"
        )
    if not knobs_of(space, config):
        raise UserError(
            f"search.space {search.space!r} has no schedule that is searched by its start alone, which a population "
            "could change in mid-run; use search.space=population"
        )


def members_of(config: Config, budgets: float) -> int:
    """Runs of a population: as many as asked for, or as the method's share of the budgets pays for."""
    return config.search.members or int(budgets_of(config, budgets)[0] + 1e-9)


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
    own, others = budgets_of(config, budgets)
    is_population = search.algorithm == "population"

    def contest(study: str, prefix: str, space: Space, base: Config, arm: str, share: float) -> Contest:
        next_leg, is_out = ALGORITHMS["halving" if is_population and arm == REAL_ONLY else search.algorithm]
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
            run=config.name,
            metric=search.label_free or ""
            if search.objective == "label_free"
            else f"validation {sorted_by(search.objective)}, %",
        )

    method = contest(STUDY, "trial", spaces.method, config, OWN, own)
    both = [_population(method, config, members_of(config, budgets)) if is_population else method]
    if others:
        base = apply_arm(config, REAL_ONLY)
        both.append(contest(OPPONENT_STUDY, REAL_ONLY, spaces.opponent, base, REAL_ONLY, others))
    return both


def _population(contest: Contest, config: Config, count: int) -> Contest:
    """All members begin before any has a score, so all are drawn at random; then they exchange."""
    search = config.search
    return replace(
        contest,
        budgets=float(count),
        startup_trials=count,
        exchange=Exchange(count, search.exploit, 2 * search.seed_deviation, search.seed),
        copy=copying(contest.space, config),
    )


def copying(space: Space, config: Config) -> Copy:
    """What a member becomes that goes on from another one: the other's lineage, and knobs explored from there.

    Args:
        space: of the method.
        config: the search begins with it.
    """
    knobs = knobs_of(space, config)

    def copy(
        values: dict[str, Any], overrides: dict[str, Any], progress: float, number: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        changed = explored(values, knobs, generator(config.search.seed, "explore", number))
        return values | changed, continued(overrides, changed, progress, config)

    return copy
