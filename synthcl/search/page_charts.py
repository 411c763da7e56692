"""The charts of a search's page, each as a piece of HTML or a ValueError that says why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from synthcl.comparison.arms import BASELINES, OWN, REAL_ONLY
from synthcl.comparison.intervals import Estimate, paired_difference
from synthcl.comparison.records import Record
from synthcl.core import chart
from synthcl.core.chart import Color, Interval, Series
from synthcl.core.page import prose, table, text
from synthcl.search import leaderboard, lineage, results
from synthcl.search.figures import measures
from synthcl.search.findings import Findings
from synthcl.search.leaderboard import Row, is_real_only
from synthcl.search.schedule_curves import schedule_curves
from synthcl.search.settings import reads

FROZEN = BASELINES[1]
_POINTS = 101
"""of a schedule's line"""


def confirmed(found: Findings) -> str:
    """Scores on test and what the rows differ by, the opponent first."""
    board = found.board
    if not board.rows:
        raise ValueError("no confirm run has ended yet; they train the best configurations anew, on fresh seeds")
    rows = sorted(board.rows, key=lambda row: row.name != board.opponent)
    drawn = []
    for heading, metric in board.differences.items():
        probe = heading.removeprefix("Δ ")
        scores = [_score_row(found, row, metric) for row in rows if metric in row.scores]
        drawn.append(chart.intervals(f"Test scores, {probe} probe", scores, "test score, %"))
        if board.opponent and len(scores) > 1:
            gains = [_gain_row(found, row, metric) for row in rows if row.name != board.opponent]
            drawn.append(chart.intervals(f"Difference to {board.opponent}, {probe} probe", gains, "points", zero=True))
    seeds = ", ".join(map(str, results.confirm_seeds(found.config)))
    return (
        f"<p>Rings are seeds ({seeds}), each with its own images, labels and GAN. Diamonds are means, bars Student's "
        "95 % intervals over seeds; differences are paired by seed. A bar that reaches 0 tells nothing apart.</p>"
        f'<div class="charts">{"".join(drawn)}</div>'
        + table(leaderboard.cells(board), "Confirmed configurations")
        + '<p class="quiet">Percent, mean ± sample standard deviation over n seeds; rows by validation score, the '
        "others are test scores. Seconds are the wall time of a run, scoring included. FLOP: floating-point operations "
        "of a run's training, and of the warm-up of its GAN.</p>"
    )


def _score_row(found: Findings, row: Row, metric: str) -> Interval:
    values = {record.seed: record.metrics[metric] for record in _records(found, row, metric)}
    mean = paired_difference([*values.values()], [0.0] * len(values))  # of one series: the mean with its interval
    assert mean is not None
    dots = [(value, f"{row.name}, seed {seed}\n{value:.2f} %") for seed, value in values.items()]
    said = f"{row.name}\n{_bracketed(mean, '')} %, {_seeds(mean.n)}"
    name = f"{row.name} (best real-only)" if row.name == found.board.opponent else row.name
    return Interval(name, mean.value, mean.low, mean.high, said, dots, _color(found, row.name))


def _gain_row(found: Findings, row: Row, metric: str) -> Interval:
    opponent = next(each for each in found.board.rows if each.name == found.board.opponent)
    theirs = {record.seed: record.metrics[metric] for record in _records(found, opponent, metric)}
    own = {record.seed: record.metrics[metric] for record in _records(found, row, metric)}
    gain = row.difference.get(metric)
    if gain is None:
        return Interval(f"{row.name}: no seed in common", None)
    both = [(seed, own[seed] - theirs[seed]) for seed in own if seed in theirs]
    dots = [(points, f"{row.name}, seed {seed}\n{points:+.2f} points") for seed, points in both]
    said = f"{row.name}\n{_bracketed(gain, '+')} points, {_seeds(gain.n)}"
    return Interval(row.name, gain.value, gain.low, gain.high, said, dots, _color(found, row.name))


def _records(found: Findings, row: Row, metric: str) -> Iterator[Record]:
    return (record for record in found.confirmed if record.arm == row.name and metric in record.metrics)


