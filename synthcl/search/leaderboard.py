"""The comparison of the confirmed configurations: mean and spread over seeds, paired differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from statistics import fmean
from typing import Any

import pandas as pd

from synthcl.comparison.arms import BASELINES, CONTROL, EQUAL_TIME, OWN, REAL_ONLY
from synthcl.comparison.intervals import Estimate, Statistic
from synthcl.comparison.records import Record
from synthcl.comparison.references import NOT_TRAINED
from synthcl.comparison.table import Cell, Scores, columns_of
from synthcl.config.schema import Config
from synthcl.core.tables import filled
from synthcl.evaluation import names
from synthcl.search import results
from synthcl.search.verdict import judged, probe_of, sorted_by
from synthcl.training.flops import shown


@dataclass(frozen=True)
class Row:
    """One configuration, retrained on fresh seeds."""

    name: str
    overrides: dict[str, Any]
    seeds: tuple[int, ...]
    missing_seeds: tuple[int, ...]
    images: int
    seconds: float
    """wall time of a run, scoring included, mean over seeds"""
    flops: dict[str, float | None]
    """floating-point operations of a run: `train`, and `warm-up` of its GAN; none where no record has them"""
    scores: dict[str, Statistic]
    difference: dict[str, Estimate]
    """to the best real-only found, over the seeds that both have"""

    @property
    def is_baseline(self) -> bool:
        return _is_baseline(self.name)

    @property
    def is_real_only(self) -> bool:
        return is_real_only(self.name)

    def score(self, metric: str) -> float:
        return self.scores[metric].mean if metric in self.scores else nan

    def as_json(self) -> dict[str, Any]:
        """Everything above as plain values."""

        def plain(statistics: Mapping[str, Statistic | Estimate]) -> dict[str, Any]:
            return {metric: vars(statistic) for metric, statistic in statistics.items()}

        return {
            "name": self.name,
            "baseline": self.is_baseline,
            "overrides": self.overrides,
            "seeds": list(self.seeds),
            "missing_seeds": list(self.missing_seeds),
            "images": self.images,
            "seconds": self.seconds,
            "flops": self.flops,
            "scores": plain(self.scores),
            "minus opponent": plain(self.difference),
        }


@dataclass(frozen=True)
class Leaderboard:
    """The rows, best mean validation score first; `best` names a row by what it leads in, on validation."""

    rows: tuple[Row, ...]
    columns: dict[str, str]
    differences: dict[str, str]
    objective: str
    best: dict[str, str]
    unconfirmed: tuple[str, ...]
    headline: str
    """the metric that the verdict is about"""
    opponent: str | None
    """the real-only row with the best mean validation score, which others are compared with"""
    equal_time: Estimate | None = None
    """what the contender gains over real-only in equal time, by the headline metric"""
    roles: Mapping[str, str] = field(default_factory=dict)
    """of two objectives: what a row is on the front of its side, such as `knee`"""
    transfer: tuple[str, str, Estimate | None] | None = None
    """of two objectives: the best rows of method and real-only by validation transfer, and their difference on test"""
    notes: tuple[str, ...] = ()  # more sentences of the verdict
    references: tuple[Row, ...] = ()
    """networks that are not trained here, which no verdict is about"""

    @property
    def contender(self) -> Row | None:
        """The row of the method with the best mean validation score: a trial, or the configuration's own."""
        return next((row for row in self.rows if not row.is_real_only and row.name not in BASELINES), None)

    @property
    def winner(self) -> Row | None:
        """The row with the best mean validation score, baselines included; one of more steps is none of them."""
        return next((row for row in self.rows if row.name != EQUAL_TIME), None)

    def as_json(self) -> dict[str, Any]:
        """Everything above as plain values."""
        return {
            "objective": self.objective,
            "winner": self.winner.name if self.winner else None,
            "opponent": self.opponent,
            "verdict": verdict(self)[0],
            "front": dict(self.roles),
            "best": self.best,
            "minus equal time": vars(self.equal_time) if self.equal_time else None,
            "unconfirmed": list(self.unconfirmed),
            "rows": [row.as_json() for row in self.rows],
            "not trained here": [row.as_json() for row in self.references],
        }


