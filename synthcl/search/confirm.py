"""The confirm stage: which runs are left, and the record of each that ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from ray.tune import Callback
from ray.tune.experiment import Trial

from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.report import Report
from synthcl.search import results
from synthcl.search.trial import resolve
from synthcl.training.flops import training_flops, warmup_flops


def left(trials: pd.DataFrame, config: Config, folder: Path) -> list[dict[str, Any]]:
    """The runs that have no record yet: every chosen configuration with every fresh seed.

    Args:
        trials: from `results.trials_frame`.
        config: how many are chosen, and the seeds.
        folder: of the run.
    """
    plan = []
    for name in results.chosen_names(trials, config):
        overrides = results.overrides_of(name, trials)
        for seed in results.confirm_seeds(config):
            label = f"{name}-seed{seed}"
            if not _record(folder, label).is_file():
                plan.append(
                    {"label": label, "name": name, "overrides": overrides | dict.fromkeys(results.OF_A_SEED, seed)}
                )
    return plan


class Recorder(Callback):
    """Writes the record of a run as soon as its last report arrives.

    Args:
        folder: of the run.
        stage: such as 'confirm-1'.
        base: the configuration that the runs' overrides change.
        available_images: number of unlabelled images, on which GANs are warmed up.
    """

    def __init__(self, folder: Path, stage: str, base: Config, available_images: int) -> None:
        self._folder, self._stage, self._base, self._available_images = folder, stage, base, available_images
        (folder / "confirm").mkdir(exist_ok=True)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report = Report.from_dict(result)
        if report.failure or not report.ended:
            return
        run = trial.config["run"]
        own = resolve(self._base, trial.config)
        record = {
            "name": run["name"],
            "label": run["label"],
            "overrides": run["overrides"],
            "seed": run["overrides"]["training.seed"],
            "images": report.images,
            "seconds": report.seconds,
            "flops": {"train": training_flops(own), "warm-up": warmup_flops(own, self._available_images)},
            "metrics": report.scores,
            "checkpoint": f"{self._stage}/{run['label']}",
        }
        write_whole(_record(self._folder, run["label"]), json.dumps(record, indent=2) + "\n")


def _record(folder: Path, label: str) -> Path:
    return folder / "confirm" / f"{label}.json"
