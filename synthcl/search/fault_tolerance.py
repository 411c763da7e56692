"""What a search does about failing trials and about notice to leave."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.util.placement_group import remove_placement_group

from synthcl.cluster import preemption
from synthcl.cluster.ray_internals import orphaned_placement_groups
from synthcl.core.progress import say
from synthcl.core.report import Report
from synthcl.search.trial import label_of

ORPHANS_SECONDS = 5.0
"""between two looks for what the dead still hold"""


@dataclass
class _Task:
    """What a searcher has suggested, however many Ray trials it takes."""

    first: str
    suggestion: dict[str, Any]
    furthest: int = 0
    failures: int = 0


class Retry(Searcher):
    """Suggests anew what failed: machines die at any rate, only failing at the same place again and again ends it.

    Tune's own retries are off, since they have a gap: a trial whose process dies before it begins, as when a process
    that has ended one trial is given the next, is not tried again.

    Args:
        searcher: suggests the trials, and hears of each as if it had run once.
        tries: without progress, before the searcher hears of an error.
    """

    def __init__(self, searcher: Searcher, tries: int = 3) -> None:
        super().__init__(metric=searcher.metric, mode=searcher.mode)
        self._searcher, self._tries = searcher, tries
        self._tasks: dict[str, _Task] = {}
        self._failed: list[_Task] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """What failed before, or else what the searcher suggests."""
        if self._failed:
            self._tasks[trial_id] = task = self._failed.pop(0)
            say(f"{label_of(task.suggestion)} is tried again, {task.failures + 1} of {self._tries}")
            return task.suggestion
        suggestion = self._searcher.suggest(trial_id)
        if suggestion == Searcher.FINISHED and self._tasks:
            return None  # what is under way may fail
        if isinstance(suggestion, dict):
            self._tasks[trial_id] = _Task(trial_id, suggestion)
        return suggestion

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Forgive failures where there is progress."""
        task = self._tasks[trial_id]
        if result["images"] > task.furthest:
            task.furthest, task.failures = result["images"], 0
        self._searcher.on_trial_result(task.first, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Keep what failed for the next suggestion; whatever else has ended is the searcher's."""
        task = self._tasks.pop(trial_id)
        task.failures += error
        if error and task.failures < self._tries:
            self._failed.append(task)
        else:
            self._searcher.on_trial_complete(task.first, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a search is continued from its study and its records."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""


class CheckpointOnPreemption(Callback):
    """On notice to the driver, trials keep what they have and the stage ends unfinished."""

    def __init__(self) -> None:
        self._kept: set[str] = set()
        self._deadline: float | None = None

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if Report.from_dict(result).preempted:
            self._kept.add(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if not preemption.signalled():
            return
        if self._deadline is None:
            self._deadline = time.monotonic() + preemption.LEAVE_SECONDS
            self._kept.clear()
            preemption.tell_job()
        training = {trial.trial_id for trial in trials if trial.status == Trial.RUNNING}
        if training <= self._kept or time.monotonic() > self._deadline:
            raise KeyboardInterrupt


class FreeOrphans(Callback):
    """Frees the workers' places of a Ray Train controller that is dead.

    Ray itself frees them only where the controller lived to see its workers start; else they stay taken, and whoever
    waits for room waits until the search is given up.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if time.monotonic() > self._next:
            self._next = time.monotonic() + ORPHANS_SECONDS
            for group in orphaned_placement_groups():
                remove_placement_group(group)
