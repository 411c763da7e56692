"""What TPE proposes next: it is asked on a copy of the study that shows every run as it is, and stays small.

In the study itself a paused run is RUNNING, which TPE would count among the bad ones; here it is PRUNED at its rung.
The copy has the best runs and the latest, so a proposal costs the same after thousands of runs as after hundreds. It is
a function of the journal alone: an interrupted search proposes what an unbroken one would.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from synthcl.search.legs import Run
from synthcl.search.space import Space

BEST, LATEST = 64, 128
"""runs that TPE is shown"""


def laid_out(runs: Sequence[Run]) -> list[Run]:
    """The best runs, complete ones first and then those of the higher rung, and the latest; in the order they began."""
    ranked = sorted(
        (run for run in runs if run.scores),
        key=lambda run: (run.standing != "complete", -run.reached, -run.scores[run.reached]),
    )
    shown = {run.number for run in [*ranked[:BEST], *runs[-LATEST:]]}
    return [run for run in runs if run.number in shown and not run.failed]


def view_of(trial: FrozenTrial, run: Run) -> FrozenTrial:
    """A run as TPE should see it: COMPLETE with its score, PRUNED at the rung it has reached, else RUNNING."""
    if run.standing == "complete":
        state, value = TrialState.COMPLETE, run.scores[run.reached]
    else:
        value, state = None, TrialState.PRUNED if run.scores or run.standing == "out" else TrialState.RUNNING
    return optuna.trial.create_trial(
        state=state,
        value=value,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=run.scores,
    )


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
) -> tuple[dict[str, Any], dict[str, optuna.distributions.BaseDistribution]]:
    """Values of the next run, and the distributions they were drawn from.

    Args:
        space: what is searched.
        seen: the runs so far, from `view_of`.
        key: what the draw depends on beside them.
        startup_trials: runs that must have a score before TPE models the space; until then it draws at random.
        first_point: values that are taken as they are.
    """
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    quiet = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        sampler = tpe(int.from_bytes(digest[:4], "little"), startup_trials)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(seen)
        if first_point:
            study.enqueue_trial(first_point)
        trial = study.ask()
        space.sample(trial)
    finally:
        optuna.logging.set_verbosity(quiet)
    drawn = study.get_trials(deepcopy=False)[-1]
    return dict(drawn.params), dict(drawn.distributions)
