"""One trial in one process: the trainer behind Tune's class interface, so that the process is reused."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from synthcl import cluster, data
from synthcl.config import Config, DataConfig
from synthcl.curriculum import is_real_only
from synthcl.evaluation.rungs import evaluation
from synthcl.training import GanState, Metrics, Trainer, legs


class CurriculumTrial(tune.Trainable):
    """Trains one configuration, a leg per Tune iteration; weights and data of the process outlive the trial."""

    def setup(self, config: dict[str, Any], base: Config, gan: GanState | None, test: bool) -> None:  # type: ignore[override]
        """
        Args:
            config: `{"label": ..., "overrides": {dotted field: value}}`.
            base: the configuration the overrides change.
            gan: the warmed-up GAN that all trials share.
            test: whether the last rung also reads the test split (the confirm stage only).
        """
        torch.set_num_threads(max(1, int(base.compute.cpus_per_worker)))
        self._base, self._gan, self._test = base, gan, test
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        resolved = resolve(self._base, config)
        device = pick_device()
        gan = None if is_real_only(resolved) else self._gan
        self._trainer = Trainer(resolved, unlabelled_images(resolved.data, device), gan, device)
        self._legs = legs(self._trainer, evaluation(resolved, self._test))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this process: half a second where a new process costs ten."""
        self._begin(new_config)
        return True

    def step(self) -> Metrics:
        metrics = next(self._legs)
        return metrics | {"done": metrics["diverged"] or metrics["progress"] >= 1}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        self._trainer.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self._trainer.load(Path(checkpoint))
        self._legs = legs(self._trainer, evaluation(self._trainer.config, self._test))


def nested_trial(config: dict[str, Any], base: Config, gan: GanState | None, test: bool, root: str) -> None:
    """A trial of several workers: Ray Train inside Tune, its reports passed on to the scheduler."""
    resolved = resolve(base, config)
    name = f"{tune.get_context().get_experiment_name()}-{tune.get_context().get_trial_name()}"
    state = None if is_real_only(resolved) else gan
    cluster.fit(resolved, state, root, name, test=test, callbacks=[TuneReportCallback()])


def resolve(base: Config, trial_config: dict[str, Any]) -> Config:
    """The configuration of one trial; a planned run sits under `run`, Optuna's suggestion at the top."""
    return base.with_overrides(trial_config.get("run", trial_config)["overrides"])


def pick_device() -> torch.device:
    """The GPU that Ray gave this process, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=2)
def unlabelled_images(config: DataConfig, device: torch.device) -> data.ImageSource:
    """The pretraining images, opened once per process."""
    return data.open_split(config, "unlabelled", device).images
