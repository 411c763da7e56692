"""How figures look, and how they are saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, LIGHT_BLUE, ORANGE = "#0072B2", "#7FB8DA", "#D55E00"
GREEN, PURPLE, GREY = "#009E73", "#AA4499", "#B8B8B8"
ARM_COLORS = {
    "real-only": "#000000",
    "real-four-views": "#777777",
    "frozen-gan": ORANGE,
    "frozen-gan-weak-views": "#E69F00",
    "frozen-gan-adainf": "#B8860B",
    "frozen-gan-then-real": "#882255",
    "hard-only": PURPLE,
    "pairs-only": GREEN,
    "joint": BLUE,
}
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 8}


def describe(axes: Axes, title: str, x: str, y: str) -> None:
    """Title, axis labels and a light grid."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, file: Path) -> None:
    """Write a PNG whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    figure.savefig(temporary, format="png", dpi=130, bbox_inches="tight", pad_inches=0.08)
    os.replace(temporary, file)
