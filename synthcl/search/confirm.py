"""The confirm stage: which runs are left, and the record of each that ends."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from ray.tune import Callback
from ray.tune.experiment import Trial

from synthcl.comparison import references
from synthcl.comparison.arms import EQUAL_TIME
from synthcl.comparison.equal_time import equal_time_kimg
from synthcl.comparison.execute import on_ray
from synthcl.comparison.records import Record
from synthcl.config.schema import Config
from synthcl.core.report import Report
from synthcl.search import leaderboard, results
from synthcl.search.trial import resolve


def left(trials: pd.DataFrame, config: Config, folder: Path) -> list[dict[str, Any]]:
    """The runs that have no record yet: every chosen configuration with every fresh seed.

    Args:
        trials: from `results.trials_frame`.
        config: how many are chosen, and the seeds.
        folder: of the run.
    """
    plan = []
    for name in results.chosen_names(trials, config):
        overrides = results.overrides_of(name, trials, config)
        for seed in results.confirm_seeds(config):
            label = results.run_label(name, seed)
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
    confirmed, seeds = results.confirm_records(folder, config), results.confirm_seeds(config)
    board = leaderboard.compare(confirmed, config, [], seeds)
    contender = board.contender
    opponent = next((row for row in board.rows if row.name == board.opponent), None)
    if contender is None or opponent is None:
        return []
    compared = {"of": contender.name, "as": opponent.name}
    made = {record.seed: record.overrides for record in confirmed if record.compared == compared}
    kimg = next((overrides["training.kimg"] for overrides in made.values()), None)
    if kimg is None:
        both = {*contender.seeds} & {*opponent.seeds}
        of_own, of_real = (
            sum(record.seconds["train"] for record in confirmed if record.arm == row.name and record.seed in both)
            for row in (contender, opponent)
        )
        if not of_real:
            return []
        kimg = equal_time_kimg(config.with_overrides(opponent.overrides).training.kimg, of_own, of_real)
    overrides = opponent.overrides | {"training.kimg": kimg}
    return [
        {"label": results.run_label(EQUAL_TIME, seed), "name": EQUAL_TIME, "compared": compared}
        | {"overrides": overrides | dict.fromkeys(results.OF_A_SEED, seed)}
        for seed in seeds
        if seed not in made
    ]


def references_left(config: Config, folder: Path) -> list[tuple[str, int]]:
    """Networks that are not trained here, by name and seed, that have not been scored yet."""
    return references.left(config, results.confirm_seeds(config), folder / references.FOLDER)


def score_references(config: Config, folder: Path) -> None:
    """Score them, each as a task of Ray.

    Raises:
        UserError: when their weights cannot be read or fetched, or do not fit.
    """
    if references_left(config, folder):
        place, say = folder / references.FOLDER, partial(print, flush=True)
        references.score_left(config, results.confirm_seeds(config), place, on_ray(config), say)


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
        (folder / results.CONFIRMED).mkdir(exist_ok=True)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report = Report.from_dict(result)
        if report.failure or not report.ended:
            return
        run = trial.config["run"]
        more = {"checkpoint": f"{self._stage}/{run['label']}", "compared": run.get("compared", {})}
        own, images = resolve(self._base, trial.config), self._available_images
        record = Record.of(own, report, run["name"], images, overrides=run["overrides"], **more)
        record.write(_record(self._folder, run["label"]))


def _record(folder: Path, label: str) -> Path:
    return folder / results.CONFIRMED / f"{label}.json"
