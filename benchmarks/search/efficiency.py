"""How good is what a search hands over, by the images that it may spend?

Random configurations of a space (`recorded/mnist16-space.yaml`: the default one of the time, views no weaker than 0.6)
were trained once on a small preset (`recorded/mnist16.yaml`); their scores at six rungs are in
`recorded/mnist16.jsonl`. `--surface cifar16` is a second preset. A Gaussian process fitted on them gives the expected
scores of any configuration (`surrogate.py`); a run's scores are these and normal residuals with the covariance over
rungs that the process left on runs it had not seen. The product's own searcher plays on it with parallel workers
(`replay.py`); what it hands over is the best run of the highest rung that several have reached, and what that is
*worth* is its expected score at the end.

    recorded    the process as it is: flat at the top
    steep       four times as steep for the best 15 % of configurations: there is something to find

The yardstick is random search, known exactly: what the best-scored of n random runs is worth, over 20,000 draws of n.
A bound: the best of 20,000 random configurations. Seeds pair all methods. `old` is the figure of earlier versions:
images until some run's *score* reaches the best score of 64 random runs, which luck alone decides, over random's.

    python -m benchmarks.search.efficiency [--quick] [--surface cifar16] [--seeds N] [--workers N] [--cores N]
    python -m benchmarks.search.efficiency --record 64 data.root=PATH          # or data.download=true
"""

import math
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import RandomSampler

from benchmarks.search import curves
from benchmarks.search.curves import Curve
from benchmarks.search.replay import Leg, play
from benchmarks.search.surrogate import Surrogate
from benchmarks.support.harness import arguments, comma_separated, finish, table
from synthcl.comparison.arms import OWN
from synthcl.config import cli
from synthcl.config.cli import parse_overrides
from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.config.sections import EvaluationConfig
from synthcl.core.progress import Progress
from synthcl.search.contest import Contest
from synthcl.search.hand_over import best_first
from synthcl.search.optuna_search import StudySearch
from synthcl.search.sides import ALGORITHMS, rung_images
from synthcl.search.space import Space, load_space
from synthcl.search.study import STUDY

RECORDED = Path(__file__).parents[1] / "recorded"
ROOT = Path(__file__).parents[2]
RUNGS = EvaluationConfig().rungs
"""the product's own"""
BUDGETS = (2, 4, 8, 16)
RANDOM_RUNS = (4, 8, 16, 64)
DRAWS = 20_000
STEEP_SHARE, STEEPNESS = 0.15, 4.0
METHODS: dict[str, tuple[str, float]] = {
    "random": ("random", 2.0),
    "stopping, one in 2": ("stopping", 2.0),
    "halving, one in 2": ("halving", 2.0),
    "halving, one in 3": ("halving", 3.0),
}
"""algorithm, and of how many one goes on"""


def recorded(name: str, overrides: dict[str, Any]) -> tuple[Config, Space]:
    """A preset whose curves are recorded here, and the space that they were drawn from."""
    config = load_preset(str(RECORDED / f"{name}.yaml")).with_overrides(overrides)
    return config, load_space(ROOT / config.search.space, config)


@dataclass(frozen=True)
class Surface:
    """What runs of a configuration score.

    Args:
        surrogate: of the recorded curves.
        rungs: images seen at each of the product's.
        steep_above: the worth from which on it is stretched.
    """

    surrogate: Surrogate
    rungs: tuple[int, ...]
    steep_above: float = math.inf

    def worth(self, overrides: dict[str, Any]) -> float:
        """The expected score at the end."""
        return self.expected(overrides)[self.rungs[-1]]

    def expected(self, overrides: dict[str, Any]) -> dict[int, float]:
        """At every rung; a stretched top shows at earlier ones in the proportion of their spread to that of the end."""
        mean = self.surrogate.mean(overrides)
        last = self.rungs[-1]
        if mean[last] <= self.steep_above:
            return mean
        more = (STEEPNESS - 1) * (mean[last] - self.steep_above)
        spread = dict(zip(self.surrogate.rungs, self.surrogate.scores.std(axis=0).tolist(), strict=True))
        return {rung: score + more * min(1.0, spread[rung] / spread[last]) for rung, score in mean.items()}

    def score(self, overrides: dict[str, Any], images: int, key: Sequence[int]) -> float:
        """Of one run, which the key tells from others."""
        residual = self.surrogate.normal_residual(key)
        return self.expected(overrides)[images] + residual[images]


