"""The journal of a search: one append-only file with the studies of method and opponent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial

from synthcl.core.errors import UserError

STUDY = "synthcl"
"""what is searched; in the journal its study is called as the run, and so only by earlier versions"""
OPPONENT_STUDY = "real-only"
"""in the same journal: real images alone, tuned; there `NAME (real-only)`"""
BASELINE_STUDY = "baselines"
"""of earlier versions, in whose searches baselines ran beside the trials"""
TRANSFER = "transfer"
"""attribute of a run with two objectives: images at a rung, as text, to its transfer score"""


def journal(file: Path) -> JournalStorage:
    """The studies' store: an append-only file that only the driver touches (SQLite breaks on network drives)."""
    return JournalStorage(JournalFileBackend(str(file), lock_obj=JournalFileOpenLock(str(file))))


class RecordedStudy:
    """What the journal of a run holds; read on where it stopped each time it is asked.

    Args:
        file: of a finished or unfinished run, or of one that has not begun to search.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._storage: JournalStorage | None = None

    @property
    def trials(self) -> list[FrozenTrial]:
        """The opponent's runs, which have the attribute `arm`, then trials, each in the order they were started.

        So have the baselines of older journals, in which they may stand among the trials.
        """
        return [trial for study in self.studies for trial in study.get_trials(deepcopy=False)]

    @property
    def studies(self) -> list[optuna.Study]:
        """Those that have begun, the method's last."""
        if self._storage is None:
            if not self._file.is_file():
                return []  # and opening it would make it
            self._storage = journal(self._file)
        begun = optuna.get_all_study_names(self._storage)
        if _is_of_an_earlier_version(begun):
            begun = [name for name in (BASELINE_STUDY, OPPONENT_STUDY, STUDY) if name in begun]
        else:
            begun = sorted(begun, key=lambda name: name.endswith(_OPPONENT), reverse=True)
        return [optuna.load_study(study_name=name, storage=self._storage) for name in begun]


def name_in(storage: JournalStorage, study: str, run: str) -> str:
    """What the journal calls a study; one that an earlier version has begun keeps its name.

    Args:
        storage: of the run.
        study: `STUDY` or `OPPONENT_STUDY`.
        run: its name.
    """
    if _is_of_an_earlier_version(optuna.get_all_study_names(storage)):
        return study
    return run if study == STUDY else f"{run}{_OPPONENT}"


_OPPONENT = f" ({OPPONENT_STUDY})"
"""no name of a run ends so"""


def _is_of_an_earlier_version(names: list[str]) -> bool:
    return STUDY in names  # and so is that of a run of this name


def transfer_by_rung(trial: FrozenTrial) -> dict[int, float]:
    """Images seen to transfer score, at the rungs of a run with two objectives; empty where there is one."""
    return {int(images): value for images, value in trial.user_attrs.get(TRANSFER, {}).items()}


def load_study(file: Path) -> RecordedStudy:
    """All runs of a search."""
    return RecordedStudy(file)


def copied(file: Path) -> optuna.Study:
    """The method's study in memory, with all that Optuna's own functions read; the journal stays as it is."""
    *_, method = RecordedStudy(file).studies
    memory, quiet = optuna.storages.InMemoryStorage(), optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.copy_study(from_study_name=method.study_name, from_storage=journal(file), to_storage=memory)
    study = optuna.load_study(study_name=method.study_name, storage=memory)
    optuna.logging.set_verbosity(quiet)
    return study


def changed_by(trial: FrozenTrial) -> dict[str, Any]:
    """The overrides of a run: its values along the space, or of a copy its whole lineage."""
    return dict(trial.user_attrs.get("overrides", trial.params))


def taken_up(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """A trial that is in a study already; Optuna has no public way to it."""
    return optuna.Trial(study, trial._trial_id)


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


def end_whole(file: Path) -> None:
    """Drop a last line that a full disk or a power cut left unfinished; the next one would be appended to it."""
    if file.is_file() and not (written := file.read_bytes()).endswith(b"\n"):
        os.truncate(file, written.rfind(b"\n") + 1)
