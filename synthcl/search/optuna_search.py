"""Optuna's studies behind Ray Tune: baselines, the preset's own point, and pruned trials told as pruned."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from synthcl.comparison.arms import ARMS, BASELINES
from synthcl.core.errors import UserError
from synthcl.core.report import Report
from synthcl.search.space import Space

STUDY = "synthcl"
BASELINE_STUDY = "baselines"
"""in the same journal; among the trials a baseline, which has no parameters, would take a good one's place in TPE"""


def journal(file: Path) -> JournalStorage:
    """The studies' store: an append-only file that only the driver touches (SQLite breaks on network drives)."""
    return JournalStorage(JournalFileBackend(str(file), lock_obj=JournalFileOpenLock(str(file))))


class RecordedStudy:
    """What the journal of a run holds; read on where it stopped each time it is asked.

    Args:
        file: of a finished or unfinished run, or of one that has not begun to search.
    """

    def __init__(self, file: Path) -> None:
        self._storage = journal(file)

    @property
    def trials(self) -> list[FrozenTrial]:
        """Baselines, then trials, each in the order they were started; a baseline has the user attribute `arm`.

        Older journals hold baselines among the trials, and so does this list of them.
        """
        begun = optuna.get_all_study_names(self._storage)
        names = [name for name in (BASELINE_STUDY, STUDY) if name in begun]
        studies = [optuna.load_study(study_name=name, storage=self._storage) for name in names]
        return [trial for study in studies for trial in study.get_trials(deepcopy=False)]


def load_study(file: Path) -> RecordedStudy:
    """The baselines and trials of a run."""
    return RecordedStudy(file)


def require_whole(file: Path) -> None:
    """Refuse to go on with a study that something damaged; a last line that was cut short is no damage.

    Raises:
        UserError: naming the file.
    """
    try:
        optuna.get_all_study_names(journal(file))
    except Exception as error:  # Optuna replays what it reads, and falls over it in any way
        raise UserError(
            f"{file} is damaged ({type(error).__name__}: {error}); restore it, or use --fresh to start over"
        ) from None


class StudySearch(Searcher):
    """Suggests the baselines first, then the preset's own configuration, then what the sampler proposes.

    Ray's own bridge to Optuna tells it that a trial stopped by the scheduler is COMPLETE with the low-fidelity score it
    had, which misleads the sampler; here such a trial is PRUNED with its step, and a diverged one is PRUNED and marked.
    Baselines have a study of their own, so that the trials proposed are the same without them.

    Args:
        space: what is searched.
        journal_file: where the studies live.
        seed: of the sampler; a continued study draws anew, so that suggestions do not repeat.
        startup_trials: random trials, beside the first point, that must end before TPE models the space; those that
            begin while these still run are random, too.
        baselines: arms to run beside the trials, once in a run.
        first_point: the preset's own values, tried first in a new study.

    The journal is all that an interrupted search is continued from: what runs there is suggested again, first.
    """

    def __init__(
        self,
        space: Space,
        journal_file: Path,
        seed: int,
        startup_trials: int,
        baselines: tuple[str, ...] = BASELINES,
        first_point: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(metric="score", mode="max")
        _end_whole(journal_file)
        self._space, storage = space, journal(journal_file)
        self._arms = optuna.create_study(
            study_name=BASELINE_STUDY, storage=storage, direction="maximize", load_if_exists=True
        )
        self.study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize", load_if_exists=True)
        proposed = self.study.get_trials(deepcopy=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = optuna.samplers.TPESampler(
                seed=seed + len(proposed),
                n_startup_trials=startup_trials + bool(first_point),
                multivariate=True,
                group=True,  # conditional dimensions: one joint model per set that occurs together
                constant_liar=True,  # trials still running repel suggestions of the same point
            )
        if first_point and not proposed:
            self.study.enqueue_trial(first_point)
        self._running: dict[str, optuna.Trial] = {}
        begun = [(study, trial) for study in (self._arms, self.study) for trial in study.get_trials(deepcopy=False)]
        self._interrupted = [(study, trial) for study, trial in begun if trial.state is TrialState.RUNNING]
        arms = {trial.user_attrs.get("arm") for _, trial in begun}
        self._baselines = [arm for arm in baselines if arm not in arms]

    @property
    def ended(self) -> int:
        """Trials and baselines that need nothing more."""
        both = [*self._arms.get_trials(deepcopy=False), *self.study.get_trials(deepcopy=False)]
        return sum(trial.state.is_finished() for trial in both)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The config of one Tune trial: its label, and the overrides proposed or those of a baseline."""
        if self._interrupted:
            trial = _taken_up(*self._interrupted.pop(0))
        elif self._baselines:
            trial = self._begin(self._baselines.pop(0))
        else:
            trial = self.study.ask()
        self._running[trial_id] = trial
        if arm := trial.user_attrs.get("arm"):
            return {"label": arm, "overrides": ARMS[arm]}
        label = f"trial-{trial.number:03d}"
        overrides = self._space.sample(trial)  # of an interrupted trial: what it was suggested before
        trial.set_user_attr("label", label)
        return {"label": label, "overrides": overrides}

    def _begin(self, arm: str) -> optuna.Trial:
        # Not by ask, which would leave a trial without a name where the driver is killed before it is marked.
        self._arms.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={"label": arm, "arm": arm}))
        return _taken_up(self._arms, self._arms.get_trials(deepcopy=False)[-1])

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record a rung's score at its images; legs that end between rungs carry none."""
        trial = self._running[trial_id]
        heard = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        report = Report.from_dict(result)
        if report.score is not None and report.images not in heard:
            trial.set_user_attr("metrics", report.scores)
            trial.set_user_attr("images", report.images)
            trial.report(report.score, report.images)  # last: where it is missing, all of it is told again

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how the trial ended: COMPLETE only with its whole budget spent."""
        trial, value = self._running[trial_id], None
        state: TrialState | None = TrialState.FAIL if error else TrialState.PRUNED
        if result and not error:
            self.on_trial_result(trial_id, result)
            report = Report.from_dict(result)
            if report.failure:
                trial.set_user_attr("diverged", report.failure)
            elif report.ended:
                value, state = report.score, None  # COMPLETE, or FAIL where the score is no number
        trial.study.tell(trial, value, state)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""


def _taken_up(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """A trial that runs in a study already; Optuna has no public way to it."""
    return optuna.Trial(study, trial._trial_id)


def _end_whole(file: Path) -> None:
    """Drop a last line that a full disk or a power cut left unfinished; the next one would be appended to it."""
    if file.is_file() and not (written := file.read_bytes()).endswith(b"\n"):
        os.truncate(file, written.rfind(b"\n") + 1)