@dataclass(frozen=True)
class Found:
    """What a search hands over is worth, how many runs it began, and images until a score reached the old target."""

    worth: float
    begun: int
    old: float


def contest_of(space: Space, method: str, rungs: tuple[int, ...], budgets: float, seed: int) -> Contest:
    """What a search by one of `METHODS` plays: the method alone, from random configurations on."""
    algorithm, keep_one_in = METHODS[method]
    next_leg, is_out = ALGORITHMS[algorithm]
    return Contest(STUDY, "run", OWN, space, {}, next_leg, is_out, rungs, budgets, None, 1, keep_one_in, seed, 4)


def search(
    surface: Surface, space: Space, method: str, budgets: float, seed: int, workers: int, target: float
) -> Found:
    """One search by the product's searcher."""
    contest = contest_of(space, method, surface.rungs, budgets, seed)

    def scores(label: str, overrides: dict[str, Any], images: int) -> float:
        return surface.score(overrides, images, (seed, int(label.split("-")[1])))

    whole = surface.rungs[-1]
    with tempfile.TemporaryDirectory() as folder:
        legs = play(StudySearch([contest], Path(folder, "study.journal")), scores, workers, whole)
    spent, old = 0, math.inf
    for leg in legs:
        spent += leg["until"] - leg["heard"]
        if leg["until"] == whole and leg["score"] >= target:
            old = min(old, spent / whole)
    handed = handed_over(legs)
    return Found(surface.worth(handed), len({leg["label"] for leg in legs}), old)


def handed_over(legs: Sequence[Leg]) -> dict[str, Any]:
    """The overrides of the run that a search of these legs hands over."""
    curves: dict[str, dict[int, float]] = {}
    for leg in legs:
        curves.setdefault(leg["label"], {})[leg["until"]] = leg["score"]
    best = best_first(curves, 1)
    overrides: dict[str, Any] = next(leg["overrides"] for leg in legs if [leg["label"]] == best)
    return overrides


@dataclass(frozen=True)
class Yardstick:
    """Random search, exactly."""

    worth: dict[int, float]
    """runs -> what the best-scored of so many is worth"""
    best: float
    """of all configurations that were drawn"""
    good: float
    """what the best `STEEP_SHARE` of them are worth at least"""
    target: float
    """median over sets of 64 runs of the best score"""
    median_runs: float
    """until one reaches it"""


def random_search(surface: Surface, space: Space) -> Yardstick:
    """What random runs are worth, over many draws."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    points = [space.sample(study.ask()) for _ in range(DRAWS)]
    worth = np.array([surface.worth(point) for point in points])
    last = surface.rungs[-1]
    scores = worth + np.array([surface.surrogate.normal_residual((-1, at))[last] for at in range(DRAWS)])
    rng = np.random.default_rng(0)

    def best_of(runs: int) -> tuple[float, float]:
        sets = rng.integers(0, DRAWS, (4 * DRAWS // runs, runs))
        chosen = np.take_along_axis(sets, scores[sets].argmax(axis=1)[:, None], axis=1)[:, 0]
        return float(worth[chosen].mean()), float(np.median(scores[chosen]))

    target = best_of(64)[1]
    share = float((scores >= target).mean())
    median_runs = math.log(0.5) / math.log(1 - share) if 0 < share < 1 else math.inf
    good = float(np.quantile(worth, 1 - STEEP_SHARE))
    return Yardstick({runs: best_of(runs)[0] for runs in RANDOM_RUNS}, float(worth.max()), good, target, median_runs)


def compare(
    name: str,
    surface: Surface,
    yard: Yardstick,
    space: Space,
    budgets: Sequence[float],
    seeds: int,
    workers: int,
    cores: int,
) -> dict[str, float]:
    """Print random's yardstick and a row a method; some figures by name."""
    print(f"{name}: the best of {DRAWS:,} configurations is worth {yard.best:.2f}")
    table(
        ["random runs", *map(str, RANDOM_RUNS)],
        [["worth of the best-scored", *(f"{yard.worth[n]:.2f}" for n in RANDOM_RUNS)]],
    )
    jobs = [(method, budget, seed) for method in METHODS for budget in budgets for seed in range(seeds)]
    fork = multiprocessing.get_context("fork")  # the children start with everything imported
    found: dict[tuple[str, float], list[Found]] = {}
    with ProcessPoolExecutor(cores, mp_context=fork) as pool, Progress("searches", len(jobs), "search") as progress:
        begun = [
            pool.submit(search, surface, space, method, budget, seed, workers, yard.target)
            for method, budget, seed in jobs
        ]
        for (method, budget, _), one in zip(jobs, begun, strict=True):
            found.setdefault((method, budget), []).append(one.result())
            progress.advance()
    rows, figures = [], {}
    for method in METHODS:
        each = [[one.worth for one in found[method, budget]] for budget in budgets]
        means = [statistics.fmean(worth) for worth in each]
        errors = [statistics.stdev(worth) / len(worth) ** 0.5 if len(worth) > 1 else math.nan for worth in each]
        old = float(np.quantile([one.old for one in found[method, budgets[-1]]], 0.5, method="nearest"))
        begun_runs = statistics.median(one.begun for one in found[method, budgets[-1]])
        shown = [f"{mean:.2f}±{error:.2f}" for mean, error in zip(means, errors, strict=True)]
        rows.append([method, *shown, begun_runs, old / yard.median_runs if old < math.inf else "-"])
        for runs in (16, 64):
            reached = [budget for budget, mean in zip(budgets, means, strict=True) if mean >= yard.worth[runs]]
            figures[f"{name}: {method}, budgets to random-of-{runs}"] = float(reached[0]) if reached else math.inf
    table(["worth at budgets of", *(f"{budget:g}" for budget in budgets), "runs begun", "old"], rows)
    print()
    return {what: value for what, value in figures.items() if value < math.inf}


