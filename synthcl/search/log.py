"""What a search shows while it runs: a line per rung, a progress bar, TensorBoard, and sample grids by progress."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from tqdm import tqdm

from synthcl import resume
from synthcl.arms import BASELINES
from synthcl.config import Config
from synthcl.errors import UserError
from synthcl.logs import RunLog
from synthcl.search.trial import label_of, place_of, resolve
from synthcl.storage import Storage


class StageLog(Callback):
    """Follows the trials of one stage on the driver, so that nothing but results has to travel.

    Args:
        base: the configuration the trials' overrides change.
        storage: where TensorBoard logs and samples go.
        stage: such as 'search-1' or 'confirm-1'.
        total: trials of the stage that are left.
    """

    def __init__(self, base: Config, storage: Storage, stage: str, total: int) -> None:
        self.base, self.storage, self.total = base, storage, total
        self.stage, self.root = stage.split("-")[0], storage.ray_uri(stage)
        self._best = (float("-inf"), "")
        self._logs: dict[str, RunLog] = {}
        self._bar: tqdm | None = None

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        self._bar = tqdm(total=self.total, desc=self.stage, unit="run", dynamic_ncols=True)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if trial.trial_id not in self._logs:
            folder = self.storage.folder / "tensorboard" / label(trial)
            self._logs[trial.trial_id] = RunLog(folder, resolve(self.base, trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._logs[trial.trial_id].report(result)
        if "score" in result:
            if self.stage == "search" and label(trial) not in BASELINES:
                self._best = max(self._best, (result["score"], label(trial)))
            state = f"diverged: {result['reason']}" if result["diverged"] else f"{result['score']:6.2f}"
            tqdm.write(f"{label(trial):<22}{result['images'] / 1000:8.1f} kimg {result['progress']:5.0%}  {state}")
        if "rolled_back" in result:
            tqdm.write(f"{label(trial):<22}{'':14} {result['rolled_back']}")
        if result["sound"] and (png := resume.samples(place_of(trial.config, self.root))):
            target = self.storage.folder / "samples" / label(trial) / f"{result['images']:012d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(png)
            self._logs[trial.trial_id].samples(png, result["images"])

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        last = trial.last_result or {}
        if not last.get("diverged") and last.get("progress", 1) < 1:
            tqdm.write(f"{label(trial):<22}{'':14} stopped early")
        self._finish(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        tqdm.write(f"{label(trial):<22}{'':14} failed; see {trial.error_file}")
        self._finish(trial)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def _finish(self, trial: Trial) -> None:
        if log := self._logs.pop(trial.trial_id, None):
            log.close()
        if self._bar is not None:
            self._bar.update()
            if self._best[1]:
                self._bar.set_postfix_str(f"best {self._best[0]:.2f} ({self._best[1]})")
        try:
            self.storage.push()
        except UserError as error:  # what could not be sent is sent with the next run's
            tqdm.write(f"{error}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_logs": {}, "_bar": None}  # open files do not travel


def label(trial: Trial) -> str:
    """The run's name in every list, folder and figure."""
    return label_of(trial.config)
