"""The pictures of a finished run; every function returns a Figure and leaves no global state behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D

from synthcl.comparison.arms import REAL_ONLY
from synthcl.comparison.plotting import ARM_COLORS, BLUE, GREEN, GREY, LEGEND, LIGHT_BLUE, ORANGE, PURPLE, describe
from synthcl.config.schema import Config
from synthcl.search.results import best_so_far, is_opponent, pareto_front
from synthcl.search.schedule_curves import schedule_curves
from synthcl.search.settings import reads

_RING: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.2}


def search_progress(trials: pd.DataFrame, winner: str | None = None, spread: float | None = None) -> Figure:
    """Best score so far over the images that all trials together have spent.

    Args:
        trials: from `results.trials_frame`.
        winner: the trial that won on fresh seeds, which is marked.
        spread: standard deviation of one configuration's score over seeds, in points: what a difference is worth.
    """
    figure, axes = _one_panel()
    ended = best_so_far(trials)
    kimg = ended.spent_images / 1000
    complete = ended.state == "complete"
    axes.plot(kimg[complete], ended.score[complete], "o", color=BLUE, markersize=5, label="complete trial")
    axes.step(kimg, ended.best, where="post", color=BLUE, linewidth=1.5, label="highest so far")
    for at, row in zip(kimg[complete], ended[complete].itertuples(), strict=True):
        if row.label == winner:
            axes.plot(
                at, row.score, marker="o", linestyle="none", label=f"winner, {winner}", **_RING | {"color": ORANGE}
            )
        if row.score == row.best:
            beside: dict[str, Any] = {"xytext": (5, 5), "textcoords": "offset points", "fontsize": 7}
            axes.annotate(row.label, (at, row.score), **beside)
    stopped = kimg[~complete]
    at_the_axis: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    axes.plot(stopped, [0.015] * len(stopped), "|", color="#777777", markersize=9, label="stopped early", **at_the_axis)
    beside_them = trials[trials.baseline & (trials.state == "complete")].sort_values("score")
    for arm, rows in beside_them.groupby(beside_them.label.map(_arm_of)):
        best = rows.iloc[-1]
        axes.axhline(best.score, color=ARM_COLORS.get(arm, PURPLE), linestyle="--", linewidth=1, label=best.label)
    if spread and complete.any():
        low, high = axes.get_ylim()
        middle = (low + high) / 2
        at = float(kimg.max()) * 1.06
        label = f"spread over seeds, ±{spread:.2f}"
        axes.errorbar([at], [middle], [spread], color="#777777", linewidth=1.2, capsize=3, label=label)
    axes.set_xlim(left=0)
    axes.margins(y=0.1)
    describe(
        axes, "Scores of the search over images spent", "thousand images spent by all trials", "validation score, %"
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), **LEGEND)
    return figure


def _arm_of(label: str) -> str:
    """The arm of a baseline, or of one of the opponent's runs."""
    return REAL_ONLY if is_opponent(label) else label


def learning_curves(trials: pd.DataFrame, config: Config, winner: str | None = None) -> Figure:
    """One measure at every rung of every trial, and the final scores, another measure, in a panel of their own.

    Args:
        trials: from `results.trials_frame`.
        config: of the run; names the measures.
        winner: the trial that won on fresh seeds, which is highlighted.
    """
    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    axes, final = figure.subplots(1, 2, width_ratios=[5, 1])
    handles: dict[str, Line2D] = {}
    for row in trials.itertuples():
        if not row.curve:
            continue
        name, color, width, line, order = "waits" if row.state == "paused" else "stopped early", GREY, 1.0, "-", 1
        if row.baseline:
            arm = _arm_of(row.label)
            name, color, width, line, order = arm, ARM_COLORS.get(arm, PURPLE), 1.3, "--", 3
        elif row.state == "complete":
            name, color, width, order = "complete trial", LIGHT_BLUE, 1.1, 2
        if row.label == winner:
            name, width, order = f"winner, {row.label}", 2.0, 4
            color = color if row.baseline else BLUE
        style: dict[str, Any] = {"color": color, "zorder": order, "markersize": 3}
        kimg, scores = [images / 1000 for images in row.rungs], list(row.rungs.values())
        handles[name] = axes.plot(kimg, scores, line, linewidth=width, marker="o", **style)[0]
        if row.state == "complete":
            final.plot(0, row.score, marker="D", **style | {"markersize": 5 if row.label == winner else 4})
    early, last = measures(config)
    unit = "score" if config.search.objective == "label_free" else "validation score, %"
    describe(axes, f"At the rungs: {early}", "thousand images", unit)
    describe(final, "At the end", "", "")
    final.set_xlabel(last, fontsize=8)
    final.set_xticks([])
    axes.set_xlim(left=0)
    order_of = sorted(handles, key=lambda name: -handles[name].get_zorder())
    final.legend([handles[name] for name in order_of], order_of, loc="center left", bbox_to_anchor=(1, 0.5), **LEGEND)
    return figure


def measures(config: Config) -> tuple[str, str]:
    """What a score is at the early rungs and at the last one, in words."""
    settings, objective = config.evaluation, config.search.objective
    if objective == "label_free":
        return f"{config.search.label_free}, without labels", f"{config.search.label_free}, without labels"
    labels = min(settings.early_label_images, settings.max_label_images or settings.early_label_images)
    where = {"linear": "", "pareto": "", "transfer": ", other data sets", "weighted": ", with other data sets"}[
        objective
    ]
    count = f"{settings.headline:,.0f}" if settings.headline > 1 else f"{100 * settings.headline:g} %"
    of = count if settings.headline > 1 else f"{count} of the"
    last = f"logistic probe{where},\n{'all' if settings.headline == 1 else of} labels"
    return f"ridge probe{where}, at most {labels:,} labels", last


