"""What a run left in its folder, as data frames: the study's trials, their learning curves, the confirm runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from synthcl.comparison.arms import ARMS, OWN, REAL_ONLY, apply_arm, arm_overrides, baselines
from synthcl.comparison.records import Record, read_all
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.evaluation import names
from synthcl.search import hand_over, pareto
from synthcl.search.study import RecordedStudy, changed_by, load_study

JOURNAL = "study.journal"
CONFIRMED = "confirm"
"""folder of the records of the confirm runs"""
FIRST_FRESH_SEED = 1000
"""confirm seeds are training.seed + 1000, + 1001, ...: none that a trial was chosen with"""

OF_A_SEED = ("training.seed", "data.split_seed")
"""what a fresh seed decides: a confirm run is a whole repetition, with images, labels and GAN of its own"""

FEWEST_RATED = 24
"""Scored trials below which chance decides importances: a field that explains half of the scores' variance ranks first
of nine in 0.3 of simulated searches of 8 trials, in 0.5 of 12 and in 0.96 of 24."""

FIRST_RUNG = "first rung"
LAST_RUNG = "whole budget"

_TRIAL_COLUMNS = (
    "label",
    "baseline",
    "state",
    "reason",
    "images",
    "score",
    "linear",
    "transfer",
    "overrides",
    "curve",
    "rungs",
    "finished",
    "spent_images",
    "parent",
)


def open_study(folder: Path) -> RecordedStudy:
    """The run's study.

    Raises:
        UserError: when the folder has none.
    """
    file = folder / JOURNAL
    if not file.is_file():
        raise UserError(f"run {str(folder)!r}: there is no file {JOURNAL} there; start the run with tune/search.py")
    return load_study(file)


def trials_frame(study: RecordedStudy, config: Config) -> pd.DataFrame:
    """One row a trial, baselines included, in the order they were started.

    Args:
        study: of the run.
        config: names the data set whose linear score is shown.

    Returns:
        label; baseline (bool): whether it is of real-only; state: complete, pruned, diverged, failed, running, paused
        (not sent beyond the rung it has reached) or waiting; reason of a
        divergence; images seen; score at the last rung, in percent (none before the first and after a divergence);
        linear and transfer on validation (complete trials only); overrides (none of a baseline);
        curve {images: score}; rungs {images: score} by the measure of the early rungs alone, which a run of an
        earlier version lacks at its last; finished (time); spent_images of its side when it was last
        heard of; parent: of a copy the number of the run it has gone on from, else none.
    """
    rows: list[dict[str, Any]] = []
    linear, transfer = f"val/{names.headline(config)}", "val/transfer/mean"
    for trial in study.trials:
        attributes = trial.user_attrs
        metrics = names.renamed(attributes.get("metrics", {}), config)
        curve = dict(sorted(trial.intermediate_values.items()))
        if "diverged" in attributes:
            curve.pop(attributes["images"], None)  # the 0 of a run that could not be scored
        complete = trial.state is TrialState.COMPLETE
        rows.append(
            {
                "label": attributes.get("label", f"trial-{trial.number:03d}"),
                "baseline": "arm" in attributes,
                "state": _state(trial),
                "reason": attributes.get("diverged", ""),
                "images": attributes.get("images", 0),
                "score": trial.value if complete else next(reversed(curve.values()), None),
                "linear": metrics.get(linear) if complete else None,
                "transfer": metrics.get(transfer) if complete else None,
                "overrides": changed_by(trial),
                "curve": curve,
                "rungs": _rungs(curve, metrics, last=linear in metrics or transfer in metrics),
                "finished": trial.datetime_complete,
                "spent_images": attributes.get("spent"),
                "parent": attributes.get("parent"),
            }
        )
    frame = pd.DataFrame(rows, columns=list(_TRIAL_COLUMNS))
    return frame.astype({"baseline": bool, "score": float, "linear": float, "transfer": float, "spent_images": float})


def _rungs(curve: dict[int, float], metrics: dict[str, Any], *, last: bool) -> dict[int, float]:
    """A curve by the measure of the early rungs; `last`: whether the metrics are those of the last rung."""
    if not last or not curve:
        return curve
    *early, (images, _) = curve.items()
    return dict(early) | ({images: metrics["rung_score"]} if "rung_score" in metrics else {})


def _state(trial: FrozenTrial) -> str:
    if "diverged" in trial.user_attrs:
        return "diverged"
    if trial.state is TrialState.RUNNING and trial.user_attrs.get("until", math.inf) in trial.intermediate_values:
        return "paused"
    return {TrialState.FAIL: "failed"}.get(trial.state, trial.state.name.lower())


def confirm_records(folder: Path, config: Config) -> list[Record]:
    """The records of the finished confirm runs, which all have the same number of images."""
    found = read_all(folder / CONFIRMED, config)
    images = max((record.images for record in found), default=0)  # an earlier version did not say
    return [record.model_copy(update={"images": images}) for record in found]


def run_label(name: str, seed: int) -> str:
    """A confirm run's name in every list, folder and figure."""
    return f"{name}-seed{seed}"


def chosen_names(trials: pd.DataFrame, config: Config) -> list[str]:
    """What is due to be confirmed: the baselines, the configuration's own curriculum, the best ones, and the best ones
    of real images alone."""
    return [*baselines(config), OWN, *best_names(trials, config), *best_opponents(trials, config)]


