"""What TPE proposes next: it is asked on a copy of the study that shows every run as it is, and stays small.

In the study itself a paused run is RUNNING, which TPE would count among the bad ones; here it is PRUNED at its rung.
The copy has the best runs and the latest, so a proposal costs the same after thousands of runs as after hundreds. It is
a function of the journal alone: an interrupted search proposes what an unbroken one would.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from synthcl.search.legs import Game, Run
from synthcl.search.space import Space

BEST, LATEST = 24, 40
"""runs that TPE is shown"""

Pair = tuple[float, float]
"""what TPE is told of a run with two objectives"""


def laid_out(game: Game) -> list[Run]:
    """The best runs, complete ones first and then those of the higher rung, and the latest; in the order they began."""
    best = islice(game.furthest_first(run for run in game.runs if run.scores), BEST)
    shown = {run.number for run in [*best, *game.runs[-LATEST:]]}
    return [run for run in game.runs if run.number in shown and not run.failed]


def levels(runs: Sequence[Run]) -> dict[int, Pair]:
    """Two objectives of every run with a score, by number, in which a run of a higher rung beats all of a lower one.

    Optuna's trials with two objectives have no intermediate values, so a paused run has to be told as a complete one.
    Scores of different rungs are not comparable; each is scaled to [0, 1] over its rung, and two are added a rung.

    Args:
        runs: those that TPE is shown.
    """
    told: dict[int, Pair] = {}
    for level, rung in enumerate(sorted({run.reached for run in runs if run.scores})):
        there = [run for run in runs if run.scores and run.reached == rung]
        points = np.array([(run.scores[rung], run.transfer[rung]) for run in there])  # (n, 2)
        low, extent = points.min(axis=0), np.ptp(points, axis=0)
        scaled = 2 * level + (points - low) / np.where(extent > 0, extent, 1)
        told |= {run.number: (float(one), float(two)) for run, (one, two) in zip(there, scaled, strict=True)}
    return told


class Shown(FrozenTrial):
    """A run as TPE is shown it, whose copies share what it holds, since nothing changes it.

    Optuna copies every trial that is added to a study, which took half of the time of a proposal.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Shown:
        return copy.copy(self)


def _shown(trial: FrozenTrial, state: TrialState, values: Sequence[float] | None, scores: dict[int, float]) -> Shown:
    now = datetime.now()  # finished trials must have a time; TPE does not read it
    return Shown(
        number=-1,
        trial_id=-1,
        state=state,
        value=None,
        values=values,
        datetime_start=now,
        datetime_complete=now if state.is_finished() else None,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values=dict(scores),
    )


def view_of(trial: FrozenTrial, run: Run) -> Shown:
    """A run as TPE should see it: COMPLETE with its score, PRUNED at the rung it has reached, else RUNNING."""
    if run.standing == "complete":
        return _shown(trial, TrialState.COMPLETE, [run.scores[run.reached]], run.scores)
    state = TrialState.PRUNED if run.scores or run.standing == "out" else TrialState.RUNNING
    return _shown(trial, state, None, run.scores)


def view_of_two(trial: FrozenTrial, values: Pair | None, run: Run) -> Shown:
    """A run with two objectives as TPE should see it: COMPLETE with its values from `levels`, PRUNED without any when
    it is out before its first rung, else RUNNING."""
    unscored = TrialState.PRUNED if run.standing == "out" else TrialState.RUNNING
    return _shown(trial, unscored if values is None else TrialState.COMPLETE, values, {})


def tpe(seed: int, startup_trials: int) -> optuna.samplers.BaseSampler:
    """The sampler of one proposal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=startup_trials,
            multivariate=True,
            group=True,  # conditional dimensions: one joint model per set that occurs together
            constant_liar=True,  # runs without a score yet repel proposals of the same point
        )


def propose(
    space: Space,
    seen: Sequence[FrozenTrial],
    key: Sequence[int | str],
    startup_trials: int,
    first_point: dict[str, Any],
    *,
    pareto: bool = False,
) -> tuple[dict[str, Any], dict[str, optuna.distributions.BaseDistribution]]:
    """Values of the next run, and the distributions they were drawn from.

    Args:
        space: what is searched.
        seen: the runs so far, from `view_of` or, with two objectives, `view_of_two`.
        key: what the draw depends on beside them.
        startup_trials: runs that must have a score before TPE models the space; until then it draws at random.
        first_point: values that are taken as they are.
        pareto: whether there are two objectives.
    """
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    quiet = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        sampler = tpe(int.from_bytes(digest[:4], "little"), startup_trials)
        study = optuna.create_study(directions=["maximize"] * (1 + pareto), sampler=sampler)
        study.add_trials(seen)
        if first_point:
            study.enqueue_trial(first_point)
        trial = study.ask()
        space.sample(trial)
    finally:
        optuna.logging.set_verbosity(quiet)
    drawn = study.get_trials(deepcopy=False)[-1]
    return dict(drawn.params), dict(drawn.distributions)
