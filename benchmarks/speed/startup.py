"""What a trial takes beyond its own compute, beside the plain nest of Ray Train in Ray Tune, on one and two workers.

    python -m benchmarks.speed.startup [--quick] [--workers 1,2] [--trials N] [field=value ...]

Trials run one after the other, as the confirm stage runs them. A trial's wall is the time between its end and the end
of the one before it; its own compute is what its training and its scores at rungs took. What bounds it: every process
imports PyTorch and Ray, some seconds of a core, and the nest starts a driver, a controller, four helpers of Ray's and
the workers for every trial. Where processes are kept, what is left is new networks, a checkpoint a rung and a few
messages. `--quick`: one worker, two trials.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.support import harness
from synthcl.runs.checkpoint_store import save

from synthcl.search import stages  # isort: skip  (it sets what Ray reads when it is imported)

import ray
import ray.train
import ray.train.torch
import torch
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from synthcl import load_preset
from synthcl.config.cli import parse_overrides
from synthcl.config.schema import Config
from synthcl.data import open_split
from synthcl.runs.gan_cache import warm_up
from synthcl.runs.session import evaluation
from synthcl.runs.storage import Storage
from synthcl.search.live import LivePage
from synthcl.search.outlook import Outlook
from synthcl.search.slots import Planned
from synthcl.training.loop import run_to_end
from synthcl.training.networks import GanState
from synthcl.training.trainer import Trainer

CPU = torch.device("cpu")
SHORT = {"synthetic.gan.warmup_kimg": 1.0, "training.kimg": 5.0}


@dataclass(frozen=True)
class Spent:
    """Of the trials of one search, in their order: wall between two ends, and their own compute, in seconds."""

    wall: list[float]
    compute: list[float]

    @property
    def beyond(self) -> list[float]:
        return [wall - compute for wall, compute in zip(self.wall, self.compute, strict=True)]

    @property
    def later(self) -> float:
        """Median over the trials after the first, which starts what the others find."""
        return median(self.beyond[1:])


class Clock(tune.Callback):
    """Notes when trials end and what they computed."""

    def __init__(self) -> None:
        self.ends, self.compute = [time.perf_counter()], list[float]()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ends.append(time.perf_counter())
        self.compute.append(trial.last_result["seconds"])

    @property
    def spent(self) -> Spent:
        return Spent([after - before for before, after in zip(self.ends, self.ends[1:], strict=False)], self.compute)


def product(config: Config, gan: GanState, root: str, trials: int) -> Spent:
    """Trials as the confirm stage runs them."""
    storage, clock = Storage(root, config.name), Clock()
    storage.folder.mkdir(parents=True)
    plan = [{"label": f"seed{seed}", "overrides": {"training.seed": seed}} for seed in range(trials)]
    images = trials * config.training.steps * config.training.batch_images
    outlook = Outlook({"confirm": (images, 0.0)}, ["confirm"], at_a_time=1)
    page = LivePage(config, storage)
    stages._fit(config, storage, page, "confirm-1", outlook, {config.data.split_seed: gan}, Planned(plan), clock)
    return clock.spent


def nest(config: Config, gan: GanState, root: str, trials: int) -> Spent:
    """The same trials, each a TorchTrainer inside a function of Tune."""
    clock = Clock()
    tune.Tuner(
        tune.with_resources(tune.with_parameters(nested, base=config, gan=gan, root=root), {"CPU": 1}),
        param_space={"seed": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(name="nest", storage_path=root, callbacks=[clock], verbose=0),
    ).fit()
    return clock.spent


def nested(trial: dict[str, Any], base: Config, gan: GanState, root: str) -> None:
    config, compute = base.with_overrides({"training.seed": trial["seed"]}), base.compute
    ray.train.torch.TorchTrainer(
        train_on_worker,
        train_loop_config={"config": config, "gan": ray.put(gan)},
        scaling_config=ray.train.ScalingConfig(
            num_workers=compute.workers_per_trial, resources_per_worker={"CPU": compute.cpus_per_worker}
        ),
        run_config=ray.train.RunConfig(
            name=f"seed{trial['seed']}", storage_path=root, callbacks=list[Any]([TuneReportCallback()])
        ),
    ).fit()


def train_on_worker(settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    config = settings["config"]
    trainer = Trainer(config, open_split(config.data, "unlabelled", CPU).images, ray.get(settings["gan"]), CPU)
    first = ray.train.get_context().get_world_rank() == 0
    for report in run_to_end(trainer, evaluation(config, test=False)):
        with tempfile.TemporaryDirectory() as folder:
            if first:
                save(trainer, Path(folder), report)
            kept = ray.train.Checkpoint.from_directory(folder) if first else None
            ray.train.report(report.as_dict(), checkpoint=kept)


SEARCHES: dict[str, tuple[Callable[..., Spent], int]] = {"synthcl": (product, 0), "nest": (nest, 1)}
"""and how many CPUs their drivers hold"""


def alone(name: str, config: Config, gan: GanState, trials: int) -> Spent:
    """A search in a Ray of its own that has room for one trial."""
    search, driver_cpus = SEARCHES[name]
    cpus = config.compute.workers_per_trial + driver_cpus
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    ray.init("local", num_cpus=cpus, include_dashboard=True, dashboard_host="127.0.0.1", **quiet)
    try:
        with tempfile.TemporaryDirectory() as root:
            return search(config, gan, root, trials)
    finally:
        ray.shutdown()


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--workers", type=harness.comma_separated(int), help="workers of a trial; 1,2 unless quick")
    parser.add_argument("--trials", type=int, help="of each search; 5 unless quick")
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    trials = options.trials or (2 if options.quick else 5)
    base = load_preset("fashion-mini").with_overrides(SHORT | parse_overrides(options.overrides))
    gan, _ = warm_up(base, open_split(base.data, "unlabelled", CPU).images, CPU, progress=False)
    ratios: dict[str, float] = {}
    rows = []
    for workers in options.workers or ([1] if options.quick else [1, 2]):
        config = base.with_overrides({"compute.workers_per_trial": workers})
        spent = {name: alone(name, config, gan, trials) for name in SEARCHES}
        for name, each in spent.items():
            slowest, compute = max(each.beyond[1:]), median(each.compute)
            rows.append((name, workers, each.beyond[0], each.later, slowest, compute))
            ratios[f"{name}_{workers}_worker_seconds"] = each.later
        ratios[f"nest_over_synthcl_{workers}_worker"] = spent["nest"].later / spent["synthcl"].later
    header = ("search", "workers", "first trial s", "later trials s", "slowest s", "own compute s")
    harness.table(header, rows)
    harness.finish(ratios)


if __name__ == "__main__":
    main()