def show_rungs(every: Sequence[Curve], surrogate: Surrogate) -> None:
    """Print what the curves are like: how much configurations and seeds differ, and what a rung tells of the end."""
    repeats = [[c.scores for c in every if c.number == number] for number in {c.number for c in every if c.seed}]
    last = surrogate.rungs[-1]
    rows = []
    for at, rung in enumerate(surrogate.rungs):
        column = surrogate.scores[:, at]
        by_seed = math.sqrt(np.mean([np.var([scores[rung] for scores in each], ddof=1) for each in repeats]))
        tells = pd.Series(column).corr(pd.Series(surrogate.scores[:, -1]), method="spearman")
        residual = surrogate.residuals[:, at].std()
        row = (f"{rung / last:.3g}", column.mean(), column.max(), column.std(), by_seed, float(tells))
        rows.append((*row, surrogate.explained[rung], float(residual)))
    spread = ["sd of configurations", "sd of seeds", "rank correlation with the end"]
    table(["rung, of the budget", "mean", "best", *spread, "explained of unseen", "residual sd"], rows)
    print()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--surface", default="mnist16", help="a preset in benchmarks/recorded: mnist16 or cifar16")
    parser.add_argument("--curves", type=Path, help="by default those recorded of the surface")
    parser.add_argument(
        "--record", type=int, metavar="N", help="train until there are N configurations' curves, and stop"
    )
    parser.add_argument("--seeds", type=int, help="searches a method and budget: 60, or 4 with --quick")
    parser.add_argument("--budgets", type=comma_separated(float), help="of the searches: 2,4,8,16, or 2,4 with --quick")
    parser.add_argument("--workers", type=int, default=4, help="legs at a time")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config, space = recorded(options.surface, parse_overrides(options.overrides))
    file = options.curves or RECORDED / f"{options.surface}.jsonl"
    if options.record:
        curves.record(file, config, space, options.record)
        return

    every = curves.read(file, config, space)
    first = [curve for curve in every if curve.seed == config.training.seed]
    surrogate = Surrogate(config, first)
    print(f"{len(first)} recorded configurations, {len(every) - len(first)} runs of other seeds\n")
    show_rungs(every, surrogate)
    seeds = options.seeds or (4 if options.quick else 60)
    budgets = options.budgets or (BUDGETS[:2] if options.quick else BUDGETS)
    rungs = tuple(rung_images(config.with_overrides({"evaluation.rungs": RUNGS})))
    figures: dict[str, float] = {}
    flat = Surface(surrogate, rungs)
    good = random_search(flat, space).good
    for name, surface in (("recorded", flat), ("steep", Surface(surrogate, rungs, good))):
        yard = random_search(surface, space)
        figures |= compare(name, surface, yard, space, budgets, seeds, options.workers, options.cores)
    finish(figures)


if __name__ == "__main__":
    cli.main(main)
