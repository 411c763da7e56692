"""One trial in one process: the trainer behind Tune's class interface, so that the process is reused."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from typing import Any, cast

import torch
from ray import tune

from synthcl.cluster import preemption
from synthcl.cluster.train_workers import has_gpu
from synthcl.cluster.worker_pool import WorkerPool
from synthcl.config.schema import Config
from synthcl.core.report import Report
from synthcl.runs.location import below
from synthcl.runs.session import evaluation, reports, trainer_of
from synthcl.training.networks import Gans
from synthcl.training.trainer import Trainer


class _Leg:
    """Where a leg begins and ends, in images seen; without both it is a whole run."""

    def __init__(self, trial_config: dict[str, Any]) -> None:
        self.heard, self._until = trial_config.get("heard", 0), trial_config.get("until", math.inf)

    def unheard(self, next_report: Callable[[], Report]) -> dict[str, Any]:
        """The next report as Tune takes it; a run that goes on begins with that of its checkpoint, which is known."""
        report = next_report()
        if self.heard and report.images == self.heard and not report.ended:
            report = next_report()
        self.heard = 0
        return report.as_dict() | {"done": report.ended or report.images >= self._until}


class CurriculumTrial(tune.Trainable):
    """Trains one configuration, a leg per Tune iteration, and goes on where another process of the trial ended."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], base: Config, gans: Gans, test: bool, root: str
    ) -> None:
        """
        Args:
            config: `{"label": ..., "overrides": {dotted field: value}}`, and of a leg `heard` and `until`, images seen
                at its beginning and at its end; without them it is a whole run. A copy's first leg has the label of its
                `parent`, whose checkpoint it begins with.
            base: the configuration the overrides change.
            gans: the warmed-up GAN of each draw of images, by its seed.
            test: whether the last rung also reads the test split (the confirm stage only).
            root: folder or URI of the stage's trials.
        """
        preemption.catch_signals(signal.SIGTERM)
        self._base, self._gans, self._test, self._root = base, gans, test, root
        self._name, self._trainer = "", cast(Trainer, None)  # none yet
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this process: half a second where a new process costs ten."""
        leg, name = _Leg(new_config), label_of(new_config)
        if leg.heard and name == self._name and self._trainer.images_seen == leg.heard:
            self._leg, leg.heard = leg, 0  # the same run goes on where this process has left it
            return True
        config = resolve(self._base, new_config)
        self._trainer = trainer_of(
            config, self._gans[config.data.split_seed], torch.device("cuda" if has_gpu() else "cpu")
        )
        self._reports = reports(
            self._trainer,
            place_of(new_config, self._root),
            evaluation(config, self._test),
            preemption.checkpoint_requested,
            preemption.must_leave,
            parent_of(new_config, self._root),
        )
        self._name, self._leg = name, leg
        return True

    def step(self) -> dict[str, Any]:
        """A stretch of the leg, or the one whose report an interruption may have lost."""
        return self._leg.unheard(lambda: next(self._reports))


class WorkerPoolTrial(tune.Trainable):
    """A trial of several workers, which outlive it as the process of a `CurriculumTrial` does."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], base: Config, gans: Gans, test: bool, root: str
    ) -> None:
        """As `CurriculumTrial.setup`."""
        self._pool, self._root = WorkerPool(base, gans, root, test=test), root
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Give the next trial to the same workers."""
        self._name, self._overrides, self._heard_seconds = label_of(new_config), overrides_of(new_config), 0.0
        self._leg, self._parent = _Leg(new_config), parent_of(new_config, self._root)
        return True

    def step(self) -> dict[str, Any]:
        return self._leg.unheard(self._next)

    def _next(self) -> Report:
        report = self._pool.leg(self._name, self._overrides, self._heard_seconds, self._parent)
        self._heard_seconds = report.seconds
        return report

    def cleanup(self) -> None:
        self._pool.close()


def label_of(trial_config: dict[str, Any]) -> str:
    """The run's name in every list, folder and figure."""
    return str(trial_config.get("run", trial_config)["label"])


def place_of(trial_config: dict[str, Any], root: str) -> str:
    """Folder or URI of a trial's checkpoint under that of its stage."""
    return below(root, label_of(trial_config))


def parent_of(trial_config: dict[str, Any], root: str) -> str | None:
    """Folder or URI of the checkpoint that a copy begins with; None of any other leg."""
    return below(root, trial_config["parent"]) if "parent" in trial_config else None


def resolve(base: Config, trial_config: dict[str, Any]) -> Config:
    """The configuration of one trial."""
    return base.with_overrides(overrides_of(trial_config))


def overrides_of(trial_config: dict[str, Any]) -> dict[str, Any]:
    """What a trial changes; a planned run sits under `run`, Optuna's suggestion at the top."""
    return dict(trial_config.get("run", trial_config)["overrides"])
