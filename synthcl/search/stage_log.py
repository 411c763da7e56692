"""What a search shows while it runs: a line per rung, a progress bar, TensorBoard, and sample grids by progress."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from synthcl.comparison.arms import BASELINES, CONTROL
from synthcl.config.schema import Config
from synthcl.core.errors import UserError, first_line
from synthcl.core.progress import Progress, say
from synthcl.core.report import Report
from synthcl.runs import checkpoint_store
from synthcl.runs.storage import Storage
from synthcl.runs.tensorboard import RunLog, decoded
from synthcl.search import results
from synthcl.search.trial import label_of, place_of, resolve


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
        self._progress: Progress | None = None
        self._told = False
        confirmed = f"{CONTROL}trial-000-seed{max(results.confirm_seeds(base))}"
        longest = confirmed if self.stage == "confirm" else max(BASELINES, key=len)
        self._width = len(longest) + 2

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        self._progress = Progress(self.stage, self.total, "run")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self._progress is not None:
            self._progress.look()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if trial.trial_id not in self._logs:
            folder = self.storage.folder / "tensorboard" / label(trial)
            self._logs[trial.trial_id] = RunLog(folder, resolve(self.base, trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report = Report.from_dict(result)
        self._logs[trial.trial_id].report(report)
        if report.score is not None:
            whole = report.ended and not report.failure  # rungs before the last have another measure
            if whole and self.stage == "search" and label(trial) not in BASELINES:
                self._best = max(self._best, (report.score, label(trial)))
            state = f"diverged: {report.failure}" if report.failure else f"{report.score:6.2f}"
            say(f"{self._start(trial)}{report.images / 1000:8.1f} kimg {report.progress:5.0%}  {state}")
        if report.rolled_back:
            say(f"{self._start(trial)}{'':14} {report.rolled_back}")
        if report.resumable:
            self._keep_samples(trial, report.images)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if trial.last_result and not Report.from_dict(trial.last_result).ended:
            say(f"{self._start(trial)}{'':14} stopped early")
        self._finish(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        say(f"{self._start(trial)}{'':14} failed; see {trial.error_file}")
        self._finish(trial)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        if self._progress is not None:
            self._progress.close()

    def _start(self, trial: Trial) -> str:
        return f"{label(trial):<{self._width}}"

    def _keep_samples(self, trial: Trial, images: int) -> None:
        """Copy the run's sample grid; a storage that cannot be read now costs a picture, not the search."""
        try:
            png = checkpoint_store.samples(place_of(trial.config, self.root))
            pixels = None if png is None else decoded(png)
        except (OSError, SyntaxError) as error:  # SyntaxError: what Pillow makes of a PNG that is cut short
            if not self._told:
                say(f"sample grids may be missing: that of {label(trial)} cannot be read ({first_line(error)})")
            self._told = True
            return
        if png is not None and pixels is not None:
            target = self.storage.folder / "samples" / label(trial) / f"{images:012d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(png)
            self._logs[trial.trial_id].samples(pixels, images)

    def _finish(self, trial: Trial) -> None:
        if log := self._logs.pop(trial.trial_id, None):
            log.close()
        if self._progress is not None:
            if self._best[1]:
                self._progress.describe(note=f"best {self._best[0]:.2f} ({self._best[1]})")
            self._progress.advance()
        try:
            self.storage.push()
        except UserError as error:  # what could not be sent is sent with the next run's
            say(f"{error}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_logs": {}, "_progress": None}  # open files do not travel


def label(trial: Trial) -> str:
    """The run's name in every list, folder and figure."""
    return label_of(trial.config)
