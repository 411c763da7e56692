"""Images that a search spends until validation reaches the score of the best of 64 random configurations.

Random configurations of a space (`recorded/mnist16-space.yaml`: the default one of the time, views no weaker than 0.6)
were trained once on a small preset (`recorded/mnist16.yaml`); their scores at six rungs are in
`recorded/mnist16.jsonl`. A search is replayed on them over many seeds: the product's own searcher and scheduler, with
parallel workers, are told of curves instead of training them (`replay.py`).

    recorded curves   the 64 and no others, in an order that chance decides: nothing is modelled, nothing is proposed
    drawn curves      whatever a sampler proposes gets the mean of a Gaussian process fitted on the recorded curves, and
                      the residuals that it left on a run it had not seen (`surrogate.py`)

The bounds: a search that knew the best configuration would spend one budget, and one that told the best at the first
rung would spend that rung's share of random's images. In drawn curves all that the process misses counts as noise,
which no sampler can learn. Their target is the median over sets of 64 of the best, so that half of all random searches
need more than 64 budgets. Baselines and confirm runs cost all methods alike and are left out; the product keeps
baselines in a study of their own, so that its sampler proposes the same trials with and without them. A search as the
product makes it is "TPE, ASHA keeps 1/2, preset first".

    python -m benchmarks.search.efficiency [--quick] [--seeds N] [--workers N] [--cores N]
    python -m benchmarks.search.efficiency --record 64 data.root=PATH          # or data.download=true
    python -m benchmarks.search.efficiency --study runs/mnist16/study.journal  # what a search that ran has spent
"""

import math
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

from benchmarks.search import curves
from benchmarks.search.curves import Curve
from benchmarks.search.replay import Found, Listed, Scores, Searcher, search_until
from benchmarks.search.surrogate import Surrogate
from benchmarks.support.harness import arguments, finish, table
from synthcl.config import cli
from synthcl.config.cli import parse_overrides
from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.config.sections import EvaluationConfig
from synthcl.core.progress import Progress
from synthcl.search.asha import RungScheduler, rung_images
from synthcl.search.optuna_search import StudySearch, load_study
from synthcl.search.space import Space, load_space

RECORDED = Path(__file__).parents[1] / "recorded"
PRESET = RECORDED / "mnist16.yaml"
ROOT = Path(__file__).parents[2]
SET = 64
"""configurations whose best is the target"""
SETS = 30
RUNGS = EvaluationConfig().rungs
"""the product's own"""
MOST_TRIALS = 400
"""a search over drawn curves that began so many has failed"""


class Hyperband(RungScheduler):
    """Asynchronous Hyperband: a bracket for every rung to begin at, one for each trial as Ray draws it."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        rungs = len(self._brackets[0]._rungs)
        self._brackets = [RungScheduler(config)._brackets[0] for _ in range(rungs)]
        for skipped, bracket in enumerate(self._brackets):
            bracket._rungs = bracket._rungs[: rungs - skipped]  # largest first


@dataclass(frozen=True)
class Method:
    """How a search stops trials and proposes them: with none given it stops nothing, and has the product's sampler."""

    scheduler: Callable[[Config], RungScheduler] | None = None
    sampler: Callable[..., BaseSampler] | None = None
    keep_one_in: float = 2.0
    preset_first: bool = False


METHODS = {
    "random": Method(sampler=RandomSampler),
    "random, Hyperband": Method(Hyperband, RandomSampler),
    "random, ASHA keeps 1/2": Method(RungScheduler, RandomSampler),
    "random, ASHA keeps 1/4": Method(RungScheduler, RandomSampler, 4.0),
    "TPE": Method(),
    "TPE, Hyperband": Method(Hyperband),
    "TPE, ASHA keeps 1/2": Method(RungScheduler),
    "TPE, ASHA keeps 1/2, preset first": Method(RungScheduler, preset_first=True),
    "TPE, ASHA keeps 1/4": Method(RungScheduler, keep_one_in=4.0),
    "TPE, ASHA keeps 1/4, preset first": Method(RungScheduler, keep_one_in=4.0, preset_first=True),
}
PROPOSED = ("random", *(name for name in METHODS if name.startswith("TPE")))
"""replayed on drawn curves; recorded ones are for those that propose at random"""


