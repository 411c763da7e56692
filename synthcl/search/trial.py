"""One trial in one process: the trainer behind Tune's class interface, so that the process is reused."""

from __future__ import annotations

import signal
from typing import Any

import torch
from ray import tune

from synthcl.cluster import preemption
from synthcl.cluster.train_workers import has_gpu, unlabelled_images
from synthcl.cluster.worker_pool import WorkerPool
from synthcl.config.schema import Config
from synthcl.core.errors import Leaving
from synthcl.runs.checkpoint_store import keep, resume
from synthcl.runs.session import evaluation
from synthcl.runs.storage import below
from synthcl.training.loop import run_to_end
from synthcl.training.networks import GanState
from synthcl.training.trainer import Metrics, Trainer


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
        torch.set_num_threads(max(1, int(base.compute.cpus_per_worker)))
        preemption.catch_signals(signal.SIGTERM)
        self._base, self._gan, self._test, self._root = base, gan, test, root
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        resolved = resolve(self._base, config)
        device = torch.device("cuda" if has_gpu() else "cpu")
        gan = None if resolved.is_real_only else self._gan
        self._trainer = Trainer(resolved, unlabelled_images(resolved.data, device), gan, device)
        self._place = place_of(config, self._root)
        self._unheard = resume(self._trainer, self._place)
        self._legs = run_to_end(self._trainer, evaluation(resolved, self._test), preemption.checkpoint_requested)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this process: half a second where a new process costs ten."""
        self._begin(new_config)
        return True

    def step(self) -> Metrics:
        """A leg, kept before it is reported; first the one whose report an interruption may have lost."""
        metrics, self._unheard = self._unheard, None
        if metrics is None:
            if preemption.must_leave():
                raise Leaving("told to leave; the trial goes on from its checkpoint")
            metrics = next(self._legs)
            if metrics["sound"]:  # else the last good state stays
                keep(self._trainer, self._place, metrics)
        ended = metrics["diverged"] or metrics["progress"] >= 1
        return metrics | {"done": ended, "kept on notice": preemption.checkpoint_requested()}


class CrewTrial(tune.Trainable):
    """A trial of several workers, which outlive it as the process of a `CurriculumTrial` does."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], base: Config, gan: GanState | None, test: bool, root: str
    ) -> None:
        """As `CurriculumTrial.setup`."""
        self._crew = WorkerPool(base, gan, root, test=test)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Give the next trial to the same workers."""
        self._name, self._overrides, self._heard_seconds = label_of(new_config), overrides_of(new_config), 0.0
        return True

    def step(self) -> Metrics:
        metrics = self._crew.leg(self._name, self._overrides, self._heard_seconds)
        self._heard_seconds = metrics["seconds"]
        return metrics | {"done": metrics["diverged"] or metrics["progress"] >= 1}

    def cleanup(self) -> None:
        self._crew.close()


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