def compare(
    confirmed: list[Record],
    config: Config,
    chosen: list[str],
    seeds: list[int],
    roles: Mapping[str, str] | None = None,
    references: Sequence[Record] = (),
) -> Leaderboard:
    """Compare the confirmed configurations.

    Args:
        confirmed: from `results.confirm_records`.
        config: of the run: its data set, label fractions and objective.
        chosen: the configurations that were due to be confirmed.
        seeds: the seeds each was due to be trained with.
        roles: from `results.front_roles`.
        references: records of networks that are not trained here.
    """
    scores = Scores(confirmed, lambda run: run.metrics)
    runs: dict[str, list[Record]] = {}
    for record in confirmed:
        runs.setdefault(record.arm, []).append(record)
    cells = {name: (name, own[0].images) for name, own in runs.items()}
    statistics = {name: scores.statistics(cell) for name, cell in cells.items()}
    real = [name for name in runs if is_real_only(name) and name != EQUAL_TIME]
    opponent = max(real, key=lambda name: statistics[name]["score"].mean, default=None)
    over = cells.get(opponent or "")
    rows = [_row(own, scores, None if name == opponent else over, seeds) for name, own in runs.items()]
    rows.sort(key=lambda row: (-row.score("score"), not row.is_baseline, row.name))
    equal = [row for row in rows if row.name != EQUAL_TIME]
    labelled = not rows or any(f"test/{names.headline(config)}" in row.scores for row in rows)
    headline = f"test/{names.headline(config)}" if labelled else "test/transfer/mean"
    columns, differences_shown = _columns(config, labelled)
    leads = {"linear": f"val/{names.headline(config)}", "transfer": "val/transfer/mean"}
    best = {
        what: max((row for row in equal if metric in row.scores), key=lambda row: row.score(metric)).name
        for what, metric in leads.items()
        if any(metric in row.scores for row in equal)
    }
    unconfirmed = tuple(name for name in chosen if name not in runs)
    objective = config.search.objective
    board = Leaderboard(tuple(rows), columns, differences_shown, objective, best, unconfirmed, headline, opponent)
    timed = (
        scores.gains(cells[board.contender.name], cells[EQUAL_TIME]) if board.contender and EQUAL_TIME in runs else {}
    )
    transfer = _on_transfer(equal, scores, cells) if objective == "pareto" else None
    frozen = _frozen(references, [record for record in confirmed if record.arm == opponent], seeds)
    return replace(board, equal_time=timed.get(headline), roles=roles or {}, transfer=transfer, references=frozen)


def _row(own: Sequence[Record], scores: Scores, over: Cell | None, seeds: Sequence[int]) -> Row:
    """One configuration's row, from its records; `over` is what it is compared with."""
    cell = own[0].arm, own[0].images
    return Row(
        name=own[0].arm,
        overrides={path: value for path, value in own[0].overrides.items() if path not in results.OF_A_SEED},
        seeds=tuple(record.seed for record in own),
        missing_seeds=tuple(sorted({*seeds} - {record.seed for record in own})),
        images=own[0].images_seen,
        seconds=fmean(sum(record.seconds.values()) for record in own),
        flops=next((record.flops for record in own if record.flops), {}),
        scores=scores.statistics(cell),
        difference=scores.gains(cell, over) if over else {},
    )


