"""What the studies in the journal say of themselves: what was searched, and what the confirm runs found.

User attributes are always written. Notes, which optuna-dashboard shows on the pages of a study and of a trial, are
written where it is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna

from synthcl.config.schema import Config
from synthcl.core.commit import commit
from synthcl.runs import checkpoint
from synthcl.search import leaderboard
from synthcl.search.findings import Findings
from synthcl.search.study import load_study, taken_up

CONFIRMED = "confirmed"
"""attribute of a study: label of a trial to its test score over the fresh seeds"""


def describe(journal: Path, config: Config, preset: str = "") -> None:
    """Write down what is searched: preset, data, budget and version of the code.

    Args:
        journal: in which the studies have begun.
        config: of the run.
        preset: that it began with; empty where none was named.
    """
    data, training = config.data, config.training
    said = {
        "data": f"{data.source} at {data.image_size} pixels, {data.image_fraction:g} of its images",
        "a run": f"{training.steps} steps of {training.batch_images} images, {training.kimg:g} kimg",
        "search": f"{config.search.budgets:g} budgets by {config.search.algorithm}, {config.search.objective}",
        "synthcl": checkpoint.versions()["synthcl"],
    } | {key: value for key, value in (("preset", preset), ("commit", commit())) if value}
    for study in load_study(journal).studies:
        _set(study, said)
        _note(study, _listed(study.user_attrs))


def tell_confirmed(found: Findings) -> None:
    """Write the confirmed scores to the studies, and those of trials to their notes."""
    board, winner = found.board, found.winning_trial
    if board.winner is None:
        return
    measured = [row for row in board.rows if board.headline in row.scores]
    scores = {row.name: f"{row.scores[board.headline]} on test, n={len(row.seeds)}" for row in measured}
    said = {CONFIRMED: scores, "winner": board.winner.name, "verdict": leaderboard.verdict(board)[0]}
    of_trials = dict(scores)
    if winner is not None and board.winner.name in scores:
        of_trials[winner] = scores[board.winner.name]  # `joint` was a trial, too
    for study in found.study.studies:
        _set(study, said)
        _note(study, _listed(study.user_attrs))
        for trial in study.get_trials(deepcopy=False):
            name = trial.user_attrs.get("label")
            if name in of_trials:
                leads = " It is the winner by mean validation score." if name == winner else ""
                _note(taken_up(study, trial), f"Confirmed on fresh seeds: {of_trials[name]}.{leads}")


def _set(study: optuna.Study, said: dict[str, Any]) -> None:
    known = study.user_attrs
    for key, value in said.items():
        if known.get(key) != value:  # the journal only grows
            study.set_user_attr(key, value)


def _listed(attributes: dict[str, Any]) -> str:
    """As Markdown, the confirmed rows as a list of their own."""
    lines = [f"- {key}: {value}" for key, value in attributes.items() if key != CONFIRMED]
    if confirmed := attributes.get(CONFIRMED):
        lines += ["", "Confirmed, percent, mean±std over n fresh seeds:", ""]
        lines += [f"- {name}: {score}" for name, score in confirmed.items()]
    return "\n".join(lines)


def _note(of: optuna.Study | optuna.Trial, text: str) -> None:
    try:
        from optuna_dashboard import get_note, save_note
    except ImportError:
        return
    if get_note(of) != text:
        save_note(of, text)
