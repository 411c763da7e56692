"""What is kept of trials that ended: the checkpoint of the best, until the confirm runs train anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray.tune import Callback
from ray.tune.experiment import Trial

from synthcl.core.errors import first_line
from synthcl.core.progress import say
from synthcl.runs import checkpoint_store
from synthcl.runs.location import below
from synthcl.search.optuna_search import load_study


class Prune(Callback):
    """Deletes the checkpoint of a trial once the study has its end, which is never trained again.

    Args:
        journal: of the study, which exists.
        root: folder or URI of the stage's trials.
    """

    def __init__(self, journal: Path, root: str) -> None:
        self._study, self._root = load_study(journal), root  # kept open: it reads on where it stopped
        self._gone: set[str] = set()
        self._told = False

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        ended = [each for each in self._study.trials if each.state.is_finished()]
        scores = {each.user_attrs["label"]: each.value for each in ended if each.state is TrialState.COMPLETE}
        best = max(scores, key=lambda label: scores[label] or 0.0, default=None)
        labels = {each.user_attrs["label"] for each in ended if "label" in each.user_attrs}
        for label in labels - {best} - self._gone:
            try:
                checkpoint_store.forget(below(self._root, label))
            except OSError as error:  # it is tried again when the next trial ends
                if not self._told:
                    say(f"checkpoints may stay: that of {label} cannot be deleted now ({first_line(error)})")
                self._told = True
            else:
                self._gone.add(label)
