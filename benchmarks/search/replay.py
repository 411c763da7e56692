"""A search replayed: searcher and scheduler are told of given learning curves, where Ray Tune would train.

Workers are simulated: all encode images at the same rate, and a free one begins the next trial at once.
"""

import heapq
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

from ray.tune.schedulers import TrialScheduler

Scores = dict[int, float]
"""score at every rung, by images seen"""
Result = dict[str, Any]


class Searcher(Protocol):
    """What Tune asks of a searcher."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None: ...
    def on_trial_result(self, trial_id: str, result: Result) -> None: ...
    def on_trial_complete(self, trial_id: str, result: Result) -> None: ...


class Listed:
    """Proposes configurations whose curves are known, from the last to the first.

    Args:
        known: overrides and the curve of each; taken from as it proposes.
    """

    def __init__(self, known: list[tuple[dict[str, Any], Scores]]) -> None:
        self._left = known
        self._scores = {json.dumps(overrides): scores for overrides, scores in known}

    def scores(self, overrides: dict[str, Any]) -> Scores:
        """The curve of one of them."""
        return self._scores[json.dumps(overrides)]

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        return {"label": trial_id, "overrides": self._left.pop()[0]} if self._left else None

    def on_trial_result(self, trial_id: str, result: Result) -> None:
        """A list learns nothing."""

    on_trial_complete = on_trial_result


@dataclass(frozen=True)
class Found:
    """How a search reached its target: the images that all its trials saw, how many had begun, and the winner."""

    images: float
    trials: int
    overrides: dict[str, Any]


@dataclass(order=True)
class _Leg:
    """A trial on its way to its next rung; time is in images that one worker encodes."""

    ends: int
    order: int
    begins: int = field(compare=False)
    trial: Any = field(compare=False)
    rungs: list[tuple[int, float]] = field(compare=False)
    rung: int = field(compare=False)


def search_until(
    target: float,
    searcher: Searcher,
    scheduler: TrialScheduler | None,
    scores_of: Callable[[dict[str, Any]], Scores],
    workers: int,
    most_trials: int,
) -> Found | None:
    """Search until a trial that spent its whole budget scores at least `target`.

    Args:
        target: score.
        searcher: proposes, and hears of every rung; None from it ends the search.
        scheduler: stops trials at rungs; none trains all of them to the end.
        scores_of: the curve of a trial with these overrides, asked once a trial.
        workers: trials at a time.
        most_trials: begins no more than these.

    Returns:
        None when no trial reached the target.
    """
    legs: list[_Leg] = []
    tune: Any = None  # no controller: these schedulers never ask it anything
    began = spent = 0

    def begin(now: int) -> None:
        nonlocal began
        config = searcher.suggest(f"id{began}") if began < most_trials else None
        if config is not None:
            trial: Any = SimpleNamespace(trial_id=f"id{began}", config=config)
            rungs = sorted(scores_of(config["overrides"]).items())
            if scheduler:
                scheduler.on_trial_add(tune, trial)
            heapq.heappush(legs, _Leg(now + rungs[0][0], began, now, trial, rungs, 0))
            began += 1

    for _ in range(workers):
        begin(0)
    while legs:
        leg = heapq.heappop(legs)
        trial, (images, score) = leg.trial, leg.rungs[leg.rung]
        spent += leg.ends - leg.begins
        budget = leg.rungs[-1][0]
        result = {"images": images, "score": score, "progress": images / budget, "diverged": False}
        if images == budget:
            if score >= target:
                under_way = sum(leg.ends - other.begins for other in legs)
                return Found(spent + under_way, began, trial.config["overrides"])
            if scheduler:
                scheduler.on_trial_complete(tune, trial, result)
        elif not scheduler or scheduler.on_trial_result(tune, trial, result) == TrialScheduler.CONTINUE:
            searcher.on_trial_result(trial.trial_id, result)
            upper = leg.rungs[leg.rung + 1][0]
            heapq.heappush(legs, _Leg(leg.ends + upper - images, leg.order, leg.ends, trial, leg.rungs, leg.rung + 1))
            continue
        searcher.on_trial_complete(trial.trial_id, result)
        begin(leg.ends)
    return None