class Replay(Protocol):
    """Curves to search over, and the target in them."""

    @property
    def config(self) -> Config: ...
    @property
    def target(self) -> float: ...
    @property
    def workers(self) -> int: ...

    def search(self, method: str, seed: int) -> Found | None: ...


@dataclass(frozen=True)
class Recorded:
    """The recorded curves and no others, each once, in an order that the seed decides."""

    config: Config
    curves: Sequence[Curve]
    target: float
    workers: int

    def search(self, method: str, seed: int) -> Found | None:
        order = np.random.default_rng(seed).permutation(len(self.curves))
        searcher = Listed([(self.curves[at].overrides, self.curves[at].scores) for at in order])
        return _search(self, METHODS[method], seed, searcher, searcher.scores, len(order))


@dataclass(frozen=True)
class Drawn:
    """Whatever the product's searcher proposes; each seed has residuals of its own."""

    config: Config
    space: Space
    surrogate: Surrogate
    target: float
    workers: int

    def search(self, method: str, seed: int) -> Found | None:
        chosen = METHODS[method]
        with tempfile.TemporaryDirectory() as folder:
            journal, startup = Path(folder) / "study.journal", self.config.search.startup_trials
            point = self.space.point_of(self.config) if chosen.preset_first else None
            searcher = StudySearch(self.space, journal, seed, startup, (), point)
            if chosen.sampler:
                searcher.study.sampler = chosen.sampler(seed=seed)
            return _search(self, chosen, seed, searcher, partial(self.surrogate.draw, seed=seed), MOST_TRIALS)


def _search(
    replay: Replay, method: Method, seed: int, searcher: Searcher, scores_of: Callable[..., Scores], most_trials: int
) -> Found | None:
    config = replay.config.with_overrides({"search.reduction_factor": method.keep_one_in, "evaluation.rungs": RUNGS})
    rungs = set(rung_images(config))

    def at_rungs(overrides: dict[str, Any]) -> Scores:
        return {images: score for images, score in scores_of(overrides).items() if images in rungs}

    np.random.seed(seed)  # noqa: NPY002  Ray draws brackets from the global state
    scheduler = method.scheduler(config) if method.scheduler else None
    return search_until(replay.target, searcher, scheduler, at_rungs, replay.workers, most_trials)


def compare(replay: Replay, methods: Sequence[str], seeds: int, cores: int) -> dict[str, list[Found | None]]:
    """Every method's searches, one a seed."""
    jobs = [(method, seed) for method in methods for seed in range(seeds)]
    fork = multiprocessing.get_context("fork")  # the children start with everything imported
    with ProcessPoolExecutor(cores, mp_context=fork) as pool:
        begun = [pool.submit(replay.search, *job) for job in jobs]
        found = []
        with Progress("searches", len(begun), "search", leave=False) as progress:
            for search in begun:
                found.append(search.result())
                progress.advance()
    return {method: found[at * seeds : (at + 1) * seeds] for at, method in enumerate(methods)}


def show(found: Mapping[str, Sequence[Found | None]], budget: int, surrogate: Surrogate | None) -> dict[str, float]:
    """Print a row a method; a search that failed spent more than any other.

    Returns:
        Each method's median images over random's, of those that reached the target in half of their searches.
    """
    spent = {method: [one.images / budget if one else math.inf for one in each] for method, each in found.items()}
    medians = {method: _quantile(values, 0.5) for method, values in spent.items()}
    rows = []
    for method, each in found.items():
        reached = [one for one in each if one]
        low, high = (_quantile(spent[method], level) for level in (0.25, 0.75))
        row = [method, medians[method], f"{low:.1f} to {high:.1f}", medians[method] / medians["random"]]
        row += [f"{len(reached) / len(each):.0%}", _quantile([one.trials if one else math.inf for one in each], 0.5)]
        if surrogate:
            expected = [surrogate.mean(one.overrides)[budget] for one in reached]
            row.append(f"{statistics.fmean(expected):.1f}" if expected else "")
        rows.append(row)
    header = ["", "budgets, median", "middle half", "of random's", "reached", "trials begun"]
    table([*header, "winner's expected score"] if surrogate else header, rows)
    print()
    return {name: median / medians["random"] for name, median in medians.items() if median < math.inf}


