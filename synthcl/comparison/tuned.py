"""Tuned against tuned: every family at its best, chosen on validation at equal budgets, then fresh draws.

1. Search: each family tries equally many settings on one draw of images, labels and GAN.
2. Again: the best few of each on two more draws.
3. Fresh draws: the best of each family, on draws that have chosen nothing, at equal steps and views.
4. Equal time: the best of real images alone for as long as the best of the joint method takes.

What is best, of settings and of families, is a mean over the draws of 1 and 2, on validation. Test is read in 3 and 4
alone, and chooses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from synthcl.comparison.arms import EQUAL_TIME
from synthcl.comparison.equal_time import equal_time_runs
from synthcl.comparison.families import Family
from synthcl.comparison.mechanisms import CHOOSING_OFFSET
from synthcl.comparison.plan import Arms, Run, plan
from synthcl.comparison.records import Place, Record, is_finished, read_all
from synthcl.comparison.staged import Stage
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.evaluation import names

BUDGET, FIRST_SEED = 18, 10_000
"""runs that tune each family; the first fresh draw, none of RESULTS.md"""
AGAIN_SEEDS = 2
"""draws of the second stage; that of the first lies before them"""

Tried = dict[int, list[float]]
"""number of a setting -> validation scores of its sound runs, none of a setting whose runs have all diverged"""


@dataclass(frozen=True)
class Asked:
    """What is tuned, and for how much.

    Args:
        families: each with the same budget.
        images: unlabelled ones to train on.
        seeds: fresh draws.
        budget: runs that tune each family.

    Raises:
        UserError: when there is nothing to do, or fresh draws would reach those that choose.
    """

    families: Sequence[Family]
    images: int
    seeds: int = 5
    budget: int = BUDGET

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise UserError(f"--budget {self.budget} must be at least 1 run a family; give 12 or more")
        if not 1 <= self.seeds <= CHOOSING_OFFSET:
            raise UserError(f"--seeds {self.seeds} must be 1 to {CHOOSING_OFFSET}; the seeds beyond choose settings")

    @property
    def again(self) -> int:
        """Settings of each family that are tried again: a third of the budget in all."""
        return self.budget // (3 * AGAIN_SEEDS)

    @property
    def settings(self) -> int:
        """Settings that each family tries."""
        return self.budget - AGAIN_SEEDS * self.again


def choosing_seeds(config: Config) -> range:
    """Seeds of the draws that settings and families are chosen on.

    Args:
        config: of the comparison; its seed is the first fresh one.
    """
    first = config.training.seed + CHOOSING_OFFSET
    return range(first, first + 1 + AGAIN_SEEDS)


def tried(records: Iterable[Record], family: Family, config: Config, seeds: Iterable[int]) -> Tried:
    """Validation scores of every setting that a family has tried.

    Args:
        records: of the comparison, of one number of images.
        family: of the settings.
        config: of the comparison; its headline probe is the score.
        seeds: of the draws that count.
    """
    metric, wanted = f"val/{names.headline(config)}", {*seeds}
    found: Tried = {}
    for record in records:
        name, _, number = record.arm.rpartition("@")
        if name == family.name and record.seed in wanted:
            scores = found.setdefault(int(number), [])
            scores += [] if record.diverged else [record.metrics[metric]]
    return found


def ranked(scores: Tried) -> list[int]:
    """Settings, the best first: those with the most sound runs, by their mean, of equal ones the earlier.

    Example:
        >>> ranked({0: [44.0], 1: [46.0], 2: [], 3: [44.0, 45.0]})
        [3, 1, 0, 2]
    """
    return sorted(scores, key=lambda number: (-len(scores[number]), -mean(scores[number] or [0.0]), number))


@dataclass(frozen=True)
class Choice:
    """The setting of a family that is best on validation."""

    family: Family
    setting: int
    scores: tuple[float, ...]
    """on validation, of the draws that choose"""

    @property
    def arm(self) -> str:
        return self.family.setting(self.setting)

    @property
    def score(self) -> float:
        """What families are chosen by."""
        return mean(self.scores)


def choice(records: Sequence[Record], family: Family, config: Config) -> Choice:
    """The best setting of a family.

    Args:
        records: of the comparison, of one number of images; some of the family's must be there.
        family: whose settings they are.
        config: of the comparison.

    Raises:
        UserError: when all have diverged.
    """
    scores = tried(records, family, config, choosing_seeds(config))
    best = ranked(scores)[0]
    if not scores[best]:
        raise UserError(
            f"family {family.name!r}: all of its {len(scores)} settings have diverged; raise --budget, lower "
            "training.learning_rate, or leave it out with --only"
        )
    return Choice(family, best, tuple(scores[best]))


def best_pair(choices: Iterable[Choice]) -> tuple[Choice, Choice] | None:
    """The best choice of the joint method and that of real images alone, by validation; of equal ones the earlier.

    Returns:
        None where one side has no family.
    """
    every = list(choices)
    joint, real = ([c for c in every if c.family.is_joint], [c for c in every if c.family.is_real_only])
    if not joint or not real:
        return None
    return max(joint, key=lambda c: c.score), max(real, key=lambda c: c.score)


def equal_time_arm(joint: Choice, real: Choice) -> str:
    """What the fourth stage's arm is called; its budget is that of these two choices."""
    return f"{EQUAL_TIME}={real.arm}={joint.arm}"


