"""One trial in one process: the trainer behind Tune's class interface, so that the process is reused."""

from __future__ import annotations

import signal
from typing import Any

import torch
from ray import tune

from synthcl.cluster import preemption
from synthcl.cluster.train_workers import has_gpu
from synthcl.cluster.worker_pool import WorkerPool
from synthcl.config.schema import Config
from synthcl.core.report import Report
from synthcl.runs.location import below
from synthcl.runs.session import evaluation, reports, trainer_of
from synthcl.training.networks import GanState


class CurriculumTrial(tune.Trainable):
    """Trains one configuration, a leg per Tune iteration, and goes on where another process of the trial ended."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], base: Config, gan: GanState | None, test: bool, root: str
    ) -> None:
        """
        Args:
            config: `{"label": ..., "overrides": {dotted field: value}}`.
            base: the configuration the overrides change.
            gan: the warmed-up GAN that all trials share.
            test: whether the last rung also reads the test split (the confirm stage only).
            root: folder or URI of the stage's trials.
        """
        preemption.catch_signals(signal.SIGTERM)
        self._base, self._gan, self._test, self._root = base, gan, test, root
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this process: half a second where a new process costs ten."""
        config = resolve(self._base, new_config)
        self._trainer = trainer_of(config, self._gan, torch.device("cuda" if has_gpu() else "cpu"))
        self._reports = reports(
            self._trainer,
            place_of(new_config, self._root),
            evaluation(config, self._test),
            preemption.checkpoint_requested,
            preemption.must_leave,
        )
        return True

    def step(self) -> dict[str, Any]:
        """A leg, or the one whose report an interruption may have lost."""
        return _result(next(self._reports))


class WorkerPoolTrial(tune.Trainable):
    """A trial of several workers, which outlive it as the process of a `CurriculumTrial` does."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], base: Config, gan: GanState | None, test: bool, root: str
    ) -> None:
        """As `CurriculumTrial.setup`."""
        self._pool = WorkerPool(base, gan, root, test=test)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Give the next trial to the same workers."""
        self._name, self._overrides, self._heard_seconds = label_of(new_config), overrides_of(new_config), 0.0
        return True

    def step(self) -> dict[str, Any]:
        report = self._pool.leg(self._name, self._overrides, self._heard_seconds)
        self._heard_seconds = report.seconds
        return _result(report)

    def cleanup(self) -> None:
        self._pool.close()


def _result(report: Report) -> dict[str, Any]:
    return report.as_dict() | {"done": report.ended}


def label_of(trial_config: dict[str, Any]) -> str:
    """The run's name in every list, folder and figure."""
    return str(trial_config.get("run", trial_config)["label"])


def place_of(trial_config: dict[str, Any], root: str) -> str:
    """Folder or URI of a trial's checkpoint under that of its stage."""
    return below(root, label_of(trial_config))


def resolve(base: Config, trial_config: dict[str, Any]) -> Config:
    """The configuration of one trial."""
    return base.with_overrides(overrides_of(trial_config))


def overrides_of(trial_config: dict[str, Any]) -> dict[str, Any]:
    """What a trial changes; a planned run sits under `run`, Optuna's suggestion at the top."""
    return dict(trial_config.get("run", trial_config)["overrides"])