def _quantile(values: Sequence[float], level: float) -> float:
    """An element, so that infinities are no average of anything."""
    return float(np.quantile(values, level, method="nearest"))


def best_of_a_set(space: Space, surrogate: Surrogate, budget: int) -> float:
    """Median over sets of 64 random configurations of the best drawn score; no search has a seed of these sets."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    draws = [
        [surrogate.draw(space.sample(study.ask()), seed=-1 - at)[budget] for _ in range(SET)] for at in range(SETS)
    ]
    return float(np.median(np.max(draws, axis=1)))


def show_rungs(recorded: Sequence[Curve], surrogate: Surrogate) -> None:
    """Print what the curves are like: how much configurations and seeds differ, and what a rung tells of the end."""
    repeats = [[c.scores for c in recorded if c.number == number] for number in {c.number for c in recorded if c.seed}]
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


def study_spent(file: Path, target: float, budget: int) -> float | None:
    """Budgets that all trials of a finished search had begun to spend when one reached the target; none if none did."""
    trials = [trial for trial in load_study(file).trials if "arm" not in trial.user_attrs]
    ends = [
        trial.datetime_complete for trial in trials if trial.state is TrialState.COMPLETE and trial.values[0] >= target
    ]
    if not ends:
        return None
    first = min(end for end in ends if end)
    return sum(trial.user_attrs["images"] for trial in trials if (trial.datetime_start or first) < first) / budget


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--curves", type=Path, default=RECORDED / "mnist16.jsonl")
    parser.add_argument(
        "--record", type=int, metavar="N", help="train until there are N configurations' curves, and stop"
    )
    parser.add_argument("--study", type=Path, help="of a search with the same preset: what it spent, and stop")
    parser.add_argument("--seeds", type=int, help="searches a method: 50, or 4 with --quick")
    parser.add_argument("--workers", type=int, default=4, help="trials at a time")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = load_preset(str(PRESET)).with_overrides(parse_overrides(options.overrides))
    space = load_space(ROOT / config.search.space, config)
    if options.record:
        curves.record(options.curves, config, space, options.record)
        return

    every = curves.read(options.curves, config, space)
    recorded = [curve for curve in every if curve.seed == config.training.seed]
    budget = rung_images(config)[-1]
    best = max(curve.scores[budget] for curve in recorded)
    if options.study:
        spent = study_spent(options.study, best, budget)
        print(f"the best of {len(recorded)} random configurations scored {best:.2f}")
        finish({} if spent is None else {"budgets": spent, "budgets_over_random": spent / len(recorded)})
        return

    surrogate = Surrogate(config, recorded)
    print(f"{len(recorded)} recorded configurations, {len(every) - len(recorded)} runs of other seeds\n")
    show_rungs(every, surrogate)
    seeds = options.seeds or (4 if options.quick else 50)
    alone = Recorded(config, recorded, best, options.workers)
    print(f"recorded curves, the best of them: {best:.2f}; {20 * seeds} orders, {options.workers} trials at a time\n")
    stopped = [name for name, method in METHODS.items() if method.sampler]
    ratios = show(compare(alone, stopped, 20 * seeds, options.cores), budget, None)
    target = best_of_a_set(space, surrogate, budget)
    drawn = Drawn(config, space, surrogate, target, options.workers)
    print(
        f"drawn curves, the best of a set of {SET}: {target:.2f}; {seeds} seeds, {options.workers} trials at a time\n"
    )
    searched = show(compare(drawn, PROPOSED, seeds, options.cores), budget, surrogate)
    finish({f"recorded: {name}": ratio for name, ratio in ratios.items()} | searched)


if __name__ == "__main__":
    cli.main(main)
