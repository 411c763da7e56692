"""Weights & Biases and MLflow beside TensorBoard (`search.log_to`), through Ray's own callbacks.

To Ray a leg is a trial; a tracker is to show runs. So its callback is given a run once, and what all its legs report.
Keys stay where the tracker itself looks for them: in the environment, or where its own login has put them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.logger import LoggerCallback

from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError, first_line
from synthcl.core.progress import say
from synthcl.core.report import Report
from synthcl.runs.storage import Storage
from synthcl.runs.tensorboard import Value, hyperparameters
from synthcl.search.settings import reads
from synthcl.search.trial import label_of, resolve

PACKAGES = {"wandb": "wandb", "mlflow": "mlflow-skinny"}
"""tracker, which is its module, too, to what pip installs"""

WAITING = 8
"""runs between two legs that stay open; to W&B each is a process, and the longest waiting are resumed by their id"""


@dataclass(eq=False)
class TrackedRun:
    """What Ray's callbacks read of a trial, of a whole run."""

    label: str
    trial_id: str
    config: dict[str, Value]
    local_path: str
    experiment_dir_name: str
    told: int = field(default=-1)
    """images at the last point"""
    failed: bool = False
    """whether its last leg did, which may be tried again"""

    def __str__(self) -> str:
        return self.label


class Tracker(Callback):
    """Follows the runs of one stage with a callback of Ray.

    A tracker that cannot be reached costs its curves, not the search: the first failure is told.

    Args:
        logger: of Ray.
        name: of the tracker.
        base: the configuration the trials' overrides change.
        folder: of the run.
        stage: such as 'search-1'.
        searched: fields that trials differ in.
        all_points: whether every logged point is sent, or the last one of a report with its scores.
    """

    def __init__(
        self,
        logger: LoggerCallback,
        name: str,
        base: Config,
        folder: Path,
        stage: str,
        searched: Collection[str] = (),
        *,
        all_points: bool = False,
    ) -> None:
        self._logger, self._name, self._base, self._folder = logger, name, base, folder
        self._stage, self._searched, self._all_points = stage.split("-")[0], searched, all_points
        self._id = search_id(folder)
        self._open: dict[str, TrackedRun] = {}
        self._waiting: list[str] = []
        self._failed = False

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        self._do(self._logger.setup)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        name = label_of(trial.config)
        self._waiting = [other for other in self._waiting if other != name]
        if name not in self._open:
            own = resolve(self._base, trial.config)
            used = hyperparameters(own, self._base, self._searched)
            used = {path: value for path, value in used.items() if reads(own, path)}
            run = TrackedRun(name, f"{name}-{self._id}", used, str(self._folder), self._stage)
            self._open[name] = run
            self._do(self._logger.log_trial_start, run)
        self._open[name].failed = False

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report, run = Report.from_dict(result), self._open[label_of(trial.config)]
        points = {int(point["images"]): dict(point) for point in report.history} if self._all_points else {}
        points.setdefault(report.images, dict(report.statistics)).update(report.scores)
        for images, values in sorted(points.items()):
            if images > run.told:
                run.told = images
                values |= {"images": images, "training_iteration": images}
                if self._name == "mlflow":
                    values = _plainly_named(values)
                self._do(self._logger.log_trial_result, iteration, run, values)
        if report.ended:
            run.failed = bool(report.failure)
            self._close(run.label)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        name = label_of(trial.config)
        if name in self._open:  # the end of a leg
            self._waiting.append(name)
            for longest in self._waiting[:-WAITING]:
                self._close(longest)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if (run := self._open.get(label_of(trial.config))) is not None:
            run.failed = True
        self.on_trial_complete(iteration, trials, trial)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        for name in list(self._open):
            self._close(name)
        self._do(self._logger.on_experiment_end, trials, **info)

    def _close(self, name: str) -> None:
        self._waiting = [other for other in self._waiting if other != name]
        if (run := self._open.pop(name, None)) is not None:
            self._do(self._logger.log_trial_end, run, failed=run.failed)

    def _do(self, action: Callable[..., Any], *given: Any, **named: Any) -> None:
        try:
            action(*given, **named)
        except Exception as error:  # whatever a tracker's client raises
            if not self._failed:
                say(f"{self._name} may miss some of this search: {type(error).__name__}: {first_line(error)}")
            self._failed = True


def trackers(config: Config, storage: Storage, stage: str, searched: Collection[str] = ()) -> list[Tracker]:
    """The callbacks of a stage that the configuration asks for."""
    made = []
    for name in config.search.log_to:
        logger = _wandb(config, storage.folder, stage) if name == "wandb" else _mlflow(config, storage.folder, stage)
        made.append(Tracker(logger, name, config, storage.folder, stage, searched, all_points=name == "wandb"))
    return made


def require_trackers(config: Config) -> None:
    """Refuse a tracker that is not installed, has no key, or cannot be reached.

    Raises:
        UserError: with the command that mends it.
    """
    for name in config.search.log_to:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"search.log_to has {name!r}, which is not installed; pip install {PACKAGES[name]}, or leave it out"
            )
    if "wandb" in config.search.log_to:
        try:
            _wandb(config, Path(), "search").setup()
        except (ValueError, RuntimeError) as error:
            raise UserError(
                f"search.log_to has 'wandb': {first_line(error)}; type wandb login, or export WANDB_API_KEY, or "
                "WANDB_MODE=offline"
            ) from None
    if "mlflow" in config.search.log_to and (place := os.environ.get("MLFLOW_TRACKING_URI")):
        from mlflow import MlflowClient

        try:
            MlflowClient(place).search_experiments(max_results=1)
        except Exception as error:  # of the server, the database or the client
            raise UserError(
                f"search.log_to has 'mlflow': MLFLOW_TRACKING_URI={place!r} does not answer ({first_line(error)}); "
                "correct it, or unset it to log into the run's folder"
            ) from None


def search_id(folder: Path) -> str:
    """A few letters that tell this search from others of its name; the same when it goes on."""
    file = folder / "tracked.txt"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, secrets.token_hex(4) + "\n")
    return file.read_text().strip()


def _wandb(config: Config, folder: Path, stage: str) -> LoggerCallback:
    """A project of the run's name with the stages as groups; files that wait to be sent go into `folder/wandb`."""
    from ray.air.integrations.wandb import WandbLoggerCallback

    project = os.environ.get("WANDB_PROJECT", config.name)
    kind = stage.split("-")[0]
    return WandbLoggerCallback(project=project, group=f"{config.name} {kind}", dir=str(folder), resume="allow")


def _mlflow(config: Config, folder: Path, stage: str) -> LoggerCallback:
    """An experiment of the run's name with the stages as tags; in `folder/mlflow.db` where no server is named."""
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    place = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').absolute()}")
    tags = {"stage": stage.split("-")[0], "search": search_id(folder)}
    return MLflowLoggerCallback(tracking_uri=place, experiment_name=config.name, tags=tags)


def _plainly_named(values: dict[str, float]) -> dict[str, float]:
    """Without the signs that MLflow refuses in a name: `val/linear/cifar10@10` is `val/linear/cifar10:10`."""
    return {re.sub(r"[^\w./: -]", ":", name): value for name, value in values.items()}