def best_names(trials: pd.DataFrame, config: Config) -> list[str]:
    """The trials to confirm, best first; the one that is the configuration itself is none of them.

    They are what `hand_over.best_first` takes of those that are complete or paused or, of two objectives, what
    `pareto.hand_over` takes of the complete ones. Of a population both kinds are among them, to show what copying
    gains: the best copy and the best that has never copied, last where they are not among the best.
    """
    searched = trials[~trials.baseline]
    best = list(_best(searched, config, config))
    if config.search.algorithm == "population":
        for kind in (searched.parent.isna(), searched.parent.notna()):
            found = list(_best(searched[kind], config, config))
            if found and not {*found} & {*best}:
                best.append(found[0])
    return best


def best_opponents(trials: pd.DataFrame, config: Config) -> list[str]:
    """The runs of the opponent likewise; the configuration's own real-only is none of them."""
    return list(_best_opponents(trials, config))


def front_roles(trials: pd.DataFrame, config: Config) -> dict[str, str]:
    """What each of `best_names` and `best_opponents` is on the front of its side, such as `knee`.

    Empty where the search has one objective; without those that only rank next.
    """
    both = _best(trials[~trials.baseline], config, config) | _best_opponents(trials, config)
    return {name: role for name, role in both.items() if role}


def _best_opponents(trials: pd.DataFrame, config: Config) -> dict[str, str]:
    return _best(trials[trials.label.map(is_opponent).astype(bool)], apply_arm(config, REAL_ONLY), config)


def _best(trials: pd.DataFrame, own: Config, config: Config) -> dict[str, str]:
    """Label to role on the front."""
    others = trials.loc[[row.Index for row in trials.itertuples() if own.with_overrides(row.overrides) != own]]
    if config.search.objective != "pareto":
        alive = others[others.state.isin(["complete", "paused"])]
        curves = dict(zip(alive.label, alive.curve, strict=True))
        return dict.fromkeys(hand_over.best_first(curves, config.search.confirm_top), "")
    complete = others[others.state == "complete"].sort_values("score", ascending=False, kind="stable")
    taken = pareto.hand_over(complete[["linear", "transfer"]].to_numpy(), config.search.confirm_top)
    return {complete.label.iloc[at]: role for at, role in taken.items()}


def is_opponent(name: str) -> bool:
    """Whether a run is one of real images alone that the search has tuned, such as `real-only-004`."""
    return name.startswith(f"{REAL_ONLY}-")


def overrides_of(name: str, trials: pd.DataFrame, config: Config) -> dict[str, Any]:
    """The overrides of one of `chosen_names`, for the configuration that was searched."""
    searched = dict(zip(trials.label, trials.overrides, strict=True))
    arm = REAL_ONLY if is_opponent(name) else name
    return searched.get(name, {}) | (arm_overrides(arm, config) if arm in ARMS else {})


def confirm_seeds(config: Config) -> list[int]:
    """The seeds that every chosen configuration is due to be trained with."""
    return [config.training.seed + FIRST_FRESH_SEED + offset for offset in range(config.search.confirm_seeds)]


def best_so_far(trials: pd.DataFrame) -> pd.DataFrame:
    """What the search had found when it had spent so many images.

    Args:
        trials: from `trials_frame`; baselines and trials that still run do not count.

    Returns:
        Trials in the order they ended, with `spent_images` (of all so far, those that wait or ended early too)
        and `best` (score of the best complete one so far; none before the first).
    """
    ended = trials[~trials.baseline & trials.finished.notna()].sort_values("finished", kind="stable")
    best = ended.score.where(ended.state == "complete").cummax().ffill()
    spent = ended.spent_images.where(ended.spent_images.notna(), ended.images.cumsum())  # as earlier versions counted
    return ended.assign(spent_images=spent, best=best)


def pareto_front(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other row beats in `linear` and `transfer` together, by rising `linear`."""
    measured = frame.dropna(subset=["linear", "transfer"]).sort_values(["linear", "transfer"], ascending=False)
    highest_before = measured.transfer.cummax().shift(fill_value=float("-inf"))
    return measured[measured.transfer > highest_before].iloc[::-1]


def importances(study: RecordedStudy | optuna.Study) -> tuple[dict[str, float], str, int]:
    """How much each searched field explains of the scores' spread (functional ANOVA over a random forest).

    Baselines, diverged trials and copies are left out. With `FEWEST_RATED` complete trials or more their final scores
    are explained; with fewer, the scores of all trials at the first rung, where none is missing. Fields that exist only
    under a condition are not rated, for they are not in every trial.

    Returns:
        {field: share, largest first}, "whole budget" or "first rung", and the number of trials.

    Raises:
        ValueError: saying why it cannot be computed.

    Source: Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014.
    """
    trials = [t for t in study.trials if not {"arm", "diverged", "parent"} & t.user_attrs.keys()]
    scores = [(t, t.value) for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
    where = LAST_RUNG
    if len(scores) < FEWEST_RATED:
        scored = [t for t in trials if t.intermediate_values]
        rung = min((min(t.intermediate_values) for t in scored), default=0)
        scores = [(t, t.intermediate_values[rung]) for t in scored if rung in t.intermediate_values]
        where = FIRST_RUNG
    if len(scores) < FEWEST_RATED:
        raise ValueError(f"importances need at least {FEWEST_RATED} trials with a score, and there are {len(scores)}")
    if len({score for _, score in scores}) == 1:
        raise ValueError("all trials have the same score")
    quiet = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    copy = optuna.create_study(direction="maximize")
    optuna.logging.set_verbosity(quiet)
    copy.add_trials(
        [optuna.trial.create_trial(params=t.params, distributions=t.distributions, value=score) for t, score in scores]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(copy, evaluator=evaluator)
    if not shares:
        raise ValueError("no searched field is in every trial with more than one value")
    return shares, where, len(scores)
