"""What a search costs its driver: time and memory a trial, from 10 to 1,000 trials, and on up to 64 virtual nodes.

    python -m benchmarks.speed.scale [--quick] [--trials N] [--nodes N] [--no-ray]

The trials do nothing, but everything around them is the product's own: searcher, study, scheduler, logs, callbacks. A
driver's second is spent in suggestions (TPE reads all trials so far), in the journal (every value is on disk before
the search goes on) and in Tune's events. First the study's own part is timed alone, without Ray; then whole searches.
`driver CPU` is what the driver computed a trial, averaged over the later half of the trials until then. One machine has
slots for eight trials at a time, every node for one; a node is a raylet with two agents, about 250 MiB. `--quick`: 100
trials of the study alone, a search of 40, then 1 and 4 nodes.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest import mock

from benchmarks.support import harness

from synthcl.search import stages  # isort: skip  (it sets what Ray reads when it is imported)

import optuna
import psutil
import ray
from ray import tune
from ray.cluster_utils import Cluster

from synthcl import load_preset
from synthcl.config.schema import Config
from synthcl.evaluation import names
from synthcl.runs.storage import Storage
from synthcl.search.checkpoint_cleanup import CheckpointCleanup
from synthcl.search.contest import Contest
from synthcl.search.live import LivePage
from synthcl.search.optuna_search import StudySearch
from synthcl.search.sides import Spaces, contests, load_spaces, rung_images

MARKS = (10, 30, 100, 300, 1000)
SLOTS = 8
LINEAR = names.linear("fashion-mini", 1.0)
STORE_BYTES = 100 * 2**20
QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


class NoOp(tune.Trainable):
    """Reports what a trial reports, and trains nothing. It lives in this program: its process imports no torch."""

    def setup(self, config: dict[str, Any], images: list[int]) -> None:  # type: ignore[override]
        self._images = images
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._rung, self._until = (
            self._images.index(new_config["heard"]) + 1 if new_config["heard"] else 0,
            new_config["until"],
        )
        self._score = zlib.crc32(str(new_config["overrides"]).encode()) % 1000 / 10
        return True

    def step(self) -> dict[str, Any]:
        images, self._rung = self._images[self._rung], self._rung + 1
        progress = images / self._images[-1]
        logged = {"images": images, "loss/contrast": 1.0, **{f"gan/{name}": 0.5 for name in "abcdefgh"}}
        scores = {f"val/{probe}": self._score for probe in ("knn/fashion-mini", "ridge/fashion-mini", LINEAR)}
        told = {"diverged": False, "sound": True, "preempted": False, "seconds": 0.0, "history": [logged]}
        done = images >= self._until
        return {"images": images, "progress": progress, "score": self._score, **scores, **told, "done": done}


@dataclass(frozen=True)
class Study:
    """CPU milliseconds of every trial of a study without Ray."""

    suggest: list[float]
    """of the sampler and its journal"""
    tell: list[float]
    """of reports and the end"""
    prune: list[float]
    """of checkpoints that are not needed any more"""

    def at(self, number: int) -> tuple[float, float, float]:
        """Means over the later half of the first `number` trials; checkpoints are looked at once in several."""
        suggest, tell, prune = (fmean(part[number // 2 : number]) for part in (self.suggest, self.tell, self.prune))
        return suggest, tell, prune


def budgets_for(config: Config, legs: int) -> float:
    """Budgets that about so many legs spend: two in three begin a run, which costs its first rung."""
    return max(8.0, 0.4 * legs * rung_images(config)[0] / rung_images(config)[-1] * 2)


def of_runs(config: Config, legs: int) -> list[Contest]:
    """The method's contest, with more budget than so many legs spend."""
    spaces: Spaces = load_spaces(config)
    return contests(config.with_overrides({"search.opponent_share": 0}), spaces, legs)


def study(config: Config, trials: int) -> Study:
    """The searcher's and the study's part of a search, one leg after the other, for about so many runs."""
    images, spent = rung_images(config), Study([], [], [])
    with tempfile.TemporaryDirectory() as root:
        journal = Path(root, "study.journal")
        searcher = StudySearch(of_runs(config, trials), journal)
        cleanup = CheckpointCleanup(journal, root)
        for number in range(trials):
            trial, began = NoOp.__new__(NoOp), time.process_time()
            leg = searcher.suggest(str(number))
            assert isinstance(leg, dict)
            trial.setup(leg, images)
            suggested = time.process_time()
            while not (result := trial.step())["done"]:
                searcher.on_trial_result(str(number), result)
            searcher.on_trial_complete(str(number), result)
            told = time.process_time()
            cleanup.on_trial_complete(number, [], trial)  # type: ignore[arg-type]
            for part, seconds in zip(
                (spent.suggest, spent.tell, spent.prune),
                (suggested - began, told - suggested, time.process_time() - told),
                strict=True,
            ):
                part.append(1000 * seconds)
    return spent


@dataclass(frozen=True)
class Mark:
    """The driver at one moment."""

    wall_seconds: float
    cpu_seconds: float
    resident_bytes: int


