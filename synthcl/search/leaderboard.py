"""The comparison of the confirmed configurations: mean and spread over seeds, paired differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

import pandas as pd

from synthcl.comparison.arms import BASELINES, CONTROL, OWN, REAL_ONLY
from synthcl.comparison.bootstrap import Estimate, Statistic, mean_difference
from synthcl.config.schema import Config
from synthcl.evaluation import names

_BySeed = dict[int, dict[str, float]]
"""seed -> scores by metric"""


@dataclass(frozen=True)
class Row:
    """One configuration, retrained on fresh seeds."""

    name: str
    overrides: dict[str, Any]
    seeds: tuple[int, ...]
    missing_seeds: tuple[int, ...]
    images: int
    scores: dict[str, Statistic]
    difference: dict[str, Estimate]
    """to the reference, over the seeds that both have"""

    @property
    def is_baseline(self) -> bool:
        return _is_baseline(self.name)

    def score(self, metric: str) -> float:
        return self.scores[metric].mean if metric in self.scores else nan


@dataclass(frozen=True)
class Leaderboard:
    """The rows, best mean validation score first; `best` names a row by what it leads in, on validation."""

    rows: tuple[Row, ...]
    columns: dict[str, str]
    differences: dict[str, str]
    objective: str
    best: dict[str, str]
    unconfirmed: tuple[str, ...]

    @property
    def winner(self) -> Row | None:
        """The row with the best mean validation score, baselines included."""
        return self.rows[0] if self.rows else None

    def as_json(self) -> dict[str, Any]:
        """Everything above as plain values."""

        def plain(statistics: Mapping[str, Statistic | Estimate]) -> dict[str, Any]:
            return {metric: vars(statistic) for metric, statistic in statistics.items()}

        return {
            "objective": self.objective,
            "winner": self.winner.name if self.winner else None,
            "best": self.best,
            "unconfirmed": list(self.unconfirmed),
            "rows": [
                {
                    "name": row.name,
                    "baseline": row.is_baseline,
                    "overrides": row.overrides,
                    "seeds": list(row.seeds),
                    "missing_seeds": list(row.missing_seeds),
                    "images": row.images,
                    "scores": plain(row.scores),
                    f"minus {REAL_ONLY}": plain(row.difference),
                }
                for row in self.rows
            ],
        }


def compare(confirmed: pd.DataFrame, config: Config, chosen: list[str], seeds: list[int]) -> Leaderboard:
    """Compare the confirmed configurations.

    Args:
        confirmed: from `results.confirm_frame`.
        config: of the run: its data set, label fractions and objective.
        chosen: the configurations that were due to be confirmed.
        seeds: the seeds each was due to be trained with.
    """
    scores = {
        name: {int(run.seed): names.renamed(run.metrics, config) for run in runs.itertuples()}
        for name, runs in confirmed.groupby("name")
    }
    rows = []
    for name, runs in confirmed.groupby("name"):
        own = scores[name]
        metrics = list(dict.fromkeys(metric for values in own.values() for metric in values))
        differences = {
            metric: _paired_difference(metric, own, scores.get(REAL_ONLY, {}))
            for metric in metrics
            if name != REAL_ONLY
        }
        statistics = {
            metric: Statistic.of([own[s][metric] for s in sorted(own) if metric in own[s]]) for metric in metrics
        }
        first = runs.iloc[0]
        rows.append(
            Row(
                name=str(name),
                overrides={path: value for path, value in first.overrides.items() if path != "training.seed"},
                seeds=tuple(sorted(own)),
                missing_seeds=tuple(seed for seed in seeds if seed not in own),
                images=int(runs.images.max()),
                scores={metric: value for metric, value in statistics.items() if value},
                difference={metric: value for metric, value in differences.items() if value},
            )
        )
    rows.sort(key=lambda row: (-row.score("score"), not row.is_baseline, row.name))
    columns, differences_shown = _columns(config)
    leads = {"linear": f"val/{names.headline(config)}", "transfer": "val/transfer/mean"}
    best = {
        what: max((row for row in rows if metric in row.scores), key=lambda row: row.score(metric)).name
        for what, metric in leads.items()
        if any(metric in row.scores for row in rows)
    }
    unconfirmed = tuple(name for name in chosen if name not in scores)
    return Leaderboard(tuple(rows), columns, differences_shown, config.search.objective, best, unconfirmed)


def _paired_difference(metric: str, own: _BySeed, others: _BySeed) -> Estimate | None:
    """Over the seeds that both have."""
    shared = sorted(seed for seed in own.keys() & others.keys() if metric in own[seed] and metric in others[seed])
    return mean_difference([own[seed][metric] for seed in shared], [others[seed][metric] for seed in shared])


def winning_trial(board: Leaderboard, trials: pd.DataFrame, config: Config) -> str | None:
    """Which of the search's trials and baselines the winner is; None where it was not among them.

    Args:
        board: of the confirm runs.
        trials: from `results.trials_frame`.
        config: of the run, which is itself confirmed as `joint` and searched as a trial.
    """
    if board.winner is None:
        return None
    if board.winner.name in set(trials.label):
        return board.winner.name
    own = config.with_overrides(board.winner.overrides)
    searched = trials[~trials.baseline]
    same = (row.label for row in searched.itertuples() if config.with_overrides(row.overrides) == own)
    return next(same, None)


def _is_baseline(name: str) -> bool:
    """Whether the search did not find it."""
    return name in (*BASELINES, OWN) or name.startswith(CONTROL)


def _columns(config: Config) -> tuple[dict[str, str], dict[str, str]]:
    """Heading to metric: scores, and differences to the reference."""
    source = config.data.source
    columns = {"validation": "score"}
    for entry in config.evaluation.by_labels[:3]:
        columns[f"linear{names.labels(entry)}"] = f"test/{names.linear(source, entry)}"
    columns["kNN"] = f"test/knn/{source}"
    differences = {"Δ linear": f"test/{names.headline(config)}"}
    if config.evaluation.transfer:
        columns["transfer"] = "test/transfer/mean"
        differences["Δ transfer"] = "test/transfer/mean"
    return columns, differences


def cells(board: Leaderboard) -> list[list[str]]:
    """The table as text, heading first."""
    table = [["", *board.columns, *board.differences, "n"]]
    for row in board.rows:
        scores = [str(row.scores.get(metric, "-")) for metric in board.columns.values()]
        gains = [row.difference.get(metric) for metric in board.differences.values()]
        differences = ["-" if gain is None else gain.signed() for gain in gains]
        if row.name == REAL_ONLY:
            differences = ["reference" for _ in gains]
        table.append([row.name, *scores, *differences, str(len(row.seeds))])
    return table


def verdict(board: Leaderboard) -> list[str]:
    """What the table says, in sentences."""
    winner = board.winner
    if winner is None:
        return ["No configuration has been confirmed on fresh seeds yet, so there is no leaderboard and no winner."]
    sentences = [f"Winner by mean validation score ({board.objective}): {winner.name}."]
    if not all(row.is_baseline for row in board.rows):
        if winner.is_baseline:
            sentences.append(f"No searched curriculum beat the baseline {winner.name} on validation in this run.")
    elif all(map(_is_baseline, board.unconfirmed)):
        sentences.append("No trial but the configuration's own was complete, so no searched curriculum was confirmed.")
    sentences += [f"Best for {what} on validation: {name}." for what, name in board.best.items()]
    for row in board.rows:
        if row.missing_seeds:
            missing = ", ".join(map(str, row.missing_seeds))
            sentences.append(f"{row.name} is missing seeds that did not finish: {missing}.")
    if board.unconfirmed:
        sentences.append(f"Chosen but without any finished seed: {', '.join(board.unconfirmed)}.")
    return sentences
