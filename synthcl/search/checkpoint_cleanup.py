"""Which checkpoints of a search stay: of runs that may go on, and that of the best, until confirm runs train anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from ray.tune import Callback
from ray.tune.experiment import Trial

from synthcl.core.errors import first_line
from synthcl.core.progress import say
from synthcl.runs import checkpoint_store
from synthcl.runs.location import below
from synthcl.search import pareto
from synthcl.search.study import load_study, transfer_by_rung

FEWEST = 4
"""runs at a rung before any of its checkpoints is dropped"""
RUNS_PER_LATE_CHECKPOINT = 100
"""of so many runs, one checkpoint more may stay for a while"""


class CheckpointCleanup(Callback):
    """Deletes the checkpoint of a run that has ended, or that waits in the worse half of its rung.

    One of the worse half goes on only if the half grows far beneath it; then it is trained from its beginning, to the
    same numbers.

    Args:
        journal: of the studies, which exist.
        root: folder or URI of the stage's runs.
        all_go_on: whether every paused run of the method goes on, as in a population.
    """

    def __init__(self, journal: Path, root: str, *, all_go_on: bool = False) -> None:
        self._all_go_on = all_go_on
        self._study, self._root = load_study(journal), root  # kept open: it reads on where it stopped
        self._gone: set[str] = set()
        self._legs_until_next = 1
        self._told = False

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._legs_until_next -= 1
        if self._legs_until_next == 0:
            self._delete()

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self._delete()

    def _delete(self) -> None:
        runs = self._study.trials
        # To look at all of them takes longer the more there are.
        self._legs_until_next = 1 + len(runs) // RUNS_PER_LATE_CHECKPOINT
        for label in dropped(runs, all_go_on=self._all_go_on) - self._gone:
            try:
                checkpoint_store.forget(below(self._root, label))
            except OSError as error:  # it is tried again the next time
                if not self._told:
                    say(f"checkpoints may stay: that of {label} cannot be deleted now ({first_line(error)})")
                self._told = True
            else:
                self._gone.add(label)


def dropped(runs: list[FrozenTrial], *, all_go_on: bool = False) -> set[str]:
    """Labels of the runs whose checkpoints are not needed.

    Args:
        runs: of method and opponent.
        all_go_on: whether no paused run of the method is left behind.
    """
    labels = {run.user_attrs["label"] for run in runs if run.state.is_finished() and "label" in run.user_attrs}
    complete = {run.user_attrs["label"]: run.value for run in runs if run.state is TrialState.COMPLETE}
    labels -= {max(complete, key=lambda label: complete[label] or 0.0, default="")}
    for arm in {run.user_attrs.get("arm") for run in runs} - ({None} if all_go_on else set()):
        by_rung: dict[int, list[FrozenTrial]] = {}
        for run in runs:
            if run.user_attrs.get("arm") == arm and "diverged" not in run.user_attrs:
                for rung in run.intermediate_values:
                    by_rung.setdefault(rung, []).append(run)
        for rung, there in by_rung.items():
            if len(there) >= FEWEST:
                worse = best_first(there, rung)[(len(there) + 1) // 2 :]
                labels |= {run.user_attrs["label"] for run in worse if run.user_attrs.get("until") == rung}
    return labels


def best_first(runs: list[FrozenTrial], rung: int) -> list[FrozenTrial]:
    """Runs that have reached a rung, as the search ranks them there: by score, or by two objectives."""
    if not all(rung in transfer_by_rung(run) for run in runs):  # of one objective: no run has any
        return sorted(runs, key=lambda run: -run.intermediate_values[rung])
    points = [(run.intermediate_values[rung], transfer_by_rung(run)[rung]) for run in runs]
    return [runs[at] for at in pareto.ranked(np.array(points, dtype=float).reshape(-1, 2))]