def progress(found: Findings) -> str:
    """Best score so far over the images spent, and the learning curves."""
    trials, winner = found.trials, found.winning_trial
    if not any(trials.curve):
        raise ValueError("no run has been scored yet")
    early, last = (measure.replace("\n", " ") for measure in measures(found.config))
    drawn = []
    if (ended := results.best_so_far(trials)).state.eq("complete").any():
        drawn.append(_best_so_far(trials, ended, winner))
    drawn.append(_learning_curves(trials, winner))
    left = "" if len(drawn) == 2 else " No trial has seen its whole budget yet, so there is no best so far."
    spread = found.spread
    worth = f" From seed to seed a score moves by ±{spread:.2f} points." if spread else ""
    return (
        f"<p>Scores on validation. At the rungs it is one measure ({text(early)}), at the end another ({text(last)}), "
        f"so the two charts do not compare.{worth}{left}</p>" + f'<div class="charts">{"".join(drawn)}</div>'
    )


def _best_so_far(trials: pd.DataFrame, ended: pd.DataFrame, winner: str | None) -> str:
    complete = ended[ended.state == "complete"]
    series = []
    end = float(ended.spent_images.max()) / 1000
    beside = trials[trials.baseline & (trials.state == "complete")].sort_values("score")
    kinds = beside.label.map(lambda name: REAL_ONLY if results.is_opponent(name) else name)
    for kind, rows in beside.groupby(kinds):
        best = rows.iloc[-1]
        says = f"{best.label}\n{best.score:.2f} %"
        level = [(0.0, best.score), (end, best.score)]
        name = f"best of {kind}" if len(rows) > 1 else str(best.label)
        color: Color = "orange" if kind == FROZEN else "ink"
        series.append(Series(says, level, color, "", dashed=True, legend=name))
    climbs = [(x / 1000, y) for x, y in zip(ended.spent_images, ended.best, strict=True) if not math.isnan(y)]
    climbs += [(end, climbs[-1][1])]
    series.append(Series("highest so far", climbs, "soft", "", line="steps", legend="highest so far"))
    for name, rows, color in (
        ("complete trial", complete[complete.label != winner], "soft"),
        (f"winner, {winner}", complete[complete.label == winner], "blue"),
    ):
        points = [(row.spent_images / 1000, row.score) for row in rows.itertuples()]
        tips = [
            f"{row.label}\n{row.score:.2f} % at the end\nafter {row.spent_images:,.0f} images of all trials"
            for row in rows.itertuples()
        ]
        if points:
            series.append(Series(name, points, color, line="", tips=tips, legend=name))
    return chart.lines(
        "Best score over images spent", series, "thousand images, all trials", "final score on validation, %", x_from=0
    )


def _learning_curves(trials: pd.DataFrame, winner: str | None) -> str:
    order: dict[str, tuple[int, dict[str, Any]]] = {
        "stopped early": (0, {"color": "grey"}),
        "waits": (1, {"color": "grey", "dashed": True}),
        "trains": (2, {"color": "purple"}),
        "complete trial": (3, {"color": "soft"}),
        FROZEN: (4, {"color": "orange", "dashed": True}),
        REAL_ONLY: (5, {"color": "ink", "dashed": True}),
    }
    drawn = []
    for row in trials.itertuples():
        if not row.rungs:
            continue
        kind = {"paused": "waits", "running": "trains", "complete": "complete trial"}.get(row.state, "stopped early")
        if row.baseline:
            kind = REAL_ONLY if is_real_only(row.label) else FROZEN
        place, look = order[kind]
        if row.label == winner:
            place, look, kind = 6, {**look, "color": "blue", "wide": True}, f"winner, {winner}"
        points = [(images / 1000, score) for images, score in row.rungs.items()]
        tips = [f"{row.label} ({row.state})\n{images:,} images\n{score:.2f} %" for images, score in row.rungs.items()]
        name = f"{row.label} ({row.state})"
        drawn.append((place, Series(name, points, tips=tips, legend=kind, **look)))
    series = [one for _, one in sorted(drawn, key=lambda pair: pair[0])]
    return chart.lines("Learning curves", series, "thousand images", "score at the rungs, %", x_from=0)


def schedules(found: Findings) -> str:
    """The curricula of the winner and of the configuration itself over progress."""
    if not found.schedules:
        raise ValueError("no trial is complete")
    everyone = found.schedules | found.beside
    colors: dict[str, Color] = dict(zip(everyone, ("blue", "green", "orange"), strict=False))
    drawn = []
    for title, (path, value) in schedule_curves(found.schedules, found.beside).items():
        series = []
        for name, config in everyone.items():
            if not reads(config, path):
                continue
            line = [(float(at), float(value(config, float(at)))) for at in np.linspace(0, 1, _POINTS)]
            if any(math.isnan(y) for _, y in line):
                continue
            said = f"{name}\n{line[0][1]:.3g} at the beginning, {line[-1][1]:.3g} at the end"
            look: dict[str, Any] = {"dashed": name in found.beside, "wide": name not in found.beside}
            series.append(Series(said, _corners(line), colors[name], "", legend=name, **look))
        drawn.append(chart.lines(title, series, "progress of the run", "", y_from=0))
    return f'<div class="charts small">{"".join(drawn)}</div>'


