"""The confirm stage: which runs are left, and the record of each that ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from ray.tune import Callback
from ray.tune.experiment import Trial

from synthcl.comparison.arms import EQUAL_TIME
from synthcl.comparison.equal_time import equal_time_kimg
from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.report import Report
from synthcl.search import leaderboard, results
from synthcl.search.trial import resolve
from synthcl.training.flops import training_flops, warmup_flops

_COMPARED = ("of", "as")
"""of a run in equal time: whose time it has, and which real-only it is"""


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


def equal_time_left(config: Config, folder: Path) -> list[dict[str, Any]]:
    """The runs without a record of the best real-only found, for as long as the best of the method trains.

    The time is that of training, without scoring, over the seeds that both have. A budget that a record of the same two
    has is kept.

    Args:
        config: the seeds, and the budget of all other runs.
        folder: of the run, with the records of those two.

    Returns:
        As of `left`; none where one of the two has not been confirmed.
    """
    confirmed, seeds = results.confirm_frame(folder), results.confirm_seeds(config)
    board = leaderboard.compare(confirmed, config, [], seeds)
    contender = board.contender
    opponent = next((row for row in board.rows if row.name == board.opponent), None)
    if contender is None or opponent is None:
        return []
    compared = {"of": contender.name, "as": opponent.name}
    files = {seed: _record(folder, f"{EQUAL_TIME}-seed{seed}") for seed in seeds}
    written = {seed: json.loads(file.read_text()) for seed, file in files.items() if file.is_file()}
    made = {seed: record for seed, record in written.items() if record.items() >= compared.items()}
    kimg = next((record["overrides"]["training.kimg"] for record in made.values()), None)
    if kimg is None:
        both = sorted({*contender.seeds} & {*opponent.seeds})
        timed = confirmed[confirmed.seed.isin(both)].groupby("name").train_seconds.sum()
        if not both or not timed[opponent.name]:
            return []
        own = config.with_overrides(opponent.overrides).training.kimg
        kimg = equal_time_kimg(own, timed[contender.name], timed[opponent.name])
    overrides = opponent.overrides | {"training.kimg": kimg}
    return [
        {"label": files[seed].stem, "name": EQUAL_TIME}
        | {"overrides": overrides | dict.fromkeys(results.OF_A_SEED, seed)}
        | compared
        for seed in seeds
        if seed not in made
    ]


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
            "train_seconds": report.seconds - report.scoring_seconds,
            "flops": {"train": training_flops(own), "warm-up": warmup_flops(own, self._available_images)},
            "metrics": report.scores,
            "checkpoint": f"{self._stage}/{run['label']}",
        } | {key: run[key] for key in _COMPARED if key in run}
        write_whole(_record(self._folder, run["label"]), json.dumps(record, indent=2) + "\n")


def _record(folder: Path, label: str) -> Path:
    return folder / "confirm" / f"{label}.json"
