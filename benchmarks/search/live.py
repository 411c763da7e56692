"""Does promoting pay on the real trainer? Searches by halving and by stopping, with the same seeds and budgets.

The product's searcher plays, without Ray, on real runs of a recorded preset; the method alone is searched. Workers are
played too: legs are trained one after the other, in the order in which so many workers would end them. What a search
hands over is trained anew on fresh seeds, and the mean of their scores is its result. Both algorithms begin with the
same random configurations, so results are compared by pairs: Student's t over searches.

    python -m benchmarks.search.live --storage runs-live [--surface cifar16] [--budgets 4,8] [--seeds N] [--workers N]

Scores of runs are kept in the storage: searches with the same seed share runs, and the same command resumes.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import torch

from benchmarks.search.efficiency import RUNGS, contest_of, handed_over, recorded
from benchmarks.search.replay import play
from benchmarks.support.harness import arguments, comma_separated, finish, table
from synthcl import data
from synthcl.comparison.intervals import paired_difference
from synthcl.config import cli
from synthcl.config.cli import parse_overrides
from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.progress import Progress
from synthcl.runs.gan_cache import cached_gan
from synthcl.runs.session import evaluation
from synthcl.search.optuna_search import StudySearch
from synthcl.search.sides import rung_images
from synthcl.search.space import Space
from synthcl.training.loop import run_to_end
from synthcl.training.networks import GanState
from synthcl.training.trainer import Trainer

COMPARED = ("halving, one in 3", "stopping, one in 2")
FRESH_SEEDS = (1000, 1001, 1002)
DEVICE = torch.device("cpu")


class Runs:
    """Real runs of configurations, each trained as far as somebody asks and never twice.

    Args:
        config: what overrides change.
        storage: keeps scores and the GAN; made if missing.
    """

    def __init__(self, config: Config, storage: Path) -> None:
        torch.set_num_threads(1)  # how many there are changes the last bits
        self._config, self._folder = config, storage / config.name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._images = data.open_split(config.data, "unlabelled", DEVICE).images
        self._gan: GanState = cached_gan(config, self._images, storage / "gan", DEVICE)
        self._under_way: dict[Path, Iterator[tuple[int, float]]] = {}

    def score(self, overrides: dict[str, Any], seed: int, images: int) -> float:
        """Of a run at a rung; one that has failed has 0 from there on."""
        run = self._config.with_overrides(overrides | {"training.seed": seed})
        key = json.dumps([run.model_dump(mode="json", exclude={"compute", "search", "name"})], sort_keys=True)
        file = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
        known = {int(rung): score for rung, score in json.loads(file.read_text()).items()} if file.is_file() else {}
        while images not in known:
            reports = self._under_way.setdefault(file, self._train(run))
            rung, known[rung] = next(reports)
            write_whole(file, json.dumps(known))
        return known[images]

    def _train(self, run: Config) -> Iterator[tuple[int, float]]:
        last = 0.0
        rungs = iter(rung_images(run))
        for report in run_to_end(Trainer(run, self._images, self._gan, DEVICE), evaluation(run, False)):
            if report.failure:
                break
            if report.score is not None:
                last = report.score
                yield next(rungs), last
        yield from ((rung, 0.0) for rung in rungs)


def search(
    runs: Runs, config: Config, space: Space, method: str, budgets: float, seed: int, workers: int
) -> dict[str, Any]:
    """The overrides of what one search hands over."""
    contest = contest_of(space, method, tuple(rung_images(config)), budgets, seed)

    def score(label: str, overrides: dict[str, Any], images: int) -> float:
        return runs.score(overrides, seed, images)

    with tempfile.TemporaryDirectory() as folder:
        searcher = StudySearch([contest], Path(folder, "study.journal"))
        return handed_over(play(searcher, score, workers, whole=contest.rungs[-1]))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--surface", default="cifar16", help="a preset in benchmarks/recorded, such as mnist16")
    parser.add_argument("--storage", type=Path, required=True, help="keeps the scores of all runs")
    parser.add_argument("--seeds", type=int, help="searches a method and budget: 6, or 1 with --quick")
    parser.add_argument("--budgets", type=comma_separated(int), help="of the searches: 4,8, or 2 with --quick")
    parser.add_argument("--workers", type=int, default=1, help="legs at a time, each as fast as its images")
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config, space = recorded(options.surface, parse_overrides(options.overrides))
    config = config.with_overrides({"evaluation.rungs": RUNGS})
    seeds = options.seeds or (1 if options.quick else 6)
    budgets = options.budgets or ([2] if options.quick else [4, 8])

    runs = Runs(config, options.storage)
    whole = rung_images(config)[-1]
    results: dict[tuple[str, int], list[float]] = {}
    jobs = [(seed, budget, method) for seed in range(1, seeds + 1) for budget in budgets for method in COMPARED]
    with Progress("searches", len(jobs), "search") as progress:
        for seed, budget, method in jobs:
            found = search(runs, config, space, method, budget, seed, options.workers)
            fresh = statistics.fmean(runs.score(found, each, whole) for each in FRESH_SEEDS)
            results.setdefault((method, budget), []).append(fresh)
            progress.advance()

    halving, stopping = COMPARED
    rows, figures = [], {}
    for budget in budgets:
        ours, theirs = results[halving, budget], results[stopping, budget]
        difference = paired_difference(ours, theirs)
        assert difference is not None
        by_search = ", ".join(f"{one - other:+.2f}" for one, other in zip(ours, theirs, strict=True))
        rows.append(
            [budget, f"{statistics.fmean(theirs):.2f}", f"{statistics.fmean(ours):.2f}", str(difference), by_search]
        )
        figures[f"{config.name}: halving above stopping at {budget} budgets"] = difference.value
    table(["budgets", stopping, halving, f"difference (n = {seeds})", "by search"], rows)
    finish(figures)


if __name__ == "__main__":
    cli.main(main)
