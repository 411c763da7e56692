"""What a search shows while it runs: a line per rung, a progress bar, TensorBoard, and sample grids by progress."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Group
from rich.table import Table

from synthcl.comparison.arms import BASELINES, EQUAL_TIME, OWN, REAL_ONLY
from synthcl.config.schema import Config
from synthcl.core.errors import UserError, first_line
from synthcl.core.progress import Progress, say
from synthcl.core.report import Report
from synthcl.core.tables import grid
from synthcl.evaluation.names import transfer
from synthcl.runs import checkpoint_store
from synthcl.runs.storage import Storage
from synthcl.runs.tensorboard import RunLog, compared_scores, decoded, hyperparameters
from synthcl.search import results
from synthcl.search.leaderboard import is_real_only
from synthcl.search.outlook import Outlook
from synthcl.search.settings import reads
from synthcl.search.trial import label_of, place_of, resolve

STANDING = 8
"""runs that a terminal shows beneath the bar"""


class StageLog(Callback):
    """Follows the trials of one stage on the driver, so that nothing but results has to travel.

    Args:
        base: the configuration the trials' overrides change.
        storage: where TensorBoard logs and samples go.
        stage: such as 'search-1' or 'confirm-1'.
        outlook: what is left to train, and how long it and the stages after it take.
        searched: fields that trials differ in.
    """

    def __init__(
        self, base: Config, storage: Storage, stage: str, outlook: Outlook, searched: Collection[str] = ()
    ) -> None:
        self.base, self.storage, self.searched = base, storage, searched
        self.kimg = sum(sum(outlook.images[name]) for name in outlook.running) / 1000
        self.stage, self.root = stage.split("-")[0], storage.ray_uri(stage)
        self._best = (float("-inf"), "")
        self._logs: dict[str, RunLog] = {}
        self._progress: Progress | None = None
        self._told = False
        self._outlook, self._planned = outlook, False
        self._heard: dict[str, int] = {}
        self._training: set[str] = set()
        self._scores: dict[str, Report] = {}
        longest = max((OWN, *BASELINES, f"{REAL_ONLY}-000", *[EQUAL_TIME] * base.search.equal_time), key=len)
        confirmed = f"{longest}-seed{max(results.confirm_seeds(base))}"
        self._width = len(confirmed if self.stage == "confirm" else longest) + 2

    @property
    def progress(self) -> Progress | None:
        """How far the stage is; None before it begins."""
        return self._progress

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        following = self._outlook.following
        self._progress = Progress(self.stage, self.kimg, "kimg", following=following, beneath=self.standing)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self._progress is not None:
            self._progress.look()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        name = label(trial)
        copied = trial.config.get("parent")
        self._training.add(name)
        self._heard.setdefault(name, trial.config.get("until" if copied else "heard", 0))
        if copied:
            say(f"{self._start(trial)}{'':14} copies {copied}")
        if name not in self._logs:
            own = resolve(self.base, trial.config)
            used = hyperparameters(own, self.base, self.searched)
            used = {field: value for field, value in used.items() if reads(own, field)}
            folder = self.storage.folder / "tensorboard" / self.stage / name
            self._logs[name] = RunLog(folder, used, compared_scores(self.base))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report, name = Report.from_dict(result), label(trial)
        self._logs[name].report(report)
        self._outlook.hear(name, is_real_only(name), report.images, report.seconds)
        if not self._planned and (plan := self._outlook.plan()):
            self._planned = True
            say(f"time       {plan}")
        if report.score is not None:
            self._scores[name] = report
            whole = report.ended and not report.failure  # rungs before the last have another measure
            if whole and self.stage == "search" and not results.is_opponent(name):
                self._best = max(self._best, (report.score, name))
            state = f"diverged: {report.failure}" if report.failure else self._scored(report)
            say(f"{self._start(trial)}{report.images / 1000:8.1f} kimg {report.progress:5.0%}  {state}")
        if report.rolled_back:
            say(f"{self._start(trial)}{'':14} {report.rolled_back}")
        if report.resumable:
            self._keep_samples(trial, report.images)
        if self._progress is not None and report.images > self._heard[name]:
            self._progress.advance((report.images - self._heard[name]) / 1000)
        self._heard[name] = max(self._heard[name], report.images)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._finish(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        say(f"{self._start(trial)}{'':14} failed; see {trial.error_file}")
        self._finish(trial)

    def standing(self) -> Table | Group:
        """What a terminal shows beneath the bar: the runs that train, then the others, the furthest and best first."""

        def rank(name: str) -> tuple[bool, float, float]:
            report = self._scores.get(name, Report())
            return name in self._training, report.progress, report.score or 0.0

        if not self._training and not self._scores:
            return Group()  # nothing yet
        table = [["run", "kimg", "done", "score", ""]]
        for name in sorted({*self._training, *self._scores}, key=rank, reverse=True)[:STANDING]:
            row, report = ["", "", ""], self._scores.get(name)
            if report is not None:
                row = [f"{report.images / 1000:.1f}", f"{report.progress:.0%}", self._scored(report).strip()]
            table.append([name, *row, "trains" if name in self._training else ""])
        return grid(table)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        if self._progress is not None:
            self._progress.close()

    def _scored(self, report: Report) -> str:
        """The score, and transfer beside it where it is a second objective."""
        second = f" {transfer(report.scores):6.2f}" if self.base.search.objective == "pareto" else ""
        return f"{report.score:6.2f}{second}"

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
            self._logs[label(trial)].samples(pixels, images)

    def _finish(self, trial: Trial) -> None:
        self._training.discard(label(trial))
        if log := self._logs.pop(label(trial), None):
            log.close()
        if self._progress is not None and self._best[1]:
            self._progress.describe(note=f"best {self._best[0]:.2f} ({self._best[1]})")
        try:
            self.storage.push()
        except UserError as error:  # what could not be sent is sent with the next run's
            say(f"{error}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_logs": {}, "_progress": None}  # open files and a terminal do not travel


def label(trial: Trial) -> str:
    """The run's name in every list, folder and figure."""
    return label_of(trial.config)


def leg_name(trial: Trial) -> str:
    """Of one leg, as Tune names its folder: the run, and the images it goes to."""
    return label(trial) + (f"@{until}" if (until := trial.config.get("until")) else "")
