"""Optuna's study behind Ray Tune: baselines, the preset's own point, and pruned trials told as pruned."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch

from synthcl.arms import ARMS, BASELINES
from synthcl.errors import UserError
from synthcl.evaluation.names import is_metric
from synthcl.search.space import Space

STUDY = "synthcl"


def journal(file: Path) -> JournalStorage:
    """The study's store: an append-only file that only the driver touches (SQLite breaks on network drives)."""
    return JournalStorage(JournalFileBackend(str(file), lock_obj=JournalFileOpenLock(str(file))))


def load_study(file: Path) -> optuna.Study:
    """The study of a finished or unfinished run."""
    return optuna.load_study(study_name=STUDY, storage=journal(file))


def require_whole(file: Path) -> None:
    """Refuse to go on with a study that something damaged; a last line that was cut short is no damage.

    Raises:
        UserError: naming the file.
    """
    try:
        _exists(journal(file))
    except Exception as error:  # Optuna replays what it reads, and falls over it in any way
        raise UserError(
            f"{file} is damaged ({type(error).__name__}: {error}); restore it, or use --fresh to start over"
        ) from None


class StudySearch(OptunaSearch):
    """Suggests the baselines first, then the preset's own configuration, then what the sampler proposes.

    Ray tells Optuna that a trial stopped by its scheduler is COMPLETE with the low-fidelity score it had, which
    misleads the sampler; here such a trial is PRUNED with its step, and a diverged one is PRUNED and marked.

    Args:
        space: what is searched.
        journal_file: where the study lives.
        seed: of the sampler; a continued study draws anew, so that suggestions do not repeat.
        startup_trials: random trials before TPE models the space.
        baselines: arms to run beside the trials, once in a study.
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
        _end_whole(journal_file)
        storage = journal(journal_file)
        known = len(optuna.load_study(study_name=STUDY, storage=storage).trials) if _exists(storage) else 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed + known,
                n_startup_trials=startup_trials,
                multivariate=True,
                group=True,  # conditional dimensions: one joint model per set that occurs together
                constant_liar=True,  # trials still running repel suggestions of the same point
            )
            super().__init__(space.sample, "score", "max", None, sampler, STUDY, storage)
        trials = self.study.get_trials(deepcopy=False)
        self._interrupted = [trial for trial in trials if trial.state is TrialState.RUNNING]
        begun = {trial.user_attrs.get("arm") for trial in trials}
        self._baselines = [arm for arm in baselines if arm not in begun]
        if known == 0 and first_point:
            self.study.enqueue_trial(first_point)

    @property
    def study(self) -> optuna.Study:
        assert self._ot_study is not None
        return self._ot_study

    @property
    def ended(self) -> int:
        """Trials and baselines that need nothing more."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The config of one Tune trial: its label, the overrides and the arm of a baseline."""
        if self._interrupted:
            frozen = self._interrupted.pop(0)
            self._ot_trials[trial_id] = optuna.trial.Trial(self.study, frozen._trial_id)
            if arm := frozen.user_attrs.get("arm"):
                return {"label": arm, "overrides": ARMS[arm]}
        elif self._baselines:
            return self._suggest_baseline(trial_id, self._baselines.pop(0))
        overrides = super().suggest(trial_id)  # of an interrupted trial: what it was suggested before
        trial = self._ot_trials[trial_id]
        trial.set_user_attr("label", f"trial-{trial.number:03d}")
        return {"label": f"trial-{trial.number:03d}", "overrides": overrides}

    def _suggest_baseline(self, trial_id: str, arm: str) -> dict[str, Any]:
        # A baseline is no point of the space: it enters the study without parameters, so no model sees it. An
        # enqueued point must not be spent on it, hence add_trial in place of ask.
        self.study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={"label": arm, "arm": arm}))
        frozen = self.study.get_trials(deepcopy=False)[-1]
        self._ot_trials[trial_id] = optuna.trial.Trial(self.study, frozen._trial_id)
        return {"label": arm, "overrides": ARMS[arm]}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record a rung's score at its images; legs that end between rungs carry none."""
        trial = self._ot_trials[trial_id]
        if "score" in result and result["images"] not in trial.storage.get_trial(trial._trial_id).intermediate_values:
            trial.set_user_attr("metrics", {name: result[name] for name in result if is_metric(name)})
            trial.set_user_attr("images", result["images"])
            trial.report(result["score"], result["images"])  # last: where it is missing, all of it is told again

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how the trial ended: COMPLETE only with its whole budget spent."""
        if result and not error:
            self.on_trial_result(trial_id, result)
            if result.get("diverged"):
                self._ot_trials[trial_id].set_user_attr("diverged", result["reason"])
            if result.get("diverged") or result["progress"] < 1:
                result = None
        super().on_trial_complete(trial_id, None if error else result, error)


def _exists(storage: JournalStorage) -> bool:
    return any(study.study_name == STUDY for study in optuna.get_all_study_summaries(storage))


def _end_whole(file: Path) -> None:
    """Drop a last line that a full disk or a power cut left unfinished; the next one would be appended to it."""
    if file.is_file() and not (written := file.read_bytes()).endswith(b"\n"):
        os.truncate(file, written.rfind(b"\n") + 1)
