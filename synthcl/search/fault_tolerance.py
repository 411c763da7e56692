"""What a search does about failing trials and about notice to leave."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.util.placement_group import remove_placement_group

from synthcl.cluster import preemption
from synthcl.cluster.ray_internals import orphaned_placement_groups
from synthcl.core.report import Report

ORPHANS_SECONDS = 5.0
"""between two looks for what the dead still hold"""


class ForgiveProgress(Callback):
    """A trial that got further may fail again: machines die at any rate, only failing at the same place ends it."""

    def __init__(self) -> None:
        self._furthest: dict[str, int] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if result["images"] > self._furthest.get(trial.trial_id, 0):
            self._furthest[trial.trial_id] = result["images"]
            trial.run_metadata.num_failures = 0


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