def schedules(configs: dict[str, Config], beside: dict[str, Config] | None = None) -> Figure:
    """The curriculum of one or more configurations over progress, each where its run reads it.

    A schedule of a single plug-in, such as a loss's temperature, has a panel where it moves in one of them.

    Args:
        configs: by the name in the legend; what none of them reads has no panel.
        beside: more of them, to compare with.
    """
    everyone = configs | (beside or {})
    curves = schedule_curves(configs, beside or {})
    panels = {fill(title, 22): curve for title, curve in curves.items()}
    figure = Figure(figsize=(2.2 * len(panels), 2.4), layout="constrained")
    progress = np.linspace(0, 1, 401)
    colors = dict(zip(everyone, (BLUE, ORANGE, GREEN, PURPLE), strict=False))
    for axes, (title, (field, value)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name, config in everyone.items():
            if reads(config, field):
                line = "--" if beside and name in beside else "-"
                values = [value(config, p) for p in progress]
                axes.plot(progress, values, line, color=colors.get(name, GREY), linewidth=1.6, label=name)
        describe(axes, title, "progress", "")
        low, high = axes.get_ylim()
        axes.set_ylim(min(0.0, low), max(high * 1.08, 1e-9))
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    # The learning rate is the last panel, and every run has one.
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(colors), **LEGEND)
    return figure


def importance(shares: dict[str, float], where: str, count: int) -> Figure:
    """Share of the scores' spread that each searched field explains.

    Args:
        shares: field to share, largest first; where and count: the rung and the number of trials, for the title.
    """
    figure = Figure(figsize=(6.5, 1.2 + 0.28 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    names, values = list(shares), list(shares.values())
    bars = axes.barh(names, values, color=BLUE, height=0.65)
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(values))
    describe(axes, f"Importance of searched fields: score at the {where}, {count} trials", "share of variance", "")
    axes.grid(axis="y", visible=False)
    return figure


def trade_off(trials: pd.DataFrame, confirmed: Mapping[str, tuple[float, float]] | None = None) -> Figure:
    """Linear against transfer score on validation, with the configurations that none beats in both.

    Args:
        trials: from `results.trials_frame`.
        confirmed: linear and transfer score of confirmed configurations, means over fresh seeds; a line leads to each
            from what the search measured.

    Raises:
        ValueError: when no trial has both scores.
    """
    measured = trials.dropna(subset=["linear", "transfer"])
    if measured.empty:
        raise ValueError("no complete trial has a linear and a transfer score")
    figure, axes = _one_panel(width=5.6, height=4)
    front = pareto_front(measured)
    ring = _RING | {"marker": "o"}
    axes.step(front.linear, front.transfer, where="pre", color=GREEN, linewidth=1.2, label="Pareto front", **ring)
    for row in measured.itertuples():
        color, marker = (ARM_COLORS.get(row.label, PURPLE), "s") if row.baseline else (BLUE, "o")
        axes.plot(row.linear, row.transfer, marker, color=color, markersize=6)
    named = measured[measured.baseline | measured.label.isin(front.label)]
    for row in named.itertuples():
        axes.annotate(row.label, (row.linear, row.transfer), xytext=(7, 6), textcoords="offset points", fontsize=8)
    searched = {row.label: (row.linear, row.transfer) for row in measured.itertuples()}
    label: str | None = "confirmed, mean over fresh seeds"
    for name, scores in (confirmed or {}).items():
        if name in searched:
            axes.plot(*zip(searched[name], scores, strict=True), ":", color=GREY, linewidth=1, zorder=1)
        axes.plot(*scores, "D", color=ORANGE, markersize=5, label=label)
        axes.annotate(name, scores, xytext=(7, -10), textcoords="offset points", fontsize=7, color=ORANGE)
        label = None
    axes.margins(0.18)
    describe(axes, "Linear against transfer", "linear probe, validation, %", "transfer probe, validation, %")
    axes.legend(loc="best", **LEGEND)
    return figure


def sample_growth(folder: Path, title: str, rows: int = 6) -> Figure:
    """What G makes of the same latents as training goes on, with G_ema below it.

    Args:
        folder: of one run's sample grids, `<images>.png`.
        title: above the grids.
        rows: at most this many rungs, the first and the last among them.

    Raises:
        ValueError: when there is no grid.
    """
    files = sorted(folder.glob("*.png"))
    if not files:
        raise ValueError(f"there are no samples in {folder.parent.name}/{folder.name}")
    files = [files[i] for i in sorted(set(np.linspace(0, len(files) - 1, min(rows, len(files))).round().astype(int)))]
    grids = [imread(file) for file in files]
    height, width = grids[0].shape[:2]
    panel = 6.0 * height / width
    figure = Figure(figsize=(7.2, 0.45 + (panel + 0.08) * len(files)), layout="constrained")
    for axes, grid, file in zip(figure.subplots(len(files), 1, squeeze=False)[:, 0], grids, files, strict=True):
        axes.imshow(grid, interpolation="nearest", cmap="gray", vmin=0, vmax=1)
        axes.set_xticks([])
        kimg = f"{int(file.stem) / 1000:,.1f} kimg"
        axes.set_yticks([height * 0.25, height * 0.75], [f"{kimg}   G", "G_ema"], fontsize=8)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure


def _one_panel(width: float = 7.2, height: float = 3.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()