def stages(config: Config, asked: Asked) -> list[Stage]:
    """All four stages, as the records let them be known.

    Args:
        config: the configuration that families change.
        asked: what is tuned.

    Raises:
        UserError: as of `plan`, when a record is unusable, or when a family has diverged altogether.
    """
    place, count = Place(config), asked.images
    first, *more = choosing_seeds(config)
    known = read_all(place.records, config) if place.records.is_dir() else []
    records = [record for record in known if record.images == count]
    numbers = range(asked.settings)
    earlier = [number for f in asked.families for number in tried(records, f, config, [first])]  # of a larger budget
    arms = {family: family.settings(config, max([*numbers, *earlier]) + 1) for family in asked.families}

    def runs(seed: int, seeds: int, chosen: Arms) -> list[Run]:
        return plan(config.with_overrides({"training.seed": seed}), chosen, [count], seeds)

    def of(chosen: Mapping[Family, Sequence[int]]) -> Arms:
        return {f.setting(number): arms[f][number] for f, some in chosen.items() for number in some}

    together = {f.setting(number): arms[f][number] for number in numbers for f in arms}
    search = runs(first, 1, together)
    done = {run.arm for run in search if is_finished(run, place)}
    searched = {family for family in arms if all(family.setting(number) in done for number in numbers)}

    few = {
        f: ranked(tried(records, f, config, [first]))[: asked.again] if f in searched else [*range(asked.again)]
        for f in arms
    }
    again = runs(more[0], AGAIN_SEEDS, of(few))
    open_arms = frozenset(of({f: few[f] for f in arms if f not in searched}))
    left = open_arms | {run.arm for run in again if run.arm not in open_arms and not is_finished(run, place)}
    settled = [f for f in arms if f in searched and left.isdisjoint(of({f: few[f]}))]
    choices = {family: choice(records, family, config) for family in settled}

    winners = {family: [choices[family].setting if family in choices else 0] for family in arms}
    fresh = runs(config.training.seed, asked.seeds, of(winners))
    unsettled = frozenset(of({f: winners[f] for f in arms if f not in choices}))
    shown = [f"{f.name}: setting {c.setting:02d}, {c.score:.2f} on validation" for f, c in choices.items()]
    return [
        Stage("stage 1, search", search),
        *([Stage("stage 2, the best again", again, open_arms)] if again else []),
        Stage("stage 3, fresh draws", fresh, unsettled, "; ".join(shown) if len(choices) == len(arms) else ""),
        *_equal_time(fresh, unsettled, [*choices.values()], place, asked.families),
    ]


def _equal_time(
    fresh: list[Run], unsure: frozenset[str], choices: list[Choice], place: Place, families: Sequence[Family]
) -> list[Stage]:
    """Real images alone in the time of the joint method, once both are finished; no stage where one side is missing."""
    if not any(f.is_joint for f in families) or not any(f.is_real_only for f in families):
        return []
    title, pair = "stage 4, equal time", best_pair(choices)
    if pair and not unsure:
        joint, real = pair
        judged = [run for run in fresh if run.arm in (joint.arm, real.arm)]
        if all(is_finished(run, place) for run in judged):
            name = equal_time_arm(joint, real)
            return [Stage(title, equal_time_runs(judged, place, real.arm, joint.arm, name))]
    some = next(f for f in families if f.is_real_only)
    stand = [Run(EQUAL_TIME, run.images, run.seed, run.config) for run in fresh if run.arm.startswith(f"{some.name}@")]
    return [Stage(title, stand, frozenset({EQUAL_TIME}))]
