"""The search behind Ray Tune: a Ray trial is a leg of a run, and Optuna's journal holds all that is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from synthcl.comparison.arms import ARMS
from synthcl.core.progress import say
from synthcl.core.report import Report
from synthcl.search.contest import Contest, Field
from synthcl.search.legs import Run
from synthcl.search.study import end_whole, journal
from synthcl.search.time_limit import TimeLimit


class StudySearch(Searcher):
    """Says which leg of which run a Ray trial trains: first what was interrupted, then what the algorithm names.

    The journal is the only state. How far a run is sent is written there before its leg begins and its score when it
    arrives; so whatever is killed, what was begun and not reported is given out again, and nothing is trained twice.
    To Optuna a run is RUNNING until its budget is spent (COMPLETE), it diverges or is given up (PRUNED) or fails.

    Args:
        contests: studies that share the workers; each is given legs in proportion to its budget.
        journal_file: where the studies live.
        limit: of time; when it is over, only what is to be confirmed is completed.
    """

    def __init__(self, contests: Sequence[Contest], journal_file: Path, limit: TimeLimit | None = None) -> None:
        super().__init__(metric="score", mode="max")
        end_whole(journal_file)
        storage = journal(journal_file)
        self._fields = [Field(contest, storage) for contest in contests]
        self._interrupted = [(field, run) for field in self._fields for run in field.runs if run.standing == "training"]
        self._legs: dict[str, tuple[Field, Run]] = {}
        self._limit = limit

    @property
    def left_images(self) -> dict[str, float]:
        """What each study has not spent of its budget, by its name."""
        return {
            field.contest.study: field.contest.budgets * field.contest.rungs[-1]
            - sum(run.trained for run in field.runs)
            for field in self._fields
        }

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """The config of one leg: label and overrides of the run, images it has been heard of at and images it goes to;
        of a leg that copies also the label of the parent.

        None means that legs under way decide what comes next, `Searcher.FINISHED` that nothing does.
        """
        if self._interrupted:
            field, run = self._interrupted.pop(0)
        elif (found := self._next()) is not None:
            field, run = found
        else:
            return None if self._legs else Searcher.FINISHED
        self._legs[trial_id] = field, run
        begins_with = {}
        if run.parent is not None and not run.reached:
            begins_with = {"parent": field.label(field.runs[run.parent])}
        return {
            "label": field.label(run),
            "overrides": field.overrides(run) | ARMS[field.contest.arm],
            "heard": run.reached,
            "until": run.until,
        } | begins_with

    def _next(self) -> tuple[Field, Run] | None:
        """A leg of the contest that has used the smallest share of its budget."""
        if self._limit is not None:
            speeds = [field.seconds_an_image for field in self._fields if field.seconds_an_image is not None]
            needed = sum(field.game.needed() for field in self._fields)
            if self._limit.is_over(max(speeds, default=None), needed):
                say("the time is needed for what must follow: no more legs than that takes")
                self._limit = None
                for field in self._fields:
                    field.close()
        for field in sorted(self._fields, key=lambda field: field.share_used):
            if field.is_hopeless:
                continue
            if (leg := field.contest.next_leg(field.game)) is not None:
                return field, field.send(leg)
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record a rung's score at its images; reports between rungs carry none."""
        field, run = self._legs[trial_id]
        field.hear(run, Report.from_dict(result))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The end of a leg, which is seldom that of the run."""
        field, run = self._legs[trial_id]
        if result and not error:
            field.hear(run, Report.from_dict(result))
        del self._legs[trial_id]
        field.end(run, None if error or not result else Report.from_dict(result))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""
