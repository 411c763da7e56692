"""The pictures of a finished run; every function returns a Figure and leaves no global state behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D

from synthcl import curriculum
from synthcl.config import Config
from synthcl.search.records import best_so_far, pareto_front
from synthcl.style import ARM_COLORS, BLUE, GREEN, GREY, LEGEND, LIGHT_BLUE, ORANGE, PURPLE, describe


def search_progress(trials: pd.DataFrame) -> Figure:
    """Best score so far over the images that all trials together have spent.

    Args:
        trials: from `records.trials_frame`.
    """
    figure, axes = _one_panel()
    ended = best_so_far(trials)
    kimg = ended.spent_images / 1000
    complete = ended.state == "complete"
    axes.plot(kimg[complete], ended.score[complete], "o", color=BLUE, markersize=5, label="complete trial")
    axes.step(kimg, ended.best, where="post", color=BLUE, linewidth=1.5, label="best so far")
    stopped = kimg[~complete]
    at_the_axis: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    axes.plot(stopped, [0.015] * len(stopped), "|", color="#777777", markersize=9, label="stopped early", **at_the_axis)
    for row in trials[trials.baseline & (trials.state == "complete")].itertuples():
        color = ARM_COLORS.get(row.label, PURPLE)
        axes.axhline(row.score, color=color, linestyle="--", linewidth=1, label=row.label)
    axes.set_xlim(left=0)
    describe(axes, "Best score over images spent", "thousand images spent by all trials", "validation score, %")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), **LEGEND)
    return figure


def learning_curves(trials: pd.DataFrame) -> Figure:
    """Score at every rung of every trial; trials stopped early in grey, baselines dashed.

    Args:
        trials: from `records.trials_frame`.
    """
    figure, axes = _one_panel()
    handles: dict[str, Line2D] = {}
    finished = trials[(trials.state == "complete") & ~trials.baseline]
    best = finished.sort_values("score", ascending=False, kind="stable").label.head(1).tolist()
    for row in trials.itertuples():
        if not row.curve:
            continue
        kimg, scores = [images / 1000 for images in row.curve], list(row.curve.values())
        name, color, width, line, order = "stopped early", GREY, 1.0, "-", 1
        if row.baseline:
            name, color, width, line, order = row.label, ARM_COLORS.get(row.label, PURPLE), 1.3, "--", 3
        elif row.label in best:
            name, color, width, order = f"best, {row.label}", BLUE, 2.0, 4
        elif row.state == "complete":
            name, color, width, order = "complete trial", LIGHT_BLUE, 1.1, 2
        handles[name] = axes.plot(
            kimg, scores, line, color=color, linewidth=width, zorder=order, marker="o", markersize=3
        )[0]
    x = "thousand images (last rung: logistic probe; before: ridge probe)"
    describe(axes, "Learning curves", x, "validation score, %")
    axes.set_xlim(left=0)
    order_of = sorted(handles, key=lambda name: -handles[name].get_zorder())
    axes.legend([handles[name] for name in order_of], order_of, loc="center left", bbox_to_anchor=(1, 0.5), **LEGEND)
    return figure


def schedules(configs: dict[str, Config]) -> Figure:
    """The curriculum of one or more configurations over progress.

    Args:
        configs: by the name in the legend.
    """
    panels = {
        "hardness": lambda config, p: curriculum.value(config.curriculum.hardness, p),
        "pair half-life, kimg": lambda config, p: curriculum.value(config.curriculum.pair_half_life_kimg, p),
        "synthetic fraction": lambda config, p: curriculum.knobs(config, p).synthetic_fraction,
        "view strength": lambda config, p: curriculum.value(config.curriculum.view_strength, p),
        "learning rate": curriculum.learning_rate,
    }
    figure = Figure(figsize=(11, 2.4), layout="constrained")
    progress = np.linspace(0, 1, 401)
    for axes, (title, value) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for (name, config), color in zip(configs.items(), (BLUE, ORANGE, GREEN, PURPLE), strict=False):
            axes.plot(progress, [value(config, p) for p in progress], color=color, linewidth=1.6, label=name)
        describe(axes, title, "progress", "")
        low, high = axes.get_ylim()
        axes.set_ylim(min(0.0, low), max(high * 1.08, 1e-9))
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(configs), **LEGEND)
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


def trade_off(trials: pd.DataFrame) -> Figure:
    """Linear against transfer score on validation, with the configurations that none beats in both.

    Args:
        trials: from `records.trials_frame`.

    Raises:
        ValueError: when no trial has both scores.
    """
    measured = trials.dropna(subset=["linear", "transfer"])
    if measured.empty:
        raise ValueError("no complete trial has a linear and a transfer score")
    figure, axes = _one_panel(width=5.6, height=4)
    front = pareto_front(measured)
    ring: dict[str, Any] = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.2}
    axes.step(front.linear, front.transfer, where="pre", color=GREEN, linewidth=1.2, label="Pareto front", **ring)
    for row in measured.itertuples():
        color, marker = (ARM_COLORS.get(row.label, PURPLE), "s") if row.baseline else (BLUE, "o")
        axes.plot(row.linear, row.transfer, marker, color=color, markersize=6)
    named = measured[measured.baseline | measured.label.isin(front.label)]
    for row in named.itertuples():
        axes.annotate(row.label, (row.linear, row.transfer), xytext=(7, 6), textcoords="offset points", fontsize=8)
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
