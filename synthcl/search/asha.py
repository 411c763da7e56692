"""ASHA at the config's own rungs, in images seen; baselines always run to the end."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from synthcl.comparison.arms import BASELINES
from synthcl.config.schema import Config
from synthcl.core.report import Report


def rung_images(config: Config) -> list[int]:
    """Images seen at each rung, the budget last."""
    training = config.training
    return [max(1, round(rung * training.steps)) * training.batch_images for rung in config.evaluation.rungs]


class RungScheduler(ASHAScheduler):
    """Stops a trial whose score at a rung is below the best `1 / reduction_factor` of those before it.

    Args:
        config: gives the rungs and the reduction factor.
        recorded: scores at rungs before an interruption or an extension: `{images: {label: score}}`.

    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020 (ASHA).
    """

    def __init__(self, config: Config, recorded: dict[int, dict[str, float]] | None = None) -> None:
        rungs = rung_images(config)
        super().__init__(
            time_attr="images",
            metric="score",
            mode="max",
            max_t=rungs[-1],
            grace_period=rungs[0],
            reduction_factor=config.search.reduction_factor,
            stop_last_trials=False,
        )
        # Ray spaces its rungs geometrically; ours are where runs are scored. Largest first, as Ray keeps them.
        scores = recorded or {}
        self._brackets[0]._rungs = [(images, dict(scores.get(images, {}))) for images in reversed(rungs[:-1])]

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if trial.config["label"] in BASELINES or Report.from_dict(result).failure:
            return TrialScheduler.CONTINUE
        for images, scores in self._brackets[0]._rungs:
            if images == result["images"]:
                scores.pop(trial.config["label"], None)  # told again after an interruption
        return super().on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        if trial.config["label"] not in BASELINES and not Report.from_dict(result).failure:
            super().on_trial_complete(tune_controller, trial, result)