def _frozen(references: Sequence[Record], opponent: Sequence[Record], seeds: Sequence[int]) -> tuple[Row, ...]:
    """Rows of networks that are not trained here, with their differences to the opponent."""
    frozen = [record.model_copy(update={"arm": f"{record.arm} ({NOT_TRAINED})"}) for record in references]
    scores = Scores([*frozen, *opponent], lambda run: run.metrics)
    over = next(((record.arm, record.images) for record in opponent), None)
    names = dict.fromkeys(record.arm for record in frozen)
    return tuple(_row([record for record in frozen if record.arm == name], scores, over, seeds) for name in names)


def _on_transfer(
    rows: Sequence[Row], scores: Scores, cells: Mapping[str, Cell]
) -> tuple[str, str, Estimate | None] | None:
    """The best rows of either side by validation transfer, and their paired difference on test."""
    metric = "val/transfer/mean"
    measured = [row for row in rows if metric in row.scores]
    mine = [row for row in measured if not row.is_real_only and row.name not in BASELINES]
    others = [row for row in measured if row.is_real_only]
    if not mine or not others:
        return None
    contender, opponent = (max(side, key=lambda row: row.score(metric)).name for side in (mine, others))
    return contender, opponent, scores.gains(cells[contender], cells[opponent]).get("test/transfer/mean")


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
    return name in (*BASELINES, OWN) or is_real_only(name)


def is_real_only(name: str) -> bool:
    """Whether a row is of real images alone: the configuration's own, a tuned one, or a control of earlier versions."""
    return name == REAL_ONLY or results.is_opponent(name) or name.startswith(CONTROL)


def _columns(config: Config, labelled: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Heading to metric: scores, and differences to the reference; without labels of the data set, transfer alone."""
    every = columns_of(config.evaluation, config.data.source)
    shown = {heading: f"test/{metric}" for heading, metric in every.items() if labelled or heading == "transfer"}
    differences = {"Δ linear": f"test/{names.headline(config)}"} if labelled else {}
    if "transfer" in shown:
        differences["Δ transfer"] = shown["transfer"]
    return {"validation": "score", **shown}, differences


def cells(board: Leaderboard) -> list[list[str]]:
    """The table as text, heading first."""
    rows = []
    for row in (*board.rows, *board.references):
        values: dict[str, Any] = {heading: row.scores.get(metric) for heading, metric in board.columns.items()}
        for heading, metric in board.differences.items():
            values[heading] = "reference" if row.name == board.opponent else row.difference.get(metric)
        values |= {"n": str(len(row.seeds)), "seconds": f"{row.seconds:.0f}"}
        values |= {"FLOP": shown(row.flops.get("train")), "GAN's FLOP": shown(row.flops.get("warm-up"))}
        role = f" ({board.roles[row.name]})" if row.name in board.roles else ""
        rows.append(([row.name + role], values))
    return filled([""], [*board.columns, *board.differences, "n", "seconds", "FLOP", "GAN's FLOP"], rows)


def _against_the_opponent(board: Leaderboard) -> str:
    """Whether the generator pays, by how much, and how sure that is."""
    contender, opponent = board.contender, board.opponent
    if contender is None or opponent is None:
        return "No verdict: of method and real-only, one has not been confirmed."
    return judged(contender.name, opponent, contender.difference.get(board.headline), probe_of(board.headline))


def verdict(board: Leaderboard) -> list[str]:
    """What the table says, in sentences."""
    winner = board.winner
    if winner is None:
        return ["No configuration has been confirmed on fresh seeds yet, so there is no leaderboard and no winner."]
    sentences = [_against_the_opponent(board)]
    if board.equal_time is not None and board.contender is not None:
        sentences.append(
            f"In equal time: {board.contender.name} minus {EQUAL_TIME} {board.equal_time} points on test "
            f"(linear, {board.equal_time.n} seed{'s' * (board.equal_time.n > 1)})."
        )
    if board.transfer:
        sentences.append(judged(*board.transfer, "transfer"))
    sentences.append(f"Winner by mean validation score ({sorted_by(board.objective)}): {winner.name}.")
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
    return [*sentences, *board.notes]