def look() -> Mark:
    return Mark(time.perf_counter(), time.process_time(), psutil.Process().memory_info().rss)


class Clock(tune.Callback):
    """Looks at the driver whenever a trial ends."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.marks.append(look())


def search(config: Config, trials: int) -> list[Mark]:
    """A search of no-op trials; the driver at its start and at the end of each."""
    no_op = tune.with_resources(tune.with_parameters(NoOp, images=rung_images(config)), {"CPU": 1})
    clock, fit = Clock(), stages._fit
    stage = {"name": "search-1", "kind": "search", "budgets": budgets_for(config, trials)}

    def timed(*given: Any, **options: Any) -> None:
        clock.marks.append(look())
        fit(*given, clock, **options)

    with tempfile.TemporaryDirectory() as root:
        storage = Storage(root, config.name)
        storage.folder.mkdir(parents=True)
        with (
            mock.patch.object(stages, "_trainable", return_value=no_op),
            mock.patch.object(stages, "_fit", timed),
            mock.patch.object(stages, "concurrent_trials", return_value=1),  # there is no Ray to ask
            open(os.devnull, "w") as nowhere,
            redirect_stdout(nowhere),
        ):
            stages._search(config, load_spaces(config), storage, LivePage(config, storage), {}, stage, 0.0)
    return clock.marks


@contextmanager
def one_machine(slots: int) -> Iterator[None]:
    """A Ray on this machine, with room for so many trials at a time."""
    ray.init("local", num_cpus=slots, include_dashboard=False, **QUIET)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def nodes(count: int) -> Iterator[None]:
    """A head without CPUs and nodes with one each, all on this machine."""
    small: dict[str, Any] = {"object_store_memory": STORE_BYTES}
    virtual = Cluster(initialize_head=True, head_node_args=small | {"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            virtual.add_node(wait=False, num_cpus=1, **small)
        virtual.wait_for_nodes(timeout=60 + 10 * count)
        ray.init(address=virtual.address, **QUIET)
        yield
    finally:
        ray.shutdown()
        virtual.shutdown()


def at(marks: list[Mark], number: int) -> tuple[float, float, float]:
    """When `number` trials had ended: driver CPU and wall in ms a trial over the later half, driver's memory in MiB."""
    first = number // 2
    before, after = marks[first], marks[number]
    cpu, wall = after.cpu_seconds - before.cpu_seconds, after.wall_seconds - before.wall_seconds
    return 1000 * cpu / (number - first), 1000 * wall / (number - first), after.resident_bytes / 2**20


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--trials", type=int, help="of the study alone, and of the search on one machine; else 1,000")
    parser.add_argument("--nodes", type=int, help="of the largest virtual cluster, 0 for none; else 64")
    parser.add_argument("--no-ray", action="store_true", help="the study alone")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = load_preset("fashion-mini")
    ratios = time_study(config, options.trials or (100 if options.quick else 1000))
    if not options.no_ray:
        ratios |= time_search(config, options.trials or (40 if options.quick else 1000))
        largest = (4 if options.quick else 64) if options.nodes is None else options.nodes
        ratios |= time_nodes(config, sorted({largest // 16, largest // 4, largest} - {0}))
    harness.finish(ratios)


def numbers_up_to(trials: int) -> list[int]:
    return [number for number in MARKS if number < trials] + [trials]


def time_study(config: Config, trials: int) -> dict[str, float]:
    """The study alone; the ratio is to the first hundred, until which TPE is shown more runs with every one."""
    spent, numbers = study(config, trials), numbers_up_to(trials)
    header = ("trials, without Ray", "suggest, CPU ms/trial", "tell", "prune")
    harness.table(header, [(number, *spent.at(number)) for number in numbers])
    first = 100 if trials > 100 else numbers[0]
    return {"study_cpu_of_last_trials_over_first": sum(spent.at(trials)) / sum(spent.at(first))}


HEADER = ("driver CPU ms/trial", "wall ms/trial", "driver MiB")


def time_search(config: Config, trials: int) -> dict[str, float]:
    with one_machine(SLOTS):
        marks = search(config, trials)
    measured = {number: at(marks, number) for number in numbers_up_to(trials)}
    print()
    harness.table(("trials", *HEADER), [(number, *values) for number, values in measured.items()])
    first, *_, last = measured.values()
    return {"cpu_of_last_trials_over_first": last[0] / first[0], "memory_at_end_over_start": last[2] / first[2]}


def time_nodes(config: Config, counts: list[int]) -> dict[str, float]:
    rows = []
    for count in counts:
        began = time.perf_counter()
        with nodes(count):
            up = time.perf_counter() - began
            marks = search(config, 4 * count)
        rows.append((count, up, 4 * count, *at(marks, len(marks) - 1)))
    if not rows:
        return {}
    print()
    harness.table(("nodes", "start s", "trials", *HEADER), rows)
    return {"cpu_on_most_nodes_over_fewest": rows[-1][3] / rows[0][3]}


if __name__ == "__main__":
    main()
