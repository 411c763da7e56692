"""The pictures of a comparison; every function returns a Figure and leaves no global state behind."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthcl.comparison.arms import REAL_ONLY
from synthcl.comparison.plotting import ARM_COLORS, LEGEND, LIGHT_BLUE, describe
from synthcl.comparison.table import Evidence, Row, SplitPrefix

SHOWN = {"val": "validation", "test": "test"}


def scores_over_images(evidence: Evidence, split: SplitPrefix) -> Figure | None:
    """Score of every arm over its number of images, mean and standard deviation, one panel a column.

    Returns:
        None where nothing was scored.
    """
    rows = evidence.rows[split]
    columns = [column for column in evidence.columns if any(column in row.scores for row in rows)]
    if not columns:
        return None
    across = min(3, len(columns))
    down = math.ceil(len(columns) / across)
    figure = Figure(figsize=(3.4 * across, 0.5 + 2.6 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flat
    arms = list(dict.fromkeys(row.arm for row in rows))
    counts = sorted({row.images for row in rows})
    for axes, column in zip(panels, columns, strict=False):
        for place, arm in enumerate(arms):
            own = [row for row in rows if row.arm == arm and column in row.scores]
            beside = 1.02 ** (place - (len(arms) - 1) / 2)  # bars of one number of images do not hide each other
            axes.errorbar(
                [row.images * beside for row in own],
                [row.scores[column].mean for row in own],
                [row.scores[column].std or 0.0 for row in own],
                label=arm,
                color=_color(arm),
                linewidth=1.4,
                marker="o",
                markersize=4,
                capsize=2,
            )
        oracle = next((row for row in rows if row.cell == evidence.oracle), None)
        if oracle and column in oracle.scores and len(counts) > 1:
            axes.axhline(
                oracle.scores[column].mean, color=_color(REAL_ONLY), linestyle=":", linewidth=1, label="oracle"
            )
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.set_xticks([], minor=True)
        describe(axes, column, "unlabelled images", f"{SHOWN[split]} score, %")
    for axes in list(figure.axes)[len(columns) :]:
        axes.remove()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), **LEGEND)
    return figure


def recovered_fractions(evidence: Evidence, split: SplitPrefix) -> Figure | None:
    """Recovered fraction of every arm, with its interval: a group of bars a number of images, one panel a column.

    Returns:
        None where the oracle leaves nothing to recover.
    """
    rows = [row for row in evidence.rows[split] if row.recovered]
    columns = [column for column in evidence.columns if any(column in row.recovered for row in rows)]
    if not columns:
        return None
    figure = Figure(figsize=(3.0 * len(columns), 0.7 + 0.24 * len(rows) + 0.5), layout="constrained")
    names = [f"{row.arm}, {row.images:,}" for row in rows]
    panels = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for axes, column in zip(panels, columns, strict=True):
        for place, row in enumerate(rows):
            _bar(axes, place, row, column)
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.axvline(0, color="#000000", linewidth=0.8)
        axes.axvline(1, color="#000000", linewidth=0.8, linestyle=":")
        describe(axes, column, "share of the oracle's gain", "")
        axes.grid(axis="y", visible=False)
    figure.suptitle(f"Recovered fraction on {SHOWN[split]}; the dotted line is the oracle", fontsize=10)
    return figure


def _bar(axes: Axes, place: int, row: Row, column: str) -> None:
    share = row.recovered.get(column)
    if share is None:
        return
    axes.barh(place, share.value, color=_color(row.arm), height=0.65)
    if share.low is not None and share.high is not None:
        axes.plot([share.low, share.high], [place, place], color="#444444", linewidth=1.3)


def _color(arm: str) -> str:
    return ARM_COLORS.get(arm, LIGHT_BLUE)