def _corners(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without the points that lie between two of the same value."""
    inner = zip(line, line[1:], line[2:], strict=False)
    return [line[0], *(point for before, point, after in inner if len({before[1], point[1], after[1]}) > 1), line[-1]]


def importances(found: Findings) -> str:
    """What the searched fields explain of the scores' spread."""
    shares, where, count = results.importances(found.study)
    bars = chart.bars("Importance of searched fields", [*shares.items()], "share of the variance of scores")
    return (
        f"<p>They rest on {count} trials, by their score at the {where} (functional ANOVA). Fields that exist only "
        f"under a condition are not rated.</p>{bars}"
    )


def trade_off(found: Findings) -> str:
    """Linear against transfer score, with what none beats in both."""
    measured = found.trials.dropna(subset=["linear", "transfer"])
    if measured.empty:
        raise ValueError("no complete trial has a linear and a transfer score")
    front = results.pareto_front(measured)
    points = [(row.linear, row.transfer) for row in front.itertuples()]
    series = [Series("Pareto front", points, "green", "", "stairs", legend="Pareto front")]
    kinds = {REAL_ONLY: ("ink", measured.baseline), "trial": ("soft", ~measured.baseline)}
    for name, (color, which) in kinds.items():
        rows = [*measured[which].itertuples()]
        at = [(row.linear, row.transfer) for row in rows]
        tips = [_both(row.label, row.linear, row.transfer) for row in rows]
        series.append(Series(name, at, color, line="", tips=tips, legend=name))  # type: ignore[arg-type]
    again = found.trade_offs
    tips = [f"{_both(name, *scores)}\nconfirmed, mean over seeds" for name, scores in again.items()]
    series.append(Series("confirmed", [*again.values()], "orange", "diamond", "", tips=tips, legend="confirmed"))
    two = found.config.search.objective == "pareto"
    said = "The search ranks by both." if two else "The search does not rank by both; this is what it met on its way."
    said += " Validation scores; no trial is above and to the right of the front."
    shown = [one for one in series if one.points]
    return f"<p>{said}</p>" + chart.lines("Linear against transfer", shown, "linear probe, %", "transfer probe, %")


def _both(name: str, linear: float, transfer: float) -> str:
    return f"{name}\nlinear {linear:.2f} %, transfer {transfer:.2f} %"


def lineages(found: Findings) -> str:
    """Who copied whom, and when."""
    members = found.lineages
    assert members is not None
    numbers = {row.member: place for place, row in enumerate(members.itertuples())}
    ends = {row.replaced: row.progress for row in members.itertuples() if row.replaced}
    series = []
    for row in members.itertuples():
        own, end = numbers[row.member], ends.get(row.member, 1.0)
        points = [(row.progress, own), (end, own)]
        said = row.member
        if row.copied in numbers:
            points.insert(0, (row.progress, numbers[row.copied]))
            said += f"\ncopies {row.copied} at progress {row.progress:.2f}, in place of {row.replaced}"
        kind = "copy" if row.copied else "began with the search"
        series.append(Series(said, points, "blue" if row.copied else "grey", "", legend=kind))
    drawn = chart.lines("Lineage", series, "progress of the run", "member, in the order they began") if series else ""
    return f"<p>{prose(lineage.EXPLAINED)}</p>{drawn}" + table(lineage.cells(members), "Lineages", (1, 2))


def _color(found: Findings, name: str) -> Color:
    winner = found.board.winner
    if winner and name == winner.name:
        return "blue"
    if is_real_only(name):
        return "ink"
    return {FROZEN: "orange", OWN: "green"}.get(name, "soft")  # type: ignore[return-value]


def _bracketed(estimate: Estimate, sign: str) -> str:
    brackets = "" if estimate.low is None else f" [{estimate.low:{sign}.2f}, {estimate.high:{sign}.2f}]"
    return f"{estimate.value:{sign}.2f}{brackets}"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count > 1)}"
